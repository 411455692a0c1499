//! The daemon's side of a runner process.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::Path,
    time::Duration,
};

use tokio::{
    process::Child,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    channel::{Receiver, Sender},
    child, log,
    protocol::{Command, Event, Exit},
};

/// Commands and events under way; a side that falls behind makes the other wait.
const QUEUE: usize = 64;

/// A runner whose socket is closed is ending; this long it may take before it is killed.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// Sends commands to a runner; cheap to clone.
#[derive(Debug, Clone)]
pub struct RunnerCommands(mpsc::Sender<(Command, Vec<OwnedFd>)>);

impl RunnerCommands {
    /// Sends a command with its descriptors, which are closed here afterwards.
    ///
    /// # Errors
    /// When the runner is gone; [`Event::Exited`] tells how.
    pub async fn send(&self, command: Command, files: Vec<OwnedFd>) -> io::Result<()> {
        self.0.send((command, files)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
impl RunnerCommands {
    /// To nobody.
    pub(crate) fn detached() -> Self {
        Self(mpsc::channel(1).0)
    }
}

impl RunnerCommands {
    /// Sends a command without waiting for room; the runner may not hear of it.
    pub fn try_send(&self, command: Command) {
        if self.0.try_send((command, Vec::new())).is_err() {
            tracing::debug!("the runner takes no command");
        }
    }
}

/// A running runner. Dropping it kills the process.
pub struct RunnerProcess {
    commands: RunnerCommands,
    pid: u32,
    /// Dropped with this value, which is what the supervisor waits for.
    _stop: oneshot::Sender<()>,
}

impl RunnerProcess {
    /// Starts `exe runner`. Must be called inside a runtime. The last event is always [`Event::Exited`].
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn(exe: &Path) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        Self::start(exe, "runner")
    }

    /// Starts `exe challenger`: the same program, which no caller reaches and which gives way to everything. Must be
    /// called inside a runtime. The last event is always [`Event::Exited`].
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn_challenger(exe: &Path) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        Self::start(exe, "challenger")
    }

    fn start(exe: &Path, subcommand: &str) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let (mut child, sender, receiver) = child::start(exe, subcommand)?;
        let pid = child.id().unwrap_or(0);
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log::carry(stderr));
        }
        let (commands, outbox) = mpsc::channel(QUEUE);
        let (events, inbox) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(write(sender, outbox));
        tokio::spawn(supervise(child, receiver, events, stopped));
        Ok((Self { commands: RunnerCommands(commands), pid, _stop: stop }, inbox))
    }

    /// Sends a command with its descriptors, which are closed here afterwards.
    ///
    /// # Errors
    /// When the runner is gone; [`Event::Exited`] tells how.
    pub async fn send(&self, command: Command, files: Vec<OwnedFd>) -> io::Result<()> {
        self.commands.send(command, files).await
    }

    /// A handle that outlives no runner: it only sends.
    #[must_use]
    pub fn commands(&self) -> RunnerCommands {
        self.commands.clone()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

async fn write(mut sender: Sender, mut outbox: mpsc::Receiver<(Command, Vec<OwnedFd>)>) {
    while let Some((command, files)) = outbox.recv().await {
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        if let Err(error) = sender.send(&command, &borrowed).await {
            tracing::debug!(%error, "the runner no longer takes commands");
            return;
        }
    }
}

async fn supervise(
    mut child: Child,
    receiver: Receiver,
    events: mpsc::Sender<Event>,
    stopped: oneshot::Receiver<()>,
) {
    tokio::select! {
        () = forward(receiver, &events) => {}
        _ = stopped => kill(&mut child),
    }
    let Ok(status) = timeout(EXIT_PATIENCE, child.wait()).await else {
        kill(&mut child);
        let _ = events.send(Event::Exited(exit(child.wait().await))).await;
        return;
    };
    // Nobody listens when the daemon dropped the runner, and then nobody needs to know.
    let _ = events.send(Event::Exited(exit(status))).await;
}

async fn forward(mut receiver: Receiver, events: &mpsc::Sender<Event>) {
    loop {
        match receiver.recv::<Event>().await {
            Ok(Some((event, _))) => {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the runner sent something unreadable");
                return;
            }
        }
    }
}

fn kill(child: &mut Child) {
    if let Err(error) = child.start_kill() {
        tracing::warn!(%error, "the runner could not be killed");
    }
}

fn exit(status: io::Result<std::process::ExitStatus>) -> Exit {
    match status {
        Ok(status) => Exit { code: status.code(), signal: status.signal(), detail: child::describe(status) },
        Err(error) => Exit { code: None, signal: None, detail: error.to_string() },
    }
}
