//! A real `muster-agent` with its own data directory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::{Answer, answer},
    clock::ClockShift,
    digits::Digit,
    http::Target,
    inference::{Inference, Unanswered, infer},
    process::Process,
    programs,
    wait::{PATIENCE, until},
};

/// What is different about a device.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Quota of the store.
    pub store_mib: u64,
    /// Telemetry window.
    pub interval_secs: u32,
    /// Bound of the spool.
    pub spool_kib: u64,
    /// A wrong clock.
    pub clock: Option<ClockShift>,
    /// Another program than the one beside the tests.
    pub program: Option<PathBuf>,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self { store_mib: 256, interval_secs: 1, spool_kib: 16 * 1_024, clock: None, program: None }
    }
}

/// A device that can be enrolled, run, killed and run again.
#[derive(Debug)]
pub struct Device {
    name: String,
    options: DeviceOptions,
    /// Dropped before the folder that holds its log.
    process: Option<Process>,
    scratch: TempDir,
}

impl Device {
    /// A device that knows nothing yet.
    #[must_use]
    pub fn new(name: &str, options: DeviceOptions) -> Self {
        let scratch = tempfile::Builder::new().prefix("muster-device-").tempdir().expect("a scratch folder");
        let device = Self { name: name.to_owned(), options, scratch, process: None };
        device.write_config();
        device
    }

    /// Its name in the fleet.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tries to join the fleet.
    #[must_use]
    pub fn enroll(&self, token: &str) -> Answer {
        self.enroll_with(token, &[])
    }

    /// The same with more options on the command line.
    #[must_use]
    pub fn enroll_with(&self, token: &str, more: &[&str]) -> Answer {
        let mut command = self.agent();
        command
            .args(["enroll", token, "--config"])
            .arg(self.config())
            .args(["--name", &self.name])
            .args(more);
        answer(command)
    }

    /// Changes the options; they count from the next run.
    pub fn change(&mut self, change: impl FnOnce(&mut DeviceOptions)) {
        change(&mut self.options);
        self.write_config();
    }

    /// Starts the agent.
    pub fn run(&mut self) {
        self.run_by(self.agent());
    }

    /// Starts the agent by a command that lacks its arguments: its program, or one that watches it.
    pub fn run_by(&mut self, mut command: Command) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        // Left over from the last run, they would be taken for the next one's.
        let _ = fs::remove_file(self.endpoints_file());
        command.args(["run", "--config"]).arg(self.config());
        self.process = Some(Process::start(&self.name, command, &self.log()));
    }

    /// Ends the agent as a power cut would.
    pub fn kill(&mut self) {
        self.process.take().expect("the device runs").kill();
    }

    /// Ends the agent as an operator would.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("the device runs").stop()
    }

    /// The agent's process; panics while it does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the device runs")
    }

    /// How the agent ended by itself, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process().ended()
    }

    /// The process that runs models, if there is one.
    #[must_use]
    pub fn runner(&self) -> Option<u32> {
        self.process.as_ref()?.children("runner").first().copied()
    }

    /// Where it answers inferences over HTTP; waits until it does.
    #[must_use]
    pub fn http(&self) -> Target {
        let address =
            until("the device serves", PATIENCE, || self.endpoint("http")?.parse::<SocketAddr>().ok());
        Target::Tcp(address)
    }

    /// Where it answers inferences over a Unix socket; waits until it does.
    #[must_use]
    pub fn unix_socket(&self) -> Target {
        Target::Unix(until("the device serves", PATIENCE, || self.endpoint("unix_socket")).into())
    }

    /// Asks `digits` about one image, over HTTP.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn infer(&self, digit: &Digit) -> Result<Inference, Unanswered> {
        infer(&self.http(), "digits", digit)
    }

    /// Asks `digits` about one image if the device serves; none when it is not answered.
    #[must_use]
    pub fn try_infer(&self, digit: &Digit) -> Option<Inference> {
        let address = self.endpoint("http")?.parse::<SocketAddr>().ok()?;
        infer(&Target::Tcp(address), "digits", digit).ok()
    }

    /// Waits until `digits` is answered by `version`.
    #[track_caller]
    pub fn wait_for_version(&self, version: &str, digit: &Digit, within: Duration) {
        let what = format!("{} answers with version {version}", self.name);
        until(&what, within, || self.infer(digit).ok().filter(|answer| answer.version == version));
    }

    /// Keys, ledger and models.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.scratch.path().join("agent.toml")
    }

    /// What the agent says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("agent.log")
    }

    /// Everything the agent said so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        bytes_below(&self.data_dir())
    }

    /// The program, on this device's clock.
    #[must_use]
    pub fn agent(&self) -> Command {
        let mut command = Command::new(self.options.program.clone().unwrap_or_else(programs::muster_agent));
        command.env("NO_COLOR", "1");
        if let Some(clock) = self.options.clock {
            clock.apply(&mut command);
        }
        command
    }

    fn write_config(&self) {
        let DeviceOptions { store_mib, interval_secs, spool_kib, .. } = self.options;
        let text = format!(
            "data_dir = \"{}\"\n\n[serving]\nhttp = \"127.0.0.1:0\"\n\n[telemetry]\ninterval_secs = {interval_secs}\nspool_kib = {spool_kib}\n\n\
             [limits]\nstore_mib = {store_mib}\nspare_mib = 1\n",
            self.data_dir().display()
        );
        fs::write(self.config(), text).expect("the scratch folder is writable");
    }

    fn endpoints_file(&self) -> PathBuf {
        self.data_dir().join("endpoints.json")
    }

    fn endpoint(&self, name: &str) -> Option<String> {
        let endpoints: Value = serde_json::from_slice(&fs::read(self.endpoints_file()).ok()?).ok()?;
        endpoints[name].as_str().map(str::to_owned)
    }
}

/// Files may come and go while they are counted.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}
