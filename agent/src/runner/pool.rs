//! The threads that run a model, behind a bounded queue.
//!
//! Each model has threads of its own, so one that hangs does not hold up the others. An inference cannot be
//! cancelled: when its deadline passes, the caller is answered and the thread counted as stuck until it comes
//! back ([`hangs`](super::hangs)).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use muster_engine::{EngineError, Tensor};
use shared::ReleaseId;
use tokio::sync::{mpsc, oneshot};

use super::{
    figures::Times,
    hangs::{GRACE, Hangs},
    memory::Memory,
    models::Loaded,
};

/// Requests of one model that wait. More would only wait longer than their callers do.
pub(crate) const QUEUE: usize = 64;

/// The least time an inference gets, however small the latency budget is.
const MIN_DEADLINE: Duration = Duration::from_secs(1);

/// Times the latency budget after which an inference counts as hanging.
const DEADLINE_FACTOR: u32 = 10;

/// What the engine made of a request.
pub(crate) type Ran = (Result<Vec<Tensor>, EngineError>, Times);

/// Why a request has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// The queue is full, or the request waited in it until its deadline.
    Busy,
    /// The engine did not answer before the deadline.
    Timeout(Times),
}

/// The threads of one model. They end when this is dropped.
pub(crate) struct Pool {
    jobs: mpsc::Sender<Job>,
    away: Arc<Away>,
    workers: usize,
    hangs: Arc<Hangs>,
}

/// Threads of one model past their deadline, by the version that holds them.
type Away = Mutex<BTreeMap<ReleaseId, usize>>;

struct Job {
    version: Arc<Loaded>,
    inputs: Vec<(String, Tensor)>,
    accepted: Instant,
    started: oneshot::Sender<Instant>,
    done: oneshot::Sender<Ran>,
    phase: Arc<Mutex<Phase>>,
}

/// Who gave up on a run first: the worker by finishing, or the caller by its deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Finished,
    TimedOut,
    /// The deadline passed long ago.
    Hung,
}

impl Pool {
    /// Starts one thread for each core. `hangs` is told of those that do not come back.
    pub(crate) fn start(hangs: Arc<Hangs>, memory: Arc<Memory>) -> std::io::Result<Self> {
        let workers = workers();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let away = Arc::<Away>::default();
        for _ in 0..workers {
            let worker =
                Worker { away: Arc::clone(&away), hangs: Arc::clone(&hangs), memory: Arc::clone(&memory) };
            let queue = Arc::clone(&queue);
            thread::Builder::new().name("inference".into()).spawn(move || worker.work(&queue))?;
        }
        Ok(Self { jobs, away, workers, hangs })
    }

    /// Runs `version` on `inputs`. Must not be dropped half way, or what happened is not counted: the callers'
    /// connections come and go, so spawn it.
    pub(crate) async fn run(
        &self,
        version: Arc<Loaded>,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Ran, NoResult> {
        let deadline = deadline(&version);
        let (started, starts) = oneshot::channel();
        let (done, result) = oneshot::channel();
        let phase = Arc::new(Mutex::new(Phase::Running));
        let (accepted, release) = (Instant::now(), version.release.clone());
        let job = Job { version, inputs, accepted, started, done, phase: Arc::clone(&phase) };
        self.jobs.try_send(job).map_err(|_| NoResult::Busy)?;
        // A job whose `starts` is dropped is skipped by the workers.
        let Ok(Ok(began)) = tokio::time::timeout(deadline, starts).await else { return Err(NoResult::Busy) };
        if let Ok(Ok(ran)) = tokio::time::timeout_at((began + deadline).into(), result).await {
            return Ok(ran);
        }
        self.give_up(&phase, &release);
        Err(NoResult::Timeout(Times { queue: began - accepted, compute: began.elapsed() }))
    }

    /// A result that came in the same moment is dropped: the caller was promised an answer by now.
    fn give_up(&self, phase: &Arc<Mutex<Phase>>, release: &ReleaseId) {
        {
            let mut phase = locked(phase);
            if *phase != Phase::Running {
                return;
            }
            *phase = Phase::TimedOut;
            self.leave(release);
        }
        let (phase, release, hangs) = (Arc::clone(phase), release.clone(), Arc::clone(&self.hangs));
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            let mut phase = locked(&phase);
            if *phase == Phase::TimedOut {
                *phase = Phase::Hung;
                hangs.begin(&release);
            }
        });
    }

    /// Counts a thread as away. With the last one the version that holds most of them is named, which need not be the one
    /// that took the last.
    fn leave(&self, release: &ReleaseId) {
        let mut away = locked(&self.away);
        *away.entry(release.clone()).or_default() += 1;
        let most = away.iter().max_by_key(|&(held_by, &threads)| (threads, held_by == release));
        if away.values().sum::<usize>() >= self.workers
            && let Some((most, &threads)) = most
        {
            self.hangs.exhaust(most, threads);
        }
    }
}

/// What is under these locks is whole at every moment, also when somebody panics.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads of a model. Asked once, since the answer is read from files, which a process that is locked in cannot.
pub(crate) fn workers() -> usize {
    static WORKERS: OnceLock<usize> = OnceLock::new();
    *WORKERS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

fn deadline(version: &Loaded) -> Duration {
    let budget = Duration::from_millis(version.budgets.latency_ms.into());
    (budget * DEADLINE_FACTOR).max(MIN_DEADLINE)
}

/// What one thread needs beside its jobs.
struct Worker {
    away: Arc<Away>,
    hangs: Arc<Hangs>,
    memory: Arc<Memory>,
}

impl Worker {
    fn work(&self, queue: &Mutex<mpsc::Receiver<Job>>) {
        loop {
            // The guard lives for the waiting only: one idle worker waits for a job, the others for the guard.
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
            let Some(job) = job else { return };
            self.run(job);
        }
    }

    fn run(&self, job: Job) {
        let began = Instant::now();
        if job.started.send(began).is_err() {
            return;
        }
        let running = self.memory.run(&job.version.release);
        let result = job.version.session.run(&job.inputs);
        drop(running);
        let times = Times { queue: began - job.accepted, compute: began.elapsed() };
        let mut phase = locked(&job.phase);
        match *phase {
            Phase::Running | Phase::Finished => {
                // A caller whose deadline passed just now has been answered.
                let _ = job.done.send((result, times));
            }
            Phase::TimedOut => self.come_back(&job.version.release),
            Phase::Hung => {
                self.hangs.end(&job.version.release);
                self.come_back(&job.version.release);
            }
        }
        *phase = Phase::Finished;
    }

    fn come_back(&self, release: &ReleaseId) {
        let mut away = locked(&self.away);
        if let Some(count) = away.get_mut(release) {
            *count -= 1;
            if *count == 0 {
                away.remove(release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::{confidence::Confidence, figures::Figures};
    use futures_util::FutureExt;
    use muster_engine::Session;
    use shared::manifest::{Budgets, TensorSpec};
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc as blocking,
    };

    /// Hangs until the other end of its channel is dropped.
    struct Hanging(Mutex<blocking::Receiver<()>>, Arc<AtomicUsize>);

    impl Session for Hanging {
        fn inputs(&self) -> &[TensorSpec] {
            &[]
        }
        fn outputs(&self) -> &[TensorSpec] {
            &[]
        }
        fn run(&self, _: &[(String, Tensor)]) -> Result<Vec<Tensor>, EngineError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            let _ = self.0.lock().unwrap().recv();
            Ok(vec![])
        }
        fn warm(&self) -> Result<(), EngineError> {
            Ok(())
        }
    }

    fn hanging() -> (Arc<Loaded>, blocking::Sender<()>, Arc<AtomicUsize>) {
        let (release, hang) = blocking::channel();
        let runs = Arc::new(AtomicUsize::new(0));
        let id: ReleaseId = "m@1".parse().unwrap();
        let loaded = Loaded {
            release: id.clone(),
            session: Box::new(Hanging(Mutex::new(hang), Arc::clone(&runs))),
            budgets: Budgets { latency_ms: 1, ..Budgets::default() },
            figures: Arc::new(Figures::new(id, Arc::default())),
            confidence: Confidence::new(&[]),
            capture: None,
            _gone: oneshot::channel().0,
        };
        (Arc::new(loaded), release, runs)
    }

    #[tokio::test]
    async fn when_every_worker_hangs_the_callers_are_answered_and_the_process_is_told() {
        let hangs = Arc::new(Hangs::default());
        let pool = Arc::new(Pool::start(Arc::clone(&hangs), Arc::default()).unwrap());
        let (loaded, release, runs) = hanging();
        let waiting = pool.workers + QUEUE;
        let calls: Vec<_> = (0..waiting + pool.workers + 1)
            .map(|_| {
                let (pool, loaded) = (Arc::clone(&pool), Arc::clone(&loaded));
                tokio::spawn(async move { pool.run(loaded, vec![]).await })
            })
            .collect();
        let (mut timeouts, mut busy) = (0, 0);
        for call in calls {
            match call.await.unwrap() {
                Err(NoResult::Timeout(times)) => {
                    assert!(times.compute >= MIN_DEADLINE);
                    timeouts += 1;
                }
                Err(NoResult::Busy) => busy += 1,
                Ok(_) => panic!("a hanging model cannot answer"),
            }
        }
        assert_eq!(timeouts, pool.workers);
        assert!(busy > QUEUE, "what waited until its deadline and what found the queue full");
        let told = hangs.exhausted().await.map(|(release, threads)| (release.to_string(), *threads));
        assert_eq!(told, Some(("m@1".to_owned(), pool.workers)));

        drop(release);
        let answered = loop {
            match pool.run(Arc::clone(&loaded), vec![]).await {
                Ok((result, _)) => break result,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(answered, Ok(vec![]), "threads that came back work again");
        assert_eq!(runs.load(Ordering::SeqCst), pool.workers + 1, "nobody waits for what is skipped");
        let recovered = async {
            while !locked(&pool.away).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), recovered).await.unwrap();
    }
    #[tokio::test]
    async fn the_version_that_holds_most_threads_is_named_and_not_the_one_that_took_the_last() {
        let hangs = Arc::new(Hangs::default());
        let mut pool = Pool::start(Arc::clone(&hangs), Arc::default()).unwrap();
        pool.workers = 4;
        let [old, new] = ["m@1", "m@2"].map(|name| name.parse::<ReleaseId>().unwrap());
        (0..3).for_each(|_| pool.leave(&old));
        pool.leave(&new);
        assert_eq!(hangs.exhausted().await, Some(&(old, 3)));
    }

    #[tokio::test]
    async fn a_thread_that_comes_back_is_not_away_and_does_not_hang() {
        let hangs = Arc::new(Hangs::default());
        let pool = Pool::start(Arc::clone(&hangs), Arc::default()).unwrap();
        let (loaded, release, _) = hanging();
        let timed_out = pool.run(Arc::clone(&loaded), vec![]).await;
        assert!(matches!(timed_out, Err(NoResult::Timeout(_))));
        drop(release);
        while !locked(&pool.away).is_empty() {
            tokio::task::yield_now().await;
        }
        hangs.taken_out(&loaded.release);
        assert!(hangs.abandoned().now_or_never().is_none(), "nothing hangs in it");
    }
}
