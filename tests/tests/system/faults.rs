//! The agent killed at every system call of an update, and every one of them failing.
//!
//! One run of the release agent is written down: it starts on `digits@1`, fetches, stages, tries, activates and commits
//! `digits@2`. Then each run strikes one of its calls. A kill may cost a start and nothing else; a call that fails may
//! cost a moment. In either case every byte of the committed version is there, an application gets its answers, and the
//! new version comes. Seeds are printed; `MUSTER_SEED` repeats one, and `MUSTER_LONG=1` strikes ten thousand times.

use std::time::{Duration, Instant};

use system_tests::{
    effort::{long, seed},
    lanes::{Answers, End, Lane, Lanes},
    programs,
    random::Random,
    strace::{self, Blow, CHANGES, Call, NETWORK, READS, spread},
};

/// Devices that are struck at the same time: most of a run is waiting.
const LANES: usize = 6;

/// Points of a normal run, and with `MUSTER_LONG=1`.
const KILLS: (usize, usize) = (140, 4_000);
const ERRORS: (usize, usize) = (80, 3_000);

/// What an update may take on a machine that does many at a time, with the waits of an agent that tries again.
const ARRIVES_WITHIN: Duration = Duration::from_secs(40);

/// The longest that an application waits between two answers of an agent that was not killed.
const LONGEST_GAP: Duration = Duration::from_secs(5);

/// Calls that do not come in every run, because threads take turns in another order, are missed. Of the others there must
/// be this share.
const STRUCK_PERCENT: usize = 85;

/// What became of a run.
struct Outcome {
    blow: Blow,
    has_struck: bool,
    ended: bool,
    restarted: bool,
    answers: Answers,
    took: Duration,
    troubles: Vec<String>,
}

#[test]
fn an_agent_killed_at_any_system_call_of_an_update_loses_nothing_and_arrives() {
    let mut lanes = Lanes::prepare(LANES);
    let calls = lanes.lanes[0].calls(&[CHANGES, NETWORK].concat());
    let points = choose(&calls, Blow::Kill, long(KILLS.0, KILLS.1), &mut Random::new(seed()));
    judge(&lanes.share(points, |lane, _, (call, blow)| run(lane, &call, blow)));
}

#[test]
fn a_system_call_that_fails_once_stops_neither_answers_nor_the_update() {
    let (count, mut random) = (long(ERRORS.0, ERRORS.1), Random::new(seed()));
    let mut lanes = Lanes::prepare(LANES);
    let mut calls = lanes.lanes[0].calls(&[READS, CHANGES].concat());
    calls.retain(|call| call.file.is_some());
    let mut points = choose(&calls, Blow::Fail("EIO"), count, &mut random);
    calls.retain(|call| CHANGES.contains(&call.name.as_str()));
    points.extend(choose(&calls, Blow::Fail("ENOSPC"), count, &mut random));
    judge(&lanes.share(points, |lane, _, (call, blow)| run(lane, &call, blow)));
}

/// `count` of the calls, each with what happens to it.
fn choose(calls: &[Call], blow: Blow, count: usize, random: &mut Random) -> Vec<(Call, Blow)> {
    eprintln!("{blow:?} at {count} of {} different calls", calls.len());
    spread(calls, count, random).into_iter().map(|call| (call, blow)).collect()
}

/// One update with one call struck.
fn run(lane: &mut Lane, call: &Call, blow: Blow) -> Outcome {
    lane.put_back();
    let log = lane.device.data_dir().with_file_name("struck");
    let _ = std::fs::remove_file(&log);
    let agent = programs::muster_agent();
    lane.device.run_by(strace::strike(&agent, &lane.device.data_dir(), call, blow, &log));
    let (mut answers, since) = (Answers::default(), Instant::now());
    let end = lane.follow(ARRIVES_WITHIN, &mut answers, || {});
    lane.device.kill();
    let took = since.elapsed();
    let ended = matches!(end, End::Ended(_));
    let (has_struck, ended) = match blow {
        Blow::Kill => (end.is_kill(), ended && !end.is_kill()),
        Blow::Fail(_) => (strace::has_struck(&log), ended),
    };
    let mut outcome =
        Outcome { blow, has_struck, ended, restarted: false, answers, took, troubles: Vec::new() };
    outcome.follow_up(lane, end);
    let said = if outcome.troubles.is_empty() { String::new() } else { lane.log() };
    outcome.troubles.iter_mut().for_each(|what| *what = format!("{blow:?} at {call}: {what}\n{said}"));
    outcome
}

impl Outcome {
    /// The disk must be whole at once. Where the new version is not there yet, it must come without a fault; only a kill
    /// excuses that it is not there.
    fn follow_up(&mut self, lane: &mut Lane, end: End) {
        if let Err(damage) = lane.examine() {
            self.troubles.push(damage);
        }
        match end {
            End::Arrived => {}
            End::Ended(_) if self.blow == Blow::Kill && self.has_struck => self.restart(lane),
            End::Ended(status) => {
                self.troubles.push(format!("the agent ended by itself with {status}"));
                self.restart(lane);
            }
            End::Late => {
                self.troubles.push(format!("the new version does not come within {ARRIVES_WITHIN:?}"));
                self.restart(lane);
            }
        }
        match self.blow {
            Blow::Kill => {}
            Blow::Fail(_) => self.demand_service(&lane.device.log_text()),
        }
    }

    /// An agent that lives has answers all the time, and gives nothing up.
    fn demand_service(&mut self, said: &str) {
        // Such a line says that something is gone for as long as this agent runs.
        let given_up = said.lines().filter(|line| line.contains(" ERROR ")).map(str::to_owned);
        self.troubles.extend(given_up);
        let Answers { longest_gap, count, .. } = self.answers;
        if count == 0 || longest_gap > LONGEST_GAP {
            self.troubles.push(format!("{count} answers, and none for {longest_gap:?}"));
        }
    }

    /// Starts the agent again, without a fault.
    fn restart(&mut self, lane: &mut Lane) {
        self.restarted = true;
        lane.device.run();
        let end = lane.follow(ARRIVES_WITHIN, &mut Answers::default(), || {});
        lane.device.kill();
        if end != End::Arrived {
            self.troubles.push(format!("the new version does not come after a restart: {end:?}"));
        }
        if let Err(damage) = lane.examine() {
            self.troubles.push(format!("after a restart: {damage}"));
        }
    }
}

/// Prints what was seen, and fails where something was wrong or too little was struck.
fn judge(outcomes: &[Outcome]) {
    for blow in [Blow::Kill, Blow::Fail("EIO"), Blow::Fail("ENOSPC")] {
        let of_blow: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.blow == blow).collect();
        if !of_blow.is_empty() {
            judge_blow(blow, &of_blow);
        }
    }
    let troubles: Vec<&str> = outcomes.iter().flat_map(|o| &o.troubles).map(String::as_str).collect();
    assert!(troubles.is_empty(), "{} troubles:\n{}", troubles.len(), troubles.join("\n"));
}

fn judge_blow(blow: Blow, outcomes: &[&Outcome]) {
    let count = |what: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| what(outcome)).count();
    let struck = count(|outcome| outcome.has_struck);
    eprintln!(
        "{blow:?}: {} runs, {struck} struck, {} agents ended by themselves, {} were started again, \
         longest gap between two answers {:?}, longest run {:?}",
        outcomes.len(),
        count(|outcome| outcome.ended),
        count(|outcome| outcome.restarted),
        outcomes.iter().map(|outcome| outcome.answers.longest_gap).max().unwrap_or_default(),
        outcomes.iter().map(|outcome| outcome.took).max().unwrap_or_default(),
    );
    assert!(
        struck * 100 >= outcomes.len() * STRUCK_PERCENT,
        "{blow:?} struck only {struck} of {}",
        outcomes.len()
    );
}
