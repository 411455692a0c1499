//! The agent's configuration: one TOML file. What is absent has a default; what is unknown is an error.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use serde::Deserialize;
use shared::maintenance::{MaintenanceWindow, MaintenanceWindows};

/// Where the agent lives when nobody says otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/muster-agent";

/// Everything an operator can set on a device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Identity, ledger and models live here; only the agent needs access.
    pub data_dir: PathBuf,
    /// How applications reach the models.
    pub serving: Serving,
    /// What is told to the server, and how often.
    pub telemetry: Telemetry,
    /// How much of the device the agent may use.
    pub limits: Limits,
    /// When new versions may begin to answer.
    pub maintenance: Maintenance,
}

/// How applications on the device ask for inferences.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serving {
    /// Loopback address of the Open Inference Protocol; port 0 takes a free one.
    pub http: SocketAddr,
    /// Unix socket of the same protocol; `serving.sock` in the data directory by default.
    pub unix_socket: Option<PathBuf>,
}

/// Telemetry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Length of a window in seconds.
    pub interval_secs: u32,
    /// Windows that wait for the server take at most this much of the disk; the oldest go first.
    pub spool_kib: u64,
}

/// Bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Models, packed and unpacked, may take this much of the file system.
    pub store_mib: u64,
    /// This much of the file system stays free whatever is asked for, so that state can always be written.
    pub spare_mib: u64,
}

/// When new versions may begin to answer, where the server does not say so.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Maintenance {
    /// For example `["Mon-Fri 22:00-05:00", "Sat,Sun 00:00-24:00"]`, in local time; at any time when there is none.
    pub windows: Vec<MaintenanceWindow>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(DEFAULT_DATA_DIR),
            serving: Serving::default(),
            telemetry: Telemetry::default(),
            limits: Limits::default(),
            maintenance: Maintenance::default(),
        }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Self { http: SocketAddr::from(([127, 0, 0, 1], 8_080)), unix_socket: None }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { interval_secs: 30, spool_kib: 16 * 1_024 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { store_mib: 2_048, spare_mib: 16 }
    }
}

impl Config {
    /// Reads `path`, or takes the defaults when none is given.
    ///
    /// # Errors
    /// When the file cannot be read, with line, column and what was expected when it is not a configuration,
    /// and when a value lies outside its range.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self = toml::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        config.check().with_context(|| format!("{} is not usable", path.display()))?;
        Ok(config)
    }

    /// Path of the Unix socket.
    #[must_use]
    pub fn unix_socket(&self) -> PathBuf {
        self.serving.unix_socket.clone().unwrap_or_else(|| self.data_dir.join("serving.sock"))
    }

    /// The windows, if there are any.
    #[must_use]
    pub fn maintenance(&self) -> Option<MaintenanceWindows> {
        MaintenanceWindows::new(self.maintenance.windows.clone()).ok()
    }

    fn check(&self) -> anyhow::Result<()> {
        let interval = self.telemetry.interval_secs;
        if !(1..=3_600).contains(&interval) {
            return Err(anyhow!("telemetry.interval_secs is {interval}; allowed are 1 to 3600"));
        }
        if !self.maintenance.windows.is_empty() {
            MaintenanceWindows::new(self.maintenance.windows.clone())
                .map_err(|error| anyhow!("maintenance.windows: {error}"))?;
        }
        let spool_kib = self.telemetry.spool_kib;
        if !(16..=1_048_576).contains(&spool_kib) {
            return Err(anyhow!("telemetry.spool_kib is {spool_kib}; allowed are 16 to 1048576"));
        }
        if !self.serving.http.ip().is_loopback() {
            let http = self.serving.http;
            return Err(anyhow!(
                "serving.http is {http}; inference is served on loopback only, for example 127.0.0.1:8080"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path))
    }

    #[test]
    fn a_typo_is_answered_with_its_line_and_the_known_names() {
        let error = format!("{:#}", load("[serving]\nhtp = \"127.0.0.1:1\"\n").unwrap_err());
        assert!(
            error.contains("line 2") && error.contains("htp") && error.contains("unix_socket"),
            "{error}"
        );
    }

    #[test]
    fn inference_is_never_served_to_the_network() {
        assert!(load("[serving]\nhttp = \"0.0.0.0:8080\"\n").is_err());
        assert!(load("[serving]\nhttp = \"[::1]:0\"\n").is_ok());
    }

    #[test]
    fn a_window_is_read_and_a_wrong_one_is_answered_with_what_was_expected() {
        let config = load("[maintenance]\nwindows = [\"Mon-Fri 22:00-05:00\"]\n").unwrap();
        assert_eq!(config.maintenance().unwrap().to_string(), "Mon-Fri 22:00-05:00");
        let error = format!("{:#}", load("[maintenance]\nwindows = [\"Mo 22-05\"]\n").unwrap_err());
        let words = ["line 2", "'Mo' is not one of", "for example 'Mon-Fri 22:00-05:00'"];
        assert!(words.iter().all(|words| error.contains(words)), "{error}");
        let many = vec!["\"Daily 01:00-02:00\""; 17].join(",");
        let error = format!("{:#}", load(&format!("[maintenance]\nwindows = [{many}]\n")).unwrap_err());
        assert!(error.contains("17 maintenance windows"), "{error}");
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        assert_eq!(load("").unwrap().telemetry.interval_secs, 30);
    }
}
