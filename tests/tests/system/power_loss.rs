//! The power fails at random moments of an update, on real file systems.
//!
//! The agent's data directory lies on a file system whose disk is cloned while it works. Each clone is mounted and
//! judged without the agent's code: the ledger is intact, every byte of the committed version is there, and nothing that
//! the server or an application was told is gone. On a share of them the agent starts and must arrive.
//!
//! A control does the same with an agent whose syncs do nothing. It must be found out, or the judge is worth nothing.
//! Seeds are printed; `MUSTER_SEED` repeats one, and `MUSTER_LONG=1` cuts two thousand times.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use system_tests::{
    effort::{long, not_run, seed},
    installed::Installed,
    lanes::{Answers, End, Lane, Lanes, NEW, OLD},
    power::{FileSystem, Mount, Stage, cut},
    programs,
    random::Random,
    server::Server,
    strace::without_syncs,
};

/// Cuts of a normal run, and with `MUSTER_LONG=1`.
const CUTS: (usize, usize) = (40, 2_000);

/// When the power fails in one update, in milliseconds at most: half of the cuts fall into its first moments, when most
/// is written, the others anywhere between start and what follows the commit.
const MOMENTS_MS: [usize; 6] = [500, 500, 500, 3_000, 3_000, 3_000];

/// Every so many cuts the agent goes on from there, which takes seconds.
const GOES_ON_EVERY: usize = 4;

/// As long as an update may take.
const ARRIVES_WITHIN: Duration = Duration::from_secs(40);

/// How the agent treats its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Made,
    LeftOut,
}

/// What others knew when the power failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    /// The server has seen this run begin: what it says is not about an earlier one.
    of_this_run: bool,
    /// It was told that the new version is kept, and has acknowledged it.
    kept: bool,
    /// The new version has answered an application.
    answered: bool,
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

/// One file system and its share of the cuts.
struct Share {
    file_system: FileSystem,
    /// Where its images lie.
    stage: PathBuf,
    syncs: Syncs,
    cuts: usize,
    random: Random,
}

#[test]
fn a_power_cut_at_any_moment_of_an_update_corrupts_nothing_and_loses_nothing_that_was_told() {
    let Some(findings) = cut_the_power(Syncs::Made) else { return };
    let bad: Vec<&String> = findings.iter().filter_map(Finding::trouble).collect();
    assert!(bad.is_empty(), "{} of {} cuts: {bad:#?}", bad.len(), findings.len());
}

#[test]
fn an_agent_whose_syncs_do_nothing_is_found_out() {
    let Some(findings) = cut_the_power(Syncs::LeftOut) else { return };
    let mut bad = findings.iter().filter_map(Finding::trouble);
    let first =
        bad.next().unwrap_or_else(|| panic!("{} cuts and no loss: the judge is blind", findings.len()));
    eprintln!("for example: {first}");
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
fn cut_the_power(syncs: Syncs) -> Option<Vec<Finding>> {
    let stage = Stage::open().map_err(|why| not_run("power cuts on real file systems", &why)).ok()?;
    let mut random = Random::new(seed());
    let able: Vec<FileSystem> = FileSystem::ALL.into_iter().filter(|kind| is_able(*kind, &stage)).collect();
    let mut lanes = Lanes::prepare(able.len());
    let share = |file_system| Share {
        file_system,
        stage: stage.folder().to_owned(),
        syncs,
        cuts: long(CUTS.0, CUTS.1).div_ceil(FileSystem::ALL.len()),
        random: Random::new(random.next_number()),
    };
    let shares = able.into_iter().map(share).collect();
    let findings = lanes.share(shares, |lane, server, share: Share| share.work(lane, server));
    Some(findings.into_iter().flatten().collect())
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

impl Share {
    fn work(mut self, lane: &mut Lane, server: &Server) -> Vec<Finding> {
        let base = self.prepare(lane);
        let mut findings = Vec::new();
        while findings.len() < self.cuts {
            for (number, known) in self.update(lane, server, &base).into_iter().enumerate() {
                let goes_on = self.syncs == Syncs::Made && findings.len() % GOES_ON_EVERY == 0;
                let finding = self.judge(lane, &self.image(&number.to_string()), known, goes_on);
                findings.push(finding);
            }
        }
        self.sum_up(&findings);
        findings
    }

    /// An image with the device as it was before the update.
    fn prepare(&self, lane: &Lane) -> PathBuf {
        let (base, data) = (self.image("base"), lane.device.data_dir());
        self.file_system.make(&base).unwrap();
        fs::remove_dir_all(&data).unwrap();
        fs::create_dir(&data).unwrap();
        let mount = self.mount(&base, lane);
        lane.fill(&data);
        mount.end().unwrap();
        base
    }

    /// One update, during which the power fails at random moments; tells what was known at each.
    fn update(&mut self, lane: &mut Lane, server: &Server, base: &Path) -> Vec<Known> {
        let live = self.image("live");
        cut(base, &live).unwrap();
        let mount = self.mount(&live, lane);
        match self.syncs {
            Syncs::Made => lane.device.run(),
            Syncs::LeftOut => {
                let log = self.stage.join("syncs.log");
                lane.device.run_by(without_syncs(&programs::muster_agent(), &log));
            }
        }
        let (mut cuts, mut answers, mut known) = (Vec::new(), Answers::default(), Known::default());
        let name = lane.device.name().to_owned();
        let since = Instant::now();
        for moment in self.moments() {
            let pause = moment.saturating_sub(since.elapsed());
            lane.ask_for(pause, &mut answers, || known.ask(server, &name));
            known.answered = answers.is_new;
            cut(&live, &self.image(&cuts.len().to_string())).unwrap();
            cuts.push(known);
        }
        lane.device.kill();
        mount.end().unwrap();
        cuts
    }

    fn judge(&self, lane: &mut Lane, image: &Path, known: Known, goes_on: bool) -> Finding {
        let mount = match self.file_system.mount(image, &lane.device.data_dir()) {
            Ok(mount) => mount,
            Err(why) => return Finding::Corrupt(why),
        };
        let mut finding = known.compare(lane);
        if goes_on && finding.trouble().is_none() {
            finding = go_on(lane).unwrap_or(finding);
        }
        mount.end().unwrap();
        fs::remove_file(image).unwrap();
        finding
    }

    fn moments(&mut self) -> Vec<Duration> {
        let moments = MOMENTS_MS.map(|latest| Duration::from_millis(self.random.below(latest) as u64));
        let mut moments = moments.to_vec();
        moments.sort_unstable();
        moments
    }

    fn image(&self, name: &str) -> PathBuf {
        self.stage.join(format!("{:?}-{name}.img", self.file_system))
    }

    fn mount(&self, image: &Path, lane: &Lane) -> Mount {
        self.file_system.mount(image, &lane.device.data_dir()).unwrap()
    }

    fn sum_up(&self, findings: &[Finding]) {
        let count = |what: fn(&Finding) -> bool| findings.iter().filter(|finding| what(finding)).count();
        eprintln!(
            "{} with syncs {:?}: {} cuts; whole with the old version {}, with the new one under way {}, kept {}; {} corrupt, \
             {} lost, {} stuck",
            self.file_system.name(),
            self.syncs,
            findings.len(),
            count(|finding| matches!(finding, Finding::Fine(found) if !found.knows(NEW))),
            count(|finding| matches!(finding, Finding::Fine(found) if found.candidate.is_some())),
            count(|finding| matches!(finding, Finding::Fine(found) if found.is_settled_on(NEW))),
            count(|finding| matches!(finding, Finding::Corrupt(_))),
            count(|finding| matches!(finding, Finding::Lost(_))),
            count(|finding| matches!(finding, Finding::Stuck(_))),
        );
    }
}

impl Known {
    /// What the server says of the device. The version that it names is about this run once it has named the old one.
    fn ask(&mut self, server: &Server, device: &str) {
        let shown: Value = server.get(&format!("/api/v1/devices/{device}")).json();
        let committed = shown["models"][0]["committed"].as_str().unwrap_or_default();
        self.of_this_run |= committed == OLD;
        self.kept |= self.of_this_run && committed == NEW;
    }

    /// Everything that was known before the power failed must be on the disk.
    fn compare(self, lane: &Lane) -> Finding {
        let found = match lane.examine() {
            Ok(found) => found,
            Err(damage) => return Finding::Corrupt(damage),
        };
        if self.kept && found.committed.as_deref() != Some(NEW) {
            return Finding::Lost(format!("the server was told that {NEW} is kept; here is {found:?}"));
        }
        if self.answered && !found.knows(NEW) {
            return Finding::Lost(format!("an application was answered by {NEW}; here is {found:?}"));
        }
        Finding::Fine(found)
    }
}

/// Starts the agent on what the cut has left; tells what is wrong.
fn go_on(lane: &mut Lane) -> Option<Finding> {
    lane.device.run();
    let end = lane.follow(ARRIVES_WITHIN, &mut Answers::default());
    lane.device.kill();
    match (end, lane.examine()) {
        (End::Arrived, Ok(_)) => None,
        (End::Arrived, Err(damage)) => Some(Finding::Corrupt(damage)),
        (end, _) => Some(Finding::Stuck(format!("{end:?}\n{}", lane.log()))),
    }
}
