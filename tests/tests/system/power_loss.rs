//! The power fails in the middle of an update, on real file systems.
//!
//! The agent's data directory lies on a file system whose disk is cloned while it works. Each clone is mounted and
//! judged without the agent's code: the ledger is intact, every byte of the committed version is there, and nothing that
//! the server or an application was told is gone. On a share of them the agent starts and must arrive.
//!
//! A control does the same with an agent whose syncs do nothing. It must be found out, or the judge is worth nothing.
//! Seeds are printed; `MUSTER_SEED` repeats one, and `MUSTER_LONG=1` cuts more than
//! three thousand times.

mod share;

use std::fs;

use system_tests::{
    effort::{long, not_run, seed},
    installed::Installed,
    lanes::{Lane, Lanes},
    power::{FileSystem, Stage},
    random::Random,
    strace::{CHANGES, Call, spread},
};

use share::Share;

/// Cuts at random moments of a normal run, and with `MUSTER_LONG=1`.
const CUTS: (usize, usize) = (40, 2_000);

/// Cuts in the place of a system call.
const CUTS_AT_CALLS: (usize, usize) = (24, 1_200);

/// Calls that do not come in every run, because threads take turns in another order, are missed: the power fails after the
/// update. In the place of its call it must fail in this share of the cuts.
const AT_ITS_CALL_PERCENT: usize = 80;

/// How the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// At random moments.
    AtRandom,
    /// In the place of a system call that changes something on the disk.
    AtCalls,
    /// At random moments, with an agent whose syncs do nothing.
    WithoutSyncs,
}

/// A cut.
#[derive(Debug)]
struct Cut {
    at: Moment,
    finding: Finding,
}

/// Whether the power failed when it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    AsMeant,
    /// The call in whose place it should fail did not come.
    AfterAll,
}

/// What was found after a cut.
#[derive(Debug)]
enum Finding {
    /// Everything is there.
    Fine(Installed),
    /// What is there is not whole.
    Corrupt(String),
    /// Somebody was told what is not there.
    Lost(String),
    /// The agent does not go on from there.
    Stuck(String),
}

#[test]
fn a_power_cut_at_any_moment_of_an_update_corrupts_nothing_and_loses_nothing_that_was_told() {
    let Some(cuts) = cut_the_power(Way::AtRandom, long(CUTS.0, CUTS.1)) else { return };
    assert_all_fine(&cuts);
}

#[test]
fn a_power_cut_at_any_system_call_of_an_update_corrupts_nothing_and_loses_nothing_that_was_told() {
    let Some(cuts) = cut_the_power(Way::AtCalls, long(CUTS_AT_CALLS.0, CUTS_AT_CALLS.1)) else { return };
    assert_all_fine(&cuts);
    let at_its_call = cuts.iter().filter(|cut| cut.at == Moment::AsMeant).count();
    assert!(
        at_its_call * 100 >= cuts.len() * AT_ITS_CALL_PERCENT,
        "only {at_its_call} of {} cuts were made in the place of their call",
        cuts.len()
    );
}

#[test]
fn an_agent_whose_syncs_do_nothing_is_found_out() {
    let Some(cuts) = cut_the_power(Way::WithoutSyncs, CUTS.0) else { return };
    let mut bad = cuts.iter().filter_map(|cut| cut.finding.trouble());
    let first = bad.next().unwrap_or_else(|| panic!("{} cuts and no loss: the judge is blind", cuts.len()));
    eprintln!("for example: {first}");
}

fn assert_all_fine(cuts: &[Cut]) {
    let bad: Vec<&String> = cuts.iter().filter_map(|cut| cut.finding.trouble()).collect();
    assert!(bad.is_empty(), "{} of {} cuts: {bad:#?}", bad.len(), cuts.len());
}

impl Finding {
    fn trouble(&self) -> Option<&String> {
        match self {
            Self::Fine(_) => None,
            Self::Corrupt(what) | Self::Lost(what) | Self::Stuck(what) => Some(what),
        }
    }
}

/// `None` where this machine cannot do it, which the run is told.
fn cut_the_power(way: Way, cuts: usize) -> Option<Vec<Cut>> {
    let stage = Stage::open().map_err(|why| not_run("power cuts on real file systems", &why)).ok()?;
    let mut random = Random::new(seed());
    let able: Vec<FileSystem> = FileSystem::ALL.into_iter().filter(|kind| is_able(*kind, &stage)).collect();
    let mut lanes = Lanes::prepare(able.len());
    let calls = match way {
        Way::AtRandom | Way::WithoutSyncs => Vec::new(),
        Way::AtCalls => changes(&mut lanes.lanes[0]),
    };
    let cuts = cuts.div_ceil(FileSystem::ALL.len());
    let share = |file_system| Share {
        file_system,
        stage: stage.folder().to_owned(),
        way,
        cuts,
        calls: spread(&calls, cuts, &mut random),
        random: Random::new(random.next_number()),
    };
    let shares = able.into_iter().map(share).collect();
    let cuts = lanes.share(shares, |lane, server, share: Share| share.work(lane, server));
    Some(cuts.into_iter().flatten().collect())
}

/// The calls of an update that change something on the disk.
fn changes(lane: &mut Lane) -> Vec<Call> {
    let mut calls = lane.calls(CHANGES);
    calls.retain(|call| call.file.is_some());
    assert!(!calls.is_empty(), "an update changes the disk");
    calls
}

/// A kernel need not know every file system.
fn is_able(file_system: FileSystem, stage: &Stage) -> bool {
    let (image, at) = (stage.folder().join("try.img"), stage.folder().join("try"));
    fs::create_dir_all(&at).unwrap();
    let _ = fs::remove_file(&image);
    let tried = file_system.make(&image).and_then(|()| file_system.mount(&image, &at)?.end());
    if let Err(why) = &tried {
        not_run(&format!("power cuts on {}", file_system.name()), why);
    }
    tried.is_ok()
}
