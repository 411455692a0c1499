//! Thousands of made-up worlds under the eyes of the oracle.
//!
//! | variable | what it does |
//! |---|---|
//! | `MUSTER_SIM_SEED=N` | tells the story of one seed, in every detail |
//! | `MUSTER_SIM_SEEDS=N` | tries N seeds instead of the usual number: the long run |
//! | `MUSTER_SIM_FROM=N` | begins at seed N |
#![allow(clippy::print_stdout, reason = "the count and a failed world are what it is for")]

use std::{collections::BTreeMap, env};

use muster_sim::{Detail, Violation, made_up, tell};

/// Seeds of a usual run: about half a minute of one core.
const SEEDS: u64 = 2_000;

/// Lines of a failed world that are shown.
const TAIL: usize = 150;

/// Failed seeds after which nobody needs more of them.
const ENOUGH: usize = 20;

#[test]
fn no_made_up_world_breaks_a_rule() {
    match number("MUSTER_SIM_SEED") {
        Some(seed) => tell_one(seed),
        None => {
            tell_many(number("MUSTER_SIM_FROM").unwrap_or(1), number("MUSTER_SIM_SEEDS").unwrap_or(SEEDS))
        }
    }
}

fn tell_one(seed: u64) {
    let (end, transcript) = tell(&made_up(seed), None, Detail::Everything);
    println!("{transcript}");
    println!("{:#?}", end.unwrap_or_else(|violation| panic!("seed {seed}: {violation}")));
}

fn tell_many(from: u64, seeds: u64) {
    let (mut events, mut ends, mut failed) = (0, BTreeMap::<String, u64>::new(), vec![]);
    for seed in from..from + seeds {
        match tell(&made_up(seed), None, Detail::Nothing).0 {
            Ok(end) => {
                events += end.events;
                for word in end.words {
                    *ends.entry(word).or_default() += 1;
                }
            }
            Err(violation) => failed.push((seed, violation)),
        }
        if failed.len() == ENOUGH {
            break;
        }
    }
    println!("{seeds} seeds from {from}, {events} events; rollouts by their end: {ends:?}");
    if let Some((seed, _)) = failed.first() {
        show(*seed, &failed);
    }
}

fn show(first: u64, failed: &[(u64, Violation)]) {
    let (_, transcript) = tell(&made_up(first), None, Detail::Everything);
    println!("the end of seed {first}; MUSTER_SIM_SEED={first} tells all of it\n{}", transcript.tail(TAIL));
    let lines: Vec<_> = failed.iter().map(|(seed, violation)| format!("seed {seed}: {violation}")).collect();
    panic!("{}", lines.join("\n"));
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
