//! One file system with its share of the cuts.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use system_tests::{
    device::Device,
    lanes::{Answers, End, Lane, NEW, OLD},
    power::{FileSystem, Mount, cut},
    programs,
    random::Random,
    server::Server,
    strace::{Blow, Call, strike, without_syncs},
    wait::{PATIENCE, until_true},
};

use super::{Cut, Finding, Moment, Way};

/// When the power fails in one update, in milliseconds at most: half of the cuts fall into its first moments, when most
/// is written, the others anywhere between start and what follows the commit.
const MOMENTS_MS: [usize; 6] = [500, 500, 500, 3_000, 3_000, 3_000];

/// Every so many cuts the agent goes on from there, which takes seconds.
const GOES_ON_EVERY: usize = 4;

/// As long as an update may take.
const ARRIVES_WITHIN: Duration = Duration::from_secs(40);

/// One file system and its share of the cuts.
pub(super) struct Share {
    pub(super) file_system: FileSystem,
    /// Where its images lie.
    pub(super) stage: PathBuf,
    pub(super) way: Way,
    pub(super) cuts: usize,
    /// Where the power fails, one in each update: as many as cuts where that is the way.
    pub(super) calls: Vec<Call>,
    pub(super) random: Random,
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

impl Share {
    /// Cuts, judges and sums up.
    pub(super) fn work(mut self, lane: &mut Lane, server: &Server) -> Vec<Cut> {
        let base = self.prepare(lane);
        let mut cuts = Vec::new();
        while cuts.len() < self.cuts {
            for (number, (at, known)) in self.update(lane, server, &base).into_iter().enumerate() {
                let goes_on = self.way != Way::WithoutSyncs && cuts.len() % GOES_ON_EVERY == 0;
                let finding = self.judge(lane, &self.image(&number.to_string()), known, goes_on);
                cuts.push(Cut { at, finding });
            }
        }
        self.sum_up(&cuts);
        cuts
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

    /// One update, during which the power fails; tells what was known at each cut.
    fn update(&mut self, lane: &mut Lane, server: &Server, base: &Path) -> Vec<(Moment, Known)> {
        let name = lane.device.name().to_owned();
        until_true("the server has heard the end of the last run", PATIENCE, || {
            shown(server, &name)["connected"] == false
        });
        let live = self.image("live");
        cut(base, &live).unwrap();
        let mount = self.mount(&live, lane);
        let cuts = match self.way {
            Way::AtCalls => vec![self.at_call(lane, server, &live)],
            Way::AtRandom => self.at_random(lane, server, &live, Device::run),
            Way::WithoutSyncs => {
                let command = without_syncs(&programs::muster_agent(), &self.log());
                self.at_random(lane, server, &live, |device| device.run_by(command))
            }
        };
        lane.device.kill();
        mount.end().unwrap();
        cuts
    }

    /// The power fails again and again while one agent works.
    fn at_random(
        &mut self,
        lane: &mut Lane,
        server: &Server,
        live: &Path,
        start: impl FnOnce(&mut Device),
    ) -> Vec<(Moment, Known)> {
        start(&mut lane.device);
        let (mut cuts, mut answers, mut known) = (Vec::new(), Answers::default(), Known::default());
        let (name, since) = (lane.device.name().to_owned(), Instant::now());
        for moment in self.random_moments() {
            let pause = moment.saturating_sub(since.elapsed());
            lane.ask_for(pause, &mut answers, || known.ask(server, &name));
            known.answered = answers.is_new;
            cut(live, &self.image(&cuts.len().to_string())).unwrap();
            cuts.push((Moment::AsMeant, known));
        }
        cuts
    }

    /// The power fails in the place of a system call: the agent is killed there, and what the kernel still holds in
    /// memory is not in the clone. Where the call does not come, it fails at the end.
    fn at_call(&mut self, lane: &mut Lane, server: &Server, live: &Path) -> (Moment, Known) {
        let call = self.calls.pop().expect("there are as many calls as cuts");
        let (agent, data) = (programs::muster_agent(), lane.device.data_dir());
        lane.device.run_by(strike(&agent, &data, &call, Blow::Kill, &self.log()));
        let (mut answers, mut known) = (Answers::default(), Known::default());
        let name = lane.device.name().to_owned();
        let end = lane.follow(ARRIVES_WITHIN, &mut answers, || known.ask(server, &name));
        known.answered = answers.is_new;
        cut(live, &self.image("0")).unwrap();
        let at = if end.is_kill() { Moment::AsMeant } else { Moment::AfterAll };
        (at, known)
    }

    fn log(&self) -> PathBuf {
        self.stage.join(format!("{:?}.strace", self.file_system))
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

    fn random_moments(&mut self) -> Vec<Duration> {
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

    fn sum_up(&self, cuts: &[Cut]) {
        let count = |what: fn(&Finding) -> bool| cuts.iter().filter(|cut| what(&cut.finding)).count();
        eprintln!(
            "{} {:?}: {} cuts, {} of them as meant; whole with the old version {}, with the new one under way {}, kept {}; {} corrupt, \
             {} lost, {} stuck",
            self.file_system.name(),
            self.way,
            cuts.len(),
            cuts.iter().filter(|cut| cut.at == Moment::AsMeant).count(),
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
        let shown = shown(server, device);
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

fn shown(server: &Server, device: &str) -> Value {
    server.get(&format!("/api/v1/devices/{device}")).json()
}

/// Starts the agent on what the cut has left; tells what is wrong.
fn go_on(lane: &mut Lane) -> Option<Finding> {
    lane.device.run();
    let end = lane.follow(ARRIVES_WITHIN, &mut Answers::default(), || {});
    lane.device.kill();
    match (end, lane.examine()) {
        (End::Arrived, Ok(_)) => None,
        (End::Arrived, Err(damage)) => Some(Finding::Corrupt(damage)),
        (end, _) => Some(Finding::Stuck(format!("{end:?}\n{}", lane.log()))),
    }
}
