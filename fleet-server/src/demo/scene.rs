//! The scene: one folder, one server, some devices, all of them real processes.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use thiserror::Error;
use tokio::{process::Command, time::sleep};

use super::process::Process;

/// Seconds between two checks for drift: a few windows of every device.
const DRIFT_CHECK_SECS: u64 = 3;

/// Seconds for which a device counts nothing after an alarm: the next incident follows soon.
const DRIFT_SUPPRESS_SECS: u64 = 6;

/// How often a condition is looked at while the demo waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Longest path of a Unix socket on Linux.
const MAX_SOCKET_PATH: usize = 107;

/// What was waited for did not happen in time, or never can.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct Missed {
    /// What did not happen.
    pub what: String,
    /// Whose log may say why.
    pub log: PathBuf,
}

/// A folder that goes with the demo unless somebody asked for it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// Makes the folder: `wanted`, which is kept, or a fresh one among the temporary files whose name begins with `program`.
    ///
    /// # Errors
    /// When it cannot be made, or is there already and not empty.
    pub fn make(wanted: Option<&Path>, program: &str) -> anyhow::Result<Self> {
        let kept = wanted.is_some();
        let path = match wanted {
            Some(path) => std::path::absolute(path).context("cannot find the current folder")?,
            None => std::env::temp_dir()
                .join(format!("{program}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8])),
        };
        if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} is not empty; give --dir a folder that is, or one that does not exist", path.display());
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, kept })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it stays when the demo ends.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // A file that cannot be removed is left to whoever cleans temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Where the server answers, as it says itself.
#[derive(Debug, Clone, Deserialize)]
pub struct ServerEndpoints {
    /// Address of the API.
    pub url: String,
    /// `host:port` of the broker.
    pub mqtt_address: String,
}

/// Where a device answers, as its agent says itself.
#[derive(Debug, Clone, Deserialize)]
pub struct DeviceEndpoints {
    /// `host:port` of the Open Inference Protocol on loopback.
    pub http: String,
    /// The same on a Unix socket.
    pub unix_socket: PathBuf,
}

/// Everything that runs. Fields are dropped from top to bottom: devices, server, folder.
#[derive(Debug)]
pub struct Scene {
    /// The devices' agents, by name.
    pub devices: Vec<Process>,
    /// The server.
    pub server: Option<Process>,
    /// Where all of it lives.
    pub folder: Folder,
    agent: PathBuf,
}

impl Scene {
    /// Finds the programs and makes the folder.
    ///
    /// # Errors
    /// When the agent was not built or the folder cannot be made.
    pub fn open(wanted: Option<&Path>) -> anyhow::Result<Self> {
        let agent = own_program()?.with_file_name("muster-agent");
        ensure!(
            agent.is_file(),
            "there is no {}; build the whole workspace: cargo build --release",
            agent.display()
        );
        let folder = Folder::make(wanted, "muster-demo")?;
        let longest = folder.path().join("cam-99/runner.sock");
        ensure!(
            longest.as_os_str().len() <= MAX_SOCKET_PATH,
            "{} is too long a path for Unix sockets; give --dir a shorter one",
            folder.path().display()
        );
        Ok(Self { devices: Vec::new(), server: None, folder, agent })
    }

    /// The server's folder.
    #[must_use]
    pub fn server_dir(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    /// The folder of a device.
    #[must_use]
    pub fn device_dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How the command line reaches the server as its administrator.
    #[must_use]
    pub fn context_file(&self) -> PathBuf {
        self.server_dir().join("admin-context.toml")
    }

    /// The log of a device or of the server.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_server(&mut self) -> anyhow::Result<()> {
        let config = self.folder.path().join("muster.toml");
        let data_dir = toml_text(&self.server_dir())?;
        write(
            &config,
            &format!(
                "data_dir = {data_dir}\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n[mqtt]\nlisten = \"127.0.0.1:0\"\n\n\
                 [drift]\ncheck_secs = {DRIFT_CHECK_SECS}\nsuppress_secs = {DRIFT_SUPPRESS_SECS}\n"
            ),
        )?;
        let mut command = Command::new(own_program()?);
        command.args(["serve", "--config"]).arg(&config);
        self.server = Some(Process::start("the server", command, self.log("server"))?);
        Ok(())
    }

    /// Writes the configuration of a device and joins it to the fleet.
    ///
    /// # Errors
    /// With the agent's own words when it fails.
    pub async fn enrol(&self, name: &str, token: &str) -> anyhow::Result<()> {
        let config = self.device_config(name);
        let data_dir = toml_text(&self.device_dir(name))?;
        write(
            &config,
            &format!(
                "data_dir = {data_dir}\n\n[serving]\nhttp = \"127.0.0.1:0\"\n\n[telemetry]\ninterval_secs = 1\n"
            ),
        )?;
        let mut command = Command::new(&self.agent);
        command.args(["enroll", token, "--name", name, "--config"]).arg(&config);
        let mut process = Process::start(name, command, self.log(name))?;
        let status = process.wait().await?;
        if status.success() {
            return Ok(());
        }
        Err(Missed { what: format!("{name} could not join the fleet ({status})"), log: self.log(name) }
            .into())
    }

    /// Starts the agent of a device.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_device(&mut self, name: &str) -> anyhow::Result<()> {
        let mut command = Command::new(&self.agent);
        command.args(["run", "--config"]).arg(self.device_config(name));
        self.devices.push(Process::start(name, command, self.log(name))?);
        Ok(())
    }

    /// Waits until `probe` finds something, while every process must live.
    ///
    /// # Errors
    /// [`Missed`] when `patience` is over or a process ended, and what `probe` fails with.
    pub async fn until<T>(
        &mut self,
        (what, log): (&str, &str),
        patience: Duration,
        mut probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let looked = probe().await;
            // A process that ended explains why the probe failed better than the probe does.
            self.check_alive()?;
            if let Some(found) = looked.with_context(|| format!("while waiting until {what}"))? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let what = format!("{what}: not within {} s", patience.as_secs());
                return Err(Missed { what, log: self.log(log) }.into());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Stops the devices, then the server.
    pub async fn stop(mut self) -> Folder {
        futures_util::future::join_all(self.devices.drain(..).map(Process::stop)).await;
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        self.folder
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        for process in self.devices.iter_mut().chain(&mut self.server) {
            if let Some(status) = process.ended() {
                let what = format!("{} ended unexpectedly ({status})", process.name());
                return Err(Missed { what, log: process.log().to_owned() }.into());
            }
        }
        Ok(())
    }

    fn device_config(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.toml"))
    }
}

/// Reads a file of JSON that another process writes, once it is there and whole.
#[must_use]
pub fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The file of this program, which is also the server.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// A path as TOML writes it.
pub(crate) fn toml_text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not valid text", path.display()))?;
    Ok(toml::Value::from(text).to_string())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
