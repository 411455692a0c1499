//! Models that pass every check and turn on a device at work, while nobody is there to help it.
//!
//! Every model here is published by the rules, passes the gate, the golden vectors and the trial, and misbehaves on images
//! with an empty left margin. The server, and the broker in it, is killed before the first such image comes.

use std::time::{Duration, Instant};

use system_tests::{
    cli::Exit,
    digits::{Digit, images_with_empty_margin, images_with_ink_in_margin},
    fleet::Fleet,
    hostile::treacherous,
    inference::infer,
    models::{Policy, Publication},
    process::fault_pid,
    random::Random,
    traffic::Traffic,
    wait::{PATIENCE, try_until, until, until_true},
};

/// Least time that the runner gives an inference.
const DEADLINE: Duration = Duration::from_secs(1);

/// What a device promises: a model that takes its runner down is gone within this.
const CRASH_BOUND: Duration = Duration::from_secs(2);

/// And one that hangs within its deadline and this.
const HANG_BOUND: Duration = Duration::from_secs(2);

/// Failures in a row that condemn by the default policy.
const FAILURES: usize = 5;

/// Callers at a time: more than the runner of a small device has threads.
const CALLERS: usize = 3;

/// Random ends of the agent in probation that are tried.
const KILL_SEEDS: std::ops::Range<u64> = 0..4;

/// How the line of the log begins that says so.
const ROLLED_BACK: &str = "the version is rolled back";

/// A budget that makes the deadline the least there is.
const WATCHFUL: Policy = Policy { latency_ms: 100, ..Policy::WATCHFUL };

/// A device alone in the world with a traitor on probation.
struct Alone {
    fleet: Fleet,
    rollout: String,
}

impl Alone {
    fn with(publication: &Publication) -> Self {
        let mut fleet = Fleet::start(1);
        fleet.bring(&Publication::digits(2));
        let bad = fleet.publish(publication);
        let rollout = fleet.start_rollout(&bad);
        fleet.devices[0].wait_for_version("2", &images_with_ink_in_margin()[0], PATIENCE);
        fleet.server.kill();
        Self { fleet, rollout }
    }

    /// Sends trouble from several callers until the version is gone, and tells how long that took.
    fn provoke(&self) -> Duration {
        let device = &self.fleet.devices[0];
        let since = Instant::now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| Traffic::start(device.http(), "digits", images_with_empty_margin()))
            .collect();
        let log = || device.log_text();
        until("the version is rolled back", PATIENCE, || log().contains(ROLLED_BACK).then_some(()));
        let gone = since.elapsed();
        until_true("version 1 answers", PATIENCE, || {
            callers[0].so_far().of("1").count > 0 && self.answers_with("1")
        });
        let back = since.elapsed();
        eprintln!("rolled back after {gone:?}, version 1 answers after {back:?}");
        back
    }

    fn answers_with(&self, version: &str) -> bool {
        self.fleet.devices[0].infer(&trouble()).is_ok_and(|answer| answer.version == version)
    }

    /// The server comes back and hears of it, with the evidence.
    fn tell_server(mut self, words: &[&str]) {
        assert_eq!(self.fleet.devices[0].ended(), None, "the agent ended");
        self.fleet.server.run();
        let _ = self.fleet.watch(&self.rollout).exits(Exit::RolloutFailed);
        let why = self.fleet.cli().run(["device", "why", "cam-1"]).ok();
        eprintln!("{}", why.stdout.lines().find(|line| line.contains("rolled back:")).unwrap_or_default());
        let _ = why.says(&["digits@2", "rolled back"]).says(words);
    }
}

fn trouble() -> Digit {
    images_with_empty_margin()[0].clone()
}

/// No model was found that gets a fault past the gate, so the fault comes from outside, whenever the version answers.
#[test]
fn a_version_that_crashes_its_runner_is_gone_within_two_seconds() {
    let alone = Alone::with(&treacherous("lie").with_policy(WATCHFUL));
    let device = &alone.fleet.devices[0];
    let since = Instant::now();
    let mut faults = 0;
    until_true("the version is rolled back", PATIENCE, || {
        if alone.answers_with("2")
            && let Some(runner) = device.runner()
        {
            fault_pid(runner);
            faults += 1;
        }
        device.log_text().contains(ROLLED_BACK)
    });
    until_true("version 1 answers", PATIENCE, || alone.answers_with("1"));
    let back = since.elapsed();
    eprintln!("version 1 answers {back:?} after the first of {faults} faults");
    assert!(back < CRASH_BOUND, "{back:?}");
    alone.tell_server(&["started 3 times"]);
}

#[test]
fn a_version_that_hangs_is_gone_two_seconds_after_its_deadline() {
    let alone = Alone::with(&treacherous("hang").with_policy(WATCHFUL));
    let back = alone.provoke();
    assert!(back < DEADLINE + HANG_BOUND, "{back:?}");
    alone.tell_server(&["hung"]);
}

#[test]
fn one_inference_that_hangs_is_enough() {
    let alone = Alone::with(&treacherous("hang").with_policy(WATCHFUL));
    let device = &alone.fleet.devices[0];
    let runner = device.runner().expect("a model is served");
    let since = Instant::now();
    assert!(infer(&device.http(), "digits", &trouble()).is_err(), "it hangs");
    until_true("it is rolled back", PATIENCE, || device.log_text().contains(ROLLED_BACK));
    let gone = since.elapsed();
    until_true("version 1 answers", PATIENCE, || alone.answers_with("1"));
    eprintln!("one caller: rolled back after {gone:?}, version 1 answers after {:?}", since.elapsed());
    assert!(gone < DEADLINE + HANG_BOUND, "{gone:?}");
    until_true("the thread that hangs is gone with its runner", PATIENCE, || {
        device.runner().is_some_and(|now| now != runner)
    });
    alone.tell_server(&["hung in one thread"]);
}

#[test]
fn a_version_that_eats_memory_is_gone() {
    let alone = Alone::with(&treacherous("grow").with_policy(WATCHFUL));
    alone.provoke();
    alone.tell_server(&[]);
}

#[test]
fn five_failures_are_enough_whatever_they_are() {
    for name in ["error", "panic", "nan", "bomb"] {
        let alone = Alone::with(&treacherous(name).with_policy(WATCHFUL));
        let device = &alone.fleet.devices[0];
        for digit in &images_with_empty_margin()[..FAILURES] {
            assert!(infer(&device.http(), "digits", digit).is_err(), "{name} must fail here");
        }
        let since = Instant::now();
        until_true("it is rolled back", PATIENCE, || device.log_text().contains(ROLLED_BACK));
        // The line tells of the decision; what follows from it is on its way.
        until_true(&format!("version 1 answers after {name}"), PATIENCE, || alone.answers_with("1"));
        eprintln!("{name}: version 1 answers {:?} after the fifth failure", since.elapsed());
        alone.tell_server(&["rolled back: 5 of "]);
    }
}

#[test]
fn a_version_that_lies_in_perfect_form_is_kept() {
    // Nothing on the device compares answers with the truth; labels that come later are told to the server.
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    fleet.bring(&treacherous("lie"));
    let digit = trouble();
    let lie = fleet.devices[0].infer(&digit).unwrap();
    assert_eq!(lie.version, "2");
    assert_ne!(lie.digit(), digit.label);
}

#[test]
fn an_agent_killed_at_random_in_probation_ends_on_the_old_version() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(2));
    for seed in KILL_SEEDS {
        let mut random = Random::new(seed);
        let name = *random.pick(&["bomb", "hang", "nan"]);
        let marked = treacherous(name).marked(fleet.server.scratch(), seed);
        let bad = fleet.publish(&marked.with_policy(WATCHFUL));
        let rollout = fleet.start_rollout(&bad);
        let version = bad.rsplit('@').next().unwrap().to_owned();
        fleet.devices[0].wait_for_version(&version, &images_with_ink_in_margin()[0], PATIENCE);
        fleet.server.kill();
        let starts = kill_until_rolled_back(&mut fleet, &mut random, &bad);
        eprintln!("seed {seed}: {name} is gone after {starts} starts");
        assert!(starts <= WATCHFUL.max_starts + 1, "seed {seed}: {starts} starts");
        assert_eq!(fleet.devices[0].infer(&trouble()).unwrap().version, "1");
        fleet.server.run();
        let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed);
    }
}

/// Kills the agent again and again, each time after a random while under trouble, and counts its starts.
fn kill_until_rolled_back(fleet: &mut Fleet, random: &mut Random, bad: &str) -> u32 {
    let device = &mut fleet.devices[0];
    let is_over = |text: &str| text.lines().any(|line| line.contains(ROLLED_BACK) && line.contains(bad));
    let mut starts = 1;
    loop {
        let traffic = Traffic::start(device.http(), "digits", images_with_empty_margin());
        let patience = Duration::from_millis(random.next_number() % 400);
        let over = try_until(patience, || is_over(&device.log_text()).then_some(()));
        drop(traffic);
        if over.is_some() {
            return starts;
        }
        device.kill();
        device.run();
        starts += 1;
        // A start that finds the version given up says so before it answers.
        until_true("the device answers", PATIENCE, || {
            device.infer(&trouble()).is_ok_and(|a| a.version == "1") || device.runner().is_some()
        });
        assert!(starts < 20, "it is tried for ever");
    }
}
