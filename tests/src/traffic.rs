//! An application on a device that never stops asking.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    digits::Digit,
    http::Target,
    inference::{Unanswered, infer},
};

/// Kept failures; more of them say nothing new.
const MAX_FAILURES: usize = 200;

/// Between two requests: a camera with a hundred pictures a second.
const PACE: Duration = Duration::from_millis(10);

/// Requests that go on until they are stopped.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    totals: Arc<Mutex<Totals>>,
    worker: Option<JoinHandle<()>>,
}

/// What became of the requests.
#[derive(Debug, Default, Clone)]
pub struct Totals {
    /// Sent so far.
    pub sent: u64,
    /// Answered, by version.
    pub answered: BTreeMap<String, Answered>,
    /// Refused because an output was not a number.
    pub non_finite: u64,
    /// Not answered for any other reason, in words.
    pub failed: Vec<String>,
    /// Longest time between two answers.
    pub longest_gap: Duration,
}

/// What one version answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// All.
    pub count: u64,
    /// With the right digit.
    pub right: u64,
}

impl Traffic {
    /// Sends `images` round and round to `model`.
    #[must_use]
    pub fn start(target: Target, model: &str, images: Vec<Digit>) -> Self {
        assert!(!images.is_empty(), "traffic needs images");
        let (stop, totals) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Totals::default())));
        let (worker_stop, worker_totals, model) = (stop.clone(), totals.clone(), model.to_owned());
        let worker = thread::spawn(move || {
            let mut last_answer = Instant::now();
            for digit in images.iter().cycle().take_while(|_| !worker_stop.load(Ordering::SeqCst)) {
                let outcome = infer(&target, &model, digit);
                if !matches!(outcome, Err(Unanswered::Connection(_))) {
                    let gap = last_answer.elapsed();
                    last_answer = Instant::now();
                    let mut totals = worker_totals.lock().unwrap();
                    totals.longest_gap = totals.longest_gap.max(gap);
                }
                worker_totals.lock().unwrap().count(digit, outcome);
                thread::park_timeout(PACE);
            }
        });
        Self { stop, totals, worker: Some(worker) }
    }

    /// What became of the requests until now.
    #[must_use]
    pub fn so_far(&self) -> Totals {
        self.totals.lock().unwrap().clone()
    }

    /// Ends it.
    #[must_use]
    pub fn stop(mut self) -> Totals {
        self.end();
        self.so_far()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(worker) = self.worker.take() {
            worker.thread().unpark();
            // A panic in the worker was printed where it happened; the totals tell the rest.
            let _ = worker.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

impl Totals {
    /// Answers of one version.
    #[must_use]
    pub fn of(&self, version: &str) -> Answered {
        self.answered.get(version).copied().unwrap_or_default()
    }

    /// All answers.
    #[must_use]
    pub fn all_answered(&self) -> u64 {
        self.answered.values().map(|answered| answered.count).sum()
    }

    fn count(&mut self, digit: &Digit, outcome: Result<crate::inference::Inference, Unanswered>) {
        self.sent += 1;
        match outcome {
            Ok(inference) => {
                let right = u64::from(inference.digit() == digit.label);
                let answered = self.answered.entry(inference.version).or_default();
                answered.count += 1;
                answered.right += right;
            }
            Err(error) if error.is_non_finite() => self.non_finite += 1,
            Err(error) if self.failed.len() < MAX_FAILURES => self.failed.push(error.to_string()),
            Err(_) => {}
        }
    }
}
