//! The power fails at every operation of the disk, with every kind of loss that POSIX allows, and the device still has
//! exactly one version of each model that runs.
//!
//! The real core, ledger file and store run on a simulated disk. After each crash state the agent starts anew and the
//! invariants are checked:
//!
//! | | |
//! |---|---|
//! | I1 | one version of each model is runnable at any time after the first was installed |
//! | I2 | what is visible and what is loaded is byte for byte what was signed |
//! | I3 | what was saved is there, and so is what was reported as kept |
//! | I4 | generation and floors never go down |
//! | I5 | recovery finds the same whenever it is interrupted |
//! | I6 | what nobody needs goes away |
//! | I7 | tries that were begun are remembered |
//! | I8 | recovery takes a bounded number of operations |
//!
//! `MUSTER_LONG=1` checks a million states.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

mod check;
mod crash;
mod disk;
mod facts;
mod faults;
mod image;
mod rng;
mod server;
mod story;
mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use disk::Synced;
use story::{Story, Tally};

/// Contents of the disk, no two alike.
fn wanted() -> usize {
    if is_long() { 1_000_000 } else { 50_000 }
}

fn is_long() -> bool {
    std::env::var_os("MUSTER_LONG").is_some()
}

#[test]
fn a_power_cut_at_any_operation_leaves_one_version_of_each_model_that_runs() {
    let (tally, seeds, begun) = (Tally::default(), AtomicU64::new(1), std::time::Instant::now());
    let totals = Mutex::new((0, BTreeMap::<Synced, usize>::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while tally.count() < wanted() {
                    let mut story = Story::new(seeds.fetch_add(1, Ordering::Relaxed), &tally, None);
                    story.tell().unwrap_or_else(|violation| panic!("{violation}"));
                    let mut totals = totals.lock().unwrap();
                    totals.0 += story.checked;
                    for (sync, count) in story.syncs {
                        *totals.1.entry(sync).or_default() += count;
                    }
                }
            });
        }
    });
    let (checked, syncs) = totals.into_inner().unwrap();
    println!(
        "{} distinct crash states, {checked} checks, {} stories, {:.1} s; syncs: {syncs:?}",
        tally.count(),
        seeds.into_inner() - 1,
        begun.elapsed().as_secs_f64()
    );
    assert!(tally.count() >= wanted());
}

/// A killed process leaves its work in the system's memory, where the next one finds it; the power may still fail. It is
/// killed just before every sync, and with `MUSTER_LONG=1` after every operation.
#[test]
fn a_kill_and_then_a_power_cut_lose_nothing() {
    let tally = Tally::default();
    let (syncs, end) = Story::of_good_versions(0, &tally, None).syncs_of_an_update().unwrap();
    let kills = if is_long() { (0..end).collect() } else { syncs };
    for &operations in &kills {
        let mut story = Story::of_good_versions(operations as u64, &tally, None);
        let killed = story.tell_of_a_kill(operations).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(killed, "the story was over before operation {operations}");
    }
    println!("killed at {} of {end} operations: {} distinct crash states", kills.len(), tally.count());
}

/// Without any one of the syncs something is lost that was promised: so the harness sees, and each is needed.
#[test]
fn every_sync_that_is_left_out_is_noticed() {
    let kinds = [
        Synced::LedgerAtStart,
        Synced::Ledger,
        Synced::NewLedger,
        Synced::NewManifest,
        Synced::Artifact,
        Synced::NameOfLedger,
        Synced::NameOfManifest,
        Synced::NameOfArtifact,
        Synced::NameFound,
        Synced::Directory,
    ];
    let mut unnoticed = Vec::new();
    for kind in kinds {
        match noticed(kind) {
            Some((checked, violation)) => {
                println!("{kind:?}: after {checked} checks: {}", violation.lines().next().unwrap());
            }
            None => unnoticed.push(kind),
        }
    }
    assert!(unnoticed.is_empty(), "nobody misses {unnoticed:?}");
}

/// Looks in stories in which nothing is killed, and then in those of a process that is killed before a sync.
fn noticed(kind: Synced) -> Option<(usize, String)> {
    let tally = Tally::default();
    let mut checked = 0;
    for folders_are_lost in [false, true] {
        let mut story = Story::of_good_versions(0, &tally, Some(kind));
        if folders_are_lost {
            story.lose_folders().expect("nothing is checked yet");
        }
        let told = story.tell_of_an_update();
        checked += story.checked;
        if let Err(violation) = told {
            return Some((checked, violation));
        }
    }
    let (syncs, _) = Story::of_good_versions(0, &tally, None).syncs_of_an_update().unwrap();
    for operations in syncs {
        let mut story = Story::of_good_versions(0, &tally, Some(kind));
        let told = story.tell_of_a_kill(operations);
        checked += story.checked;
        if let Err(violation) = told {
            return Some((checked, violation));
        }
    }
    None
}
