//! The runner's main loop: commands in, events out.

use std::{fs::File, io, os::fd::OwnedFd, process::ExitCode, sync::Arc, time::Duration};

use shared::{ReleaseId, challenger::Terms, device::Hardening};
use tokio::{net::UnixStream, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    EXIT_REPLACE, EXIT_STUCK, capture,
    challenge::{feed::feed, trials::try_samples},
    channel::{self, Receiver, Sender},
    hangs::{self, Hang},
    load::{self, Life},
    memory,
    models::Models,
    protocol::{Command, Event, LoadRequest},
    reporter,
};
use crate::{
    sandbox::{self, Role},
    serving,
};

/// Events under way to the daemon; when it is slow, figures add up instead.
const QUEUE: usize = 64;

/// Requests under way at a shutdown get this long.
const DRAIN: Duration = Duration::from_secs(5);

/// The same while one model has no thread left: other models answer, and its own callers would only wait.
const DRAIN_STUCK: Duration = Duration::from_millis(300);

/// The last figures get this long to reach the daemon.
const FLUSH: Duration = Duration::from_secs(1);

/// Threads for connections; inference has its own.
const IO_THREADS: usize = 2;

/// The last in the line for processor time.
const LOWEST_PRIORITY: i32 = 19;

/// Runs the runner for the daemon at the other end of the standard input.
#[must_use]
pub fn main() -> ExitCode {
    run(Role::Runner)
}

/// The same for a challenger, which nobody calls: it takes processor time that nothing else wants.
#[must_use]
pub fn challenger_main() -> ExitCode {
    // Absolute: an agent that was started with a priority of its own hands it down.
    if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
        tracing::warn!(%error, "the challenger shares the processor as an equal");
    }
    run(Role::Challenger)
}

fn run(role: Role) -> ExitCode {
    // Before the runtime, whose threads inherit it.
    let hardening = sandbox::enter(role);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(IO_THREADS).enable_all().build();
    let served = runtime.and_then(|runtime| {
        let served = runtime.block_on(Runner::serve(hardening));
        // A load that hangs must not hold up the end of the process.
        runtime.shutdown_background();
        served
    });
    served.unwrap_or_else(|error| {
        tracing::error!(%error, "the runner ended");
        ExitCode::FAILURE
    })
}

struct Runner {
    models: Arc<Models>,
    events: mpsc::Sender<Event>,
    /// Accept no further callers.
    stop: CancellationToken,
    /// Tell what is queued and no more.
    ending: CancellationToken,
    servers: Vec<JoinHandle<()>>,
}

impl Runner {
    async fn serve(hardening: Hardening) -> io::Result<ExitCode> {
        let (sender, mut receiver) = channel::from_stdin()?;
        let (events, outbox) = mpsc::channel(QUEUE);
        let ending = CancellationToken::new();
        let writer = tokio::spawn(write(sender, outbox, ending.clone()));
        let models = Arc::new(Models::new());
        tokio::spawn(reporter::report(Arc::clone(&models), events.clone()));
        let (captured, told) = (Arc::clone(&models), events.clone());
        tokio::spawn(async move { capture::tell(&captured.captures, &told).await });
        tokio::spawn(memory::watch(Arc::clone(&models), events.clone()));
        tokio::spawn(hangs::tell(Arc::clone(&models), events.clone()));
        let stop = CancellationToken::new();
        let mut runner = Self { models, events, stop, ending, servers: Vec::new() };
        runner.tell(Event::LockedIn(hardening)).await;
        let hangs = Arc::clone(&runner.models.hangs);
        let (code, drain) = tokio::select! {
            obeyed = runner.obey(&mut receiver) => (obeyed.map(|()| ExitCode::SUCCESS)?, DRAIN),
            exhausted = hangs.exhausted() => {
                runner.tell_hung(exhausted.cloned()).await;
                (ExitCode::from(EXIT_STUCK), DRAIN_STUCK)
            }
            () = hangs.abandoned() => (ExitCode::from(EXIT_REPLACE), DRAIN),
        };
        runner.end(writer, drain).await;
        Ok(code)
    }

    /// Obeys until a shutdown, or until the daemon is gone.
    async fn obey(&mut self, receiver: &mut Receiver) -> io::Result<()> {
        while let Some((command, files)) = receiver.recv::<Command>().await? {
            match command {
                Command::Listeners { tcp, unix } => self.listen(tcp, unix, files).await?,
                Command::Load(request) => self.load(*request, files),
                Command::Switch { release } => {
                    let event = if self.models.switch(&release) {
                        Event::Switched { release }
                    } else {
                        Event::SwitchFailed { release, detail: "it is not loaded".into() }
                    };
                    self.tell(event).await;
                }
                Command::Unload { release } => {
                    // Otherwise it is told when the last request is answered.
                    if self.models.remove(&release) {
                        self.models.hangs.taken_out(&release);
                    } else {
                        self.tell(Event::Unloaded { release }).await;
                    }
                }
                Command::Challenge { challenger, terms } => self.challenge(challenger, terms, files),
                Command::TrySamples { release } => self.try_samples(release, files),
                Command::Ping => self.tell(Event::Alive).await,
                Command::Shutdown => return Ok(()),
            }
        }
        Ok(())
    }

    async fn listen(&mut self, tcp: bool, unix: bool, files: Vec<OwnedFd>) -> io::Result<()> {
        if files.len() != usize::from(tcp) + usize::from(unix) {
            return Err(io::Error::other("the listeners do not match their descriptors"));
        }
        let mut files = files.into_iter();
        if tcp && let Some(file) = files.next() {
            self.listen_tcp(file)?;
        }
        if let Some(file) = files.next() {
            self.listen_unix(file)?;
        }
        self.tell(Event::Ready).await;
        Ok(())
    }

    fn listen_tcp(&mut self, file: OwnedFd) -> io::Result<()> {
        let listener = std::net::TcpListener::from(file);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = serving::router(Arc::clone(&self.models));
        self.servers.push(serving::spawn(listener, router, self.stop.clone()));
        Ok(())
    }

    fn listen_unix(&mut self, file: OwnedFd) -> io::Result<()> {
        let listener = std::os::unix::net::UnixListener::from(file);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let router = serving::router(Arc::clone(&self.models));
        self.servers.push(serving::spawn(listener, router, self.stop.clone()));
        Ok(())
    }

    fn load(&self, request: LoadRequest, files: Vec<OwnedFd>) {
        let (models, events) = (Arc::clone(&self.models), self.events.clone());
        let dropped = Arc::clone(&models);
        tokio::spawn(async move {
            let release = request.release.clone();
            let Some(file) = files.into_iter().next().map(File::from) else {
                let detail = "no model file came with the command".into();
                let _ = events.send(Event::LoadFailed { release, detail }).await;
                return;
            };
            let loaded = tokio::task::spawn_blocking(move || load::load(&models, &request, &file)).await;
            let (event, life) = loaded.unwrap_or_else(|error| {
                (Event::LoadFailed { release: release.clone(), detail: error.to_string() }, None)
            });
            // Nobody listens when the daemon is gone, and then this process ends.
            let _ = events.send(event).await;
            if let Some(Life { gone, capture }) = life {
                let _ = gone.await;
                dropped.memory.forget(&release);
                if let Some(capture) = capture {
                    capture::tell_gone(&dropped.captures, capture, &events).await;
                }
                let _ = events.send(Event::Unloaded { release }).await;
            }
        });
    }

    /// A challenger of a model that is not here gets nothing: its end of the socket closes.
    fn challenge(&self, challenger: ReleaseId, terms: Terms, files: Vec<OwnedFd>) {
        let Some(stream) = stream_of(files) else { return };
        let Some(model) = self.models.get(&challenger.model) else { return };
        let (books, flights) = (Arc::clone(&self.models.books), Arc::clone(&self.models.flights));
        let (feed, feeder) = feed(challenger, terms, books, flights);
        let feed = Arc::new(feed);
        let (place, this) = (Arc::downgrade(&model), Arc::downgrade(&feed));
        // The feed that was there ends with its queue.
        model.feed.store(Some(feed));
        tokio::spawn(async move {
            feeder.run(stream).await;
            // Unless another has taken its place.
            if let (Some(model), Some(ended)) = (place.upgrade(), this.upgrade()) {
                model.feed.compare_and_swap(&Some(ended), None);
            }
        });
    }

    fn try_samples(&self, release: ReleaseId, files: Vec<OwnedFd>) {
        let Some(stream) = stream_of(files) else { return };
        let models = Arc::clone(&self.models);
        tokio::spawn(async move {
            if let Err(error) = try_samples(models, release, stream).await {
                tracing::warn!(%error, "no more samples can be read");
            }
        });
    }

    async fn tell_hung(&self, exhausted: Option<Hang>) {
        let Some((release, threads)) = exhausted else { return };
        let told = hangs::tell_one(&self.models, &self.events, release, threads);
        if timeout(FLUSH, told).await.is_err() {
            tracing::warn!("the daemon did not hear of the hang");
        }
    }

    async fn tell(&self, event: Event) {
        // Nobody listens when the daemon is gone, and then this process ends.
        let _ = self.events.send(event).await;
    }

    /// Answers what was accepted if anything can still be answered, and tells the last figures.
    async fn end(self, writer: JoinHandle<()>, drain: Duration) {
        self.stop.cancel();
        let drained = async {
            for server in self.servers {
                let _ = server.await;
            }
        };
        if timeout(drain, drained).await.is_err() {
            tracing::warn!("requests were still under way at the end");
        }
        let flush = async {
            reporter::flush(&self.models, &self.events).await;
            capture::finish(&self.models.captures, &self.events).await;
            self.ending.cancel();
            let _ = writer.await;
        };
        if timeout(FLUSH, flush).await.is_err() {
            tracing::warn!("the daemon did not take the last figures");
        }
    }
}

/// The socket that came with a command.
fn stream_of(files: Vec<OwnedFd>) -> Option<UnixStream> {
    let file = files.into_iter().next()?;
    let stream = std::os::unix::net::UnixStream::from(file);
    let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
    stream.map_err(|error| tracing::warn!(%error, "the socket of a challenger cannot be used")).ok()
}

/// Sends events until there are none and the process is ending.
async fn write(mut sender: Sender, mut outbox: mpsc::Receiver<Event>, ending: CancellationToken) {
    loop {
        let event = tokio::select! {
            biased;
            event = outbox.recv() => event,
            () = ending.cancelled() => None,
        };
        let Some(event) = event else { return };
        if let Err(error) = sender.send(&event, &[]).await {
            tracing::debug!(%error, "the daemon no longer takes events");
            return;
        }
    }
}
