//! What the applications on the devices do all the time: send images, and tell later which digit it was.
//!
//! One task for each device sends the test images in order, each device from another one on, so that every device
//! sees all of them. It counts by version what was answered; a request without an answer counts as failed, whatever
//! the reason, because that is how an application sees it.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    assets::{image, image_count},
    inference::{Answered, Application, Unanswered},
};

/// Time between two images of a device while the story is told.
pub const BRISK: Duration = Duration::from_millis(8);

/// Time between two images of a device afterwards: little work, and a probation of 240 inferences takes ten seconds.
pub const GENTLE: Duration = Duration::from_millis(40);

/// How often a device without a model is asked whether it has one.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Failures whose words are kept.
const KEPT_FAILURES: usize = 4;

/// What a camera shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// What is before it.
    Clear,
    /// The same image again and again.
    Frozen,
    /// What is before it, in half the light.
    Dark,
}

/// What one version answered on one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// Images that were answered.
    pub answered: u64,
    /// Of these, those answered with the right digit.
    pub right: u64,
}

/// What happened to the images of one device.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answers by version.
    pub by_version: BTreeMap<u32, Answers>,
    /// Requests without an answer, by the version that the error names; 0 when it names none.
    pub failed: BTreeMap<u32, u64>,
    /// The version that answered last, and how many images it answered since another or none did.
    pub last: Option<(u32, u64)>,
    /// The last failures in words.
    pub failures: VecDeque<String>,
}

impl Tally {
    /// Requests, answered or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.all_failed() + self.by_version.values().map(|answers| answers.answered).sum::<u64>()
    }

    /// Requests without an answer.
    #[must_use]
    pub fn all_failed(&self) -> u64 {
        self.failed.values().sum()
    }

    fn answered(&mut self, answer: Answered, label: u8) {
        let answers = self.by_version.entry(answer.version).or_default();
        answers.answered += 1;
        answers.right += u64::from(answer.digit == label);
        let row = self.last.filter(|(version, _)| *version == answer.version).map_or(0, |(_, row)| row);
        self.last = Some((answer.version, row + 1));
    }

    fn failed(&mut self, error: &Unanswered) {
        *self.failed.entry(error.version().unwrap_or(0)).or_default() += 1;
        self.last = None;
        if self.failures.len() == KEPT_FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(error.to_string());
    }
}

/// The traffic of all devices. Dropping it ends it.
#[derive(Debug)]
pub struct Traffic {
    tallies: BTreeMap<String, Arc<Mutex<Tally>>>,
    views: BTreeMap<String, Arc<Mutex<View>>>,
    pace_ms: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Traffic {
    /// Starts sending to the devices of these names and sockets, as soon as each has a model.
    #[must_use]
    pub fn start(devices: &[(String, PathBuf)]) -> Self {
        let pace_ms = Arc::new(AtomicU64::new(millis(BRISK)));
        let mut tasks = JoinSet::new();
        let (mut tallies, mut views) = (BTreeMap::new(), BTreeMap::new());
        for (number, (name, socket)) in devices.iter().enumerate() {
            let tally = Arc::new(Mutex::new(Tally::default()));
            let view = Arc::new(Mutex::new(View::Clear));
            let sender = Sender {
                application: Application::new(socket),
                name: name.clone(),
                tally: Arc::clone(&tally),
                view: Arc::clone(&view),
                pace_ms: Arc::clone(&pace_ms),
            };
            tasks.spawn(sender.run(number * image_count() / devices.len()));
            tallies.insert(name.clone(), tally);
            views.insert(name.clone(), view);
        }
        Self { tallies, views, pace_ms, _tasks: tasks }
    }

    /// What happened until now, by device.
    #[must_use]
    pub fn tallies(&self) -> BTreeMap<String, Tally> {
        self.tallies.iter().map(|(name, tally)| (name.clone(), lock(tally).clone())).collect()
    }

    /// Lets the camera of a device show something else from now on.
    pub fn show(&self, device: &str, view: View) {
        if let Some(shown) = self.views.get(device) {
            *lock(shown) = view;
        }
    }

    /// Lets all cameras show something else from now on.
    pub fn show_all(&self, view: View) {
        self.views.values().for_each(|shown| *lock(shown) = view);
    }

    /// Sends an image every `pace` from now on.
    pub fn set_pace(&self, pace: Duration) {
        self.pace_ms.store(millis(pace), Ordering::Relaxed);
    }
}

struct Sender {
    application: Application,
    name: String,
    tally: Arc<Mutex<Tally>>,
    view: Arc<Mutex<View>>,
    pace_ms: Arc<AtomicU64>,
}

impl Sender {
    async fn run(mut self, first: usize) {
        while !self.application.is_ready().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let mut next = Instant::now();
        for number in first.. {
            self.send(number).await;
            // Who is late goes on from now: a pause must not be followed by a burst.
            next = (next + Duration::from_millis(self.pace_ms.load(Ordering::Relaxed))).max(Instant::now());
            sleep_until(next).await;
        }
    }

    async fn send(&mut self, number: usize) {
        let image = match *lock(&self.view) {
            View::Clear => image(number),
            View::Frozen => image(0),
            View::Dark => image(number).darkened(),
        };
        let id = format!("{}-{number}", self.name);
        match self.application.infer(&id, image).await {
            Ok(answer) => {
                lock(&self.tally).answered(answer, image.label);
                // A label that gets lost is missing in the accuracy, which the story checks against the server.
                let _ = self.application.label(&id, image.label).await;
            }
            Err(error) => lock(&self.tally).failed(&error),
        }
    }
}

/// A value is whole after every statement that changes it, so one that a panic left behind is still right.
fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_the_row_of_answers() {
        let mut tally = Tally::default();
        let answer = |digit| Answered { version: 2, digit };
        tally.answered(answer(7), 7);
        tally.answered(answer(1), 7);
        assert_eq!((tally.last, tally.by_version[&2]), (Some((2, 2)), Answers { answered: 2, right: 1 }));
        tally.failed(&Unanswered::Connection("gone".to_owned()));
        tally.answered(answer(7), 7);
        assert_eq!((tally.last, tally.all_failed(), tally.requests()), (Some((2, 1)), 1, 4));
    }
}
