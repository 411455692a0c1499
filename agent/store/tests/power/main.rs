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
    if std::env::var_os("MUSTER_LONG").is_some() { 1_000_000 } else { 50_000 }
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
                    eprintln!("{} {} {:?}", story.seed, tally.count(), begun.elapsed());
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

/// Stories in which a missing sync must be noticed.
const CONTROL_STORIES: u64 = 300;

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
            Some((seed, checked, violation)) => {
                println!(
                    "{kind:?}: seed {seed}, after {checked} checks: {}",
                    violation.lines().next().unwrap()
                );
            }
            None => unnoticed.push(kind),
        }
    }
    assert!(unnoticed.is_empty(), "nobody misses {unnoticed:?}");
}

fn noticed(kind: Synced) -> Option<(u64, usize, String)> {
    let (tally, mut checked) = (Tally::default(), 0);
    for seed in 1..=CONTROL_STORIES {
        let mut story = Story::new(seed, &tally, Some(kind));
        let told = story.tell();
        checked += story.checked;
        if let Err(violation) = told {
            return Some((seed, checked, violation));
        }
    }
    None
}
