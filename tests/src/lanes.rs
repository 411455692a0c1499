//! Devices at the moment before an update, as often as a test wants it.
//!
//! Each lane is an enrolled device that has committed `digits@1` and was killed, so its sockets lie there still; its data
//! directory is kept. The server has gone on since: it wants `digits@2` on every lane, for good. So whoever puts a lane
//! back and runs its agent sees the whole way from start to commit: fetch, stage, self-test, activate, probation.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    device::Device,
    digits::{Digit, test_images},
    fleet::Fleet,
    inference::Inference,
    installed::{Installed, examine, look},
    models::{Policy, Publication},
    process::tail,
    programs,
    server::Server,
    strace::{self, Call},
    wait::{PATIENCE, try_until, until_true},
};

/// The version from which every run begins.
pub const OLD: &str = "digits@1";

/// The version to which it leads.
pub const NEW: &str = "digits@2";

/// What an agent that was killed could not remove.
const SOCKETS: [&str; 2] = ["serving.sock", "control.sock"];

/// A version that was started in vain before is not given up for a kill that the test makes.
const POLICY: Policy = Policy { max_starts: 20, ..Policy::QUICK };

/// A server and its lanes.
#[derive(Debug)]
pub struct Lanes {
    /// Dropped first, so that the devices end before their server.
    pub lanes: Vec<Lane>,
    /// The server that wants [`NEW`] everywhere.
    pub server: Server,
}

/// A device that can be put back to the moment before the update.
#[derive(Debug)]
pub struct Lane {
    /// The device.
    pub device: Device,
    /// Its data directory as it was then.
    before: PathBuf,
    digit: Digit,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// [`NEW`] answers, is committed, and nothing is under way.
    Arrived,
    /// The agent ended by itself.
    Ended(ExitStatus),
    /// The time was over.
    Late,
}

impl End {
    /// True when somebody killed the agent, as power cuts do.
    #[must_use]
    pub fn is_kill(self) -> bool {
        matches!(self, Self::Ended(status) if status.signal() == Some(9))
    }
}

/// What an application saw of a run: it asks without a pause.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answers {
    last: Option<Instant>,
    /// The longest time between two answers, once there was one, and from the last one to the end of the run. The whole
    /// run, where there was none.
    pub longest_gap: Duration,
    /// True when the new version has answered.
    pub is_new: bool,
    /// How many there were.
    pub count: u64,
}

impl Lanes {
    /// A server with `count` devices that are about to be updated.
    #[must_use]
    pub fn prepare(count: usize) -> Self {
        let mut fleet = Fleet::start(count);
        fleet.bring(&Publication::digits(1));
        let lanes: Vec<Lane> = std::mem::take(&mut fleet.devices).into_iter().map(Lane::keep).collect();
        let release = fleet.publish(&Publication::digits(2).with_policy(POLICY));
        assert_eq!(release, NEW);
        let rollout = fleet.start_rollout(&release);
        let mut lanes = Self { lanes, server: fleet.server };
        lanes.lanes.iter_mut().for_each(|lane| lane.device.run());
        let cli = lanes.server.cli();
        let _ = cli.run(["rollout", "status", &rollout, "--watch", "--timeout", "120s"]).ok();
        lanes.lanes.iter_mut().for_each(|lane| lane.device.kill());
        lanes
    }

    /// Hands `work` out to the lanes, each of which works at it alone; gives the results in no order.
    pub fn share<W: Send, R: Send>(
        &mut self,
        work: Vec<W>,
        each: impl Fn(&mut Lane, &Server, W) -> R + Sync,
    ) -> Vec<R> {
        let server = &self.server;
        let work = Mutex::new(work.into_iter());
        let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
        let labour =
            |lane: &mut Lane| std::iter::from_fn(|| Some(each(lane, server, next()?))).collect::<Vec<R>>();
        thread::scope(|scope| {
            let lanes: Vec<_> = self.lanes.iter_mut().map(|lane| scope.spawn(|| labour(lane))).collect();
            lanes.into_iter().flat_map(|lane| lane.join().expect("a lane does not panic")).collect()
        })
    }
}

impl Lane {
    /// Keeps the data directory of a device that has told everything, as a killed agent leaves it.
    fn keep(mut device: Device) -> Self {
        until_true("the old version is settled and told", PATIENCE, || {
            look(&device.data_dir(), "digits")
                .is_ok_and(|found| found.is_settled_on(OLD) && found.waiting == 0)
        });
        device.kill();
        for socket in SOCKETS {
            assert!(device.data_dir().join(socket).exists(), "a killed agent leaves {socket}");
        }
        let before = device.data_dir().with_file_name("before");
        copy(&device.data_dir(), &before);
        Self { device, before, digit: test_images().swap_remove(0) }
    }

    /// Puts the device back to the moment before the update, with an empty log.
    pub fn put_back(&mut self) {
        let data = self.device.data_dir();
        fs::remove_dir_all(&data).expect("nobody uses the data directory of a device that does not run");
        copy(&self.before, &data);
        let _ = fs::remove_file(self.device.log());
    }

    /// Copies what the device had before the update into a folder.
    pub fn fill(&self, folder: &Path) {
        copy(&self.before.join("."), folder);
    }

    /// The calls of these names in an undisturbed update, in order.
    #[track_caller]
    pub fn calls(&mut self, names: &[&str]) -> Vec<Call> {
        self.put_back();
        let log = self.device.data_dir().with_file_name("calls");
        self.device.run_by(strace::watch(&programs::muster_agent(), names, &log));
        let end = self.follow(PATIENCE, &mut Answers::default(), || {});
        assert_eq!(end, End::Arrived, "{}", self.log());
        self.device.kill();
        strace::calls_in(&log, &self.device.data_dir())
    }

    /// Asks all the time, until [`NEW`] is kept and answers, or the agent has ended; lets somebody else look on.
    pub fn follow(&mut self, within: Duration, answers: &mut Answers, mut also: impl FnMut()) -> End {
        let since = Instant::now();
        let end = try_until(within, || {
            answers.ask(&self.device, &self.digit);
            also();
            if let Some(status) = self.device.ended() {
                return Some(End::Ended(status));
            }
            (answers.is_new && self.has_arrived()).then_some(End::Arrived)
        });
        answers.finish(since);
        end.unwrap_or(End::Late)
    }

    /// Asks all the time for this long, and lets somebody else look on.
    pub fn ask_for(&mut self, during: Duration, answers: &mut Answers, mut also: impl FnMut()) {
        let _: Option<()> = try_until(during, || {
            answers.ask(&self.device, &self.digit);
            also();
            None
        });
    }

    /// True when [`NEW`] is committed and nothing is under way.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        look(&self.device.data_dir(), "digits").is_ok_and(|found| found.is_settled_on(NEW))
    }

    /// What the disk holds, which must be whole.
    ///
    /// # Errors
    /// What is damaged or missing, in words.
    pub fn examine(&self) -> Result<Installed, String> {
        examine(&self.device.data_dir(), "digits")
    }

    /// The end of the agent's log, for a failure report.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.device.log())
    }
}

impl Answers {
    fn ask(&mut self, device: &Device, digit: &Digit) {
        let Some(Inference { version, .. }) = device.try_infer(digit) else { return };
        let now = Instant::now();
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.last = Some(now);
        self.is_new |= NEW.ends_with(&format!("@{version}"));
        self.count += 1;
    }

    /// A silence that nothing ended counts as well.
    fn finish(&mut self, began: Instant) {
        let silence = self.last.unwrap_or(began).elapsed();
        self.longest_gap = self.longest_gap.max(silence);
    }
}

/// With owners, modes and times, as a device would be imaged.
fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    let status = command.args(["-a", "--reflink=auto"]).arg(from).arg(to).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot copy {} to {}",
        from.display(),
        to.display()
    );
}
