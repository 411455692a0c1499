//! What PostgreSQL itself spends on processors, where it runs on this machine.

use std::fs;

use anyhow::{Context as _, ensure};
use system_tests::database::{Database, POSTGRES};

use crate::measure::{Stat, cpu_seconds};

/// One process of every PostgreSQL that neither comes nor goes while it runs; the parent of all is its parent.
const CHECKPOINTER: &str =
    "SELECT CAST(pid AS BIGINT) FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

/// The process from which all others of a PostgreSQL come.
#[derive(Debug)]
pub struct Postmaster(u32);

impl Postmaster {
    /// The one of this database; an error where it is on another machine.
    pub fn of(database: &Database) -> anyhow::Result<Self> {
        let found = database.numbers(CHECKPOINTER);
        let checkpointer = u32::try_from(*found.first().context("PostgreSQL names no checkpointer")?)?;
        let postmaster = Stat::of(checkpointer).map_or(0, |stat| stat.parent);
        let is_here = Stat::of(postmaster).is_ok_and(|stat| stat.name == "postgres");
        ensure!(
            is_here,
            "PostgreSQL's process {checkpointer} is not on this machine, whose processors are measured: start one here (tests/setup/postgres.sh), or leave {POSTGRES} out"
        );
        Ok(Self(postmaster))
    }

    /// Seconds that it, its children and those that have ended spent on processors.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut seconds = cpu_seconds(self.0)? + Stat::of(self.0)?.ended_seconds;
        for pid in children(self.0)? {
            // One that ended just now is among the ended ones of the next look.
            seconds += cpu_seconds(pid).unwrap_or_default();
        }
        Ok(seconds)
    }
}

fn children(parent: u32) -> anyhow::Result<Vec<u32>> {
    let pids =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter(|pid| Stat::of(*pid).is_ok_and(|stat| stat.parent == parent)).collect())
}
