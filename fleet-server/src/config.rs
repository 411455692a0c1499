//! Configuration: one TOML file, then variables `MUSTER__SECTION__KEY` on top.
//!
//! Every key has a default that works on one machine, so an empty file is a valid one. A key that does not exist
//! is an error and not ignored: a misspelt limit would otherwise be no limit.

mod drift;
mod error;
mod overlay;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use fleet_core::Selector;
use serde::{Deserialize, Serialize};

pub use drift::Drift;
pub use error::ConfigError;
pub use overlay::Variables;

/// The file with every key, its default and what it means.
pub const DEFAULTS: &str = include_str!("config/defaults.toml");

/// Below this a device could not renew its certificate before it ends; above, a stolen one is good for too long.
const DEVICE_LIFE_SECS: RangeInclusive<u32> = 15..=31_536_000;

/// Everything an operator can set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of keys, database and artifacts.
    pub data_dir: PathBuf,
    /// The HTTPS API.
    pub http: Http,
    /// The MQTT broker inside the server.
    pub mqtt: Mqtt,
    /// The server's certificate.
    pub tls: Tls,
    /// The devices' certificates.
    pub certificates: Certificates,
    /// Where tables live.
    pub database: Database,
    /// What is kept of the devices' figures.
    pub telemetry: TelemetryConfig,
    /// How rollouts are watched and who may start them alone.
    pub rollouts: Rollouts,
    /// How inputs and outputs of models are watched for drift.
    pub drift: Drift,
    /// Bounds that protect the server.
    pub limits: Limits,
}

/// The HTTPS API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address under which devices and people reach the API; made from `listen` when absent.
    pub public_url: Option<String>,
}

/// The MQTT broker inside the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `host:port` under which devices reach the broker; made from `listen` when absent.
    pub public_address: Option<String>,
}

/// The server's certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Names and addresses in the certificate besides localhost and the name of this machine.
    pub names: Vec<String>,
}

/// The devices' certificates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// How long one lasts. Devices renew theirs when two thirds have passed.
    pub device_life_secs: u32,
}

/// Where tables live.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:///path/file.db` or `postgres://user@host/name`; a file in the data directory when absent.
    pub url: Option<String>,
}

/// What is kept of the devices' figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Minute figures are kept this long.
    pub keep_hours: u32,
}

/// How rollouts are watched and who may start them alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollouts {
    /// Time between two looks at the metrics of devices. Telemetry comes every half minute, so less than that would look at
    /// nothing.
    pub look_secs: u32,
    /// Devices that no rollout reaches before somebody other than its author agreed, as selectors.
    pub approval: Vec<Selector>,
}

/// Bounds that protect the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest upload of a model with its files.
    pub upload_mib: u32,
    /// Devices connected at once.
    pub connections: u32,
    /// Bytes of blocks per second to all devices together.
    pub blocks_kib_per_second: u32,
    /// Bytes of blocks per second to one device.
    pub device_blocks_kib_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("muster-data"),
            http: Http::default(),
            mqtt: Mqtt::default(),
            tls: Tls::default(),
            certificates: Certificates::default(),
            database: Database::default(),
            telemetry: TelemetryConfig::default(),
            rollouts: Rollouts::default(),
            drift: Drift::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Http {
    /// Only this machine, until somebody decides who else.
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443), public_url: None }
    }
}

impl Default for Mqtt {
    /// Every interface: devices are elsewhere, and without a certificate nobody gets past the handshake.
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8883), public_address: None }
    }
}

impl Default for Certificates {
    /// Thirty days: a stolen one is worth little, and a device that was off for a week comes back as if nothing was.
    fn default() -> Self {
        Self { device_life_secs: 30 * 86_400 }
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { keep_hours: 48 }
    }
}

impl Default for Rollouts {
    /// A look holds ten reports of each device, and a day of looks is what a verdict learns from.
    fn default() -> Self {
        Self { look_secs: 300, approval: vec![] }
    }
}

impl Default for Limits {
    /// For a fleet of a few thousand devices behind one machine with a gigabit link.
    fn default() -> Self {
        Self {
            upload_mib: 1_024,
            connections: 10_000,
            blocks_kib_per_second: 65_536,
            device_blocks_kib_per_second: 8_192,
        }
    }
}

impl Config {
    /// Reads `file` if there is one, then lays `variables` over it.
    ///
    /// # Errors
    /// Says where the mistake is: file, line and column, or the variable's name.
    pub fn load(file: Option<&Path>, variables: &Variables) -> Result<Self, ConfigError> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        };
        let name = file.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
        Self::parse(&name, &text, variables)
    }

    /// Reads the text of a file called `name`, then lays `variables` over it.
    ///
    /// # Errors
    /// Says where the mistake is: file, line and column, or the variable's name.
    pub fn parse(name: &str, text: &str, variables: &Variables) -> Result<Self, ConfigError> {
        let from_file =
            toml::from_str::<Self>(text).map_err(|error| ConfigError::toml(name, text, &error))?;
        let config = overlay::apply(from_file, text, variables)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types cannot: ranges, and contradictions between keys.
    fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("limits.upload_mib", self.limits.upload_mib),
            ("limits.connections", self.limits.connections),
            ("limits.blocks_kib_per_second", self.limits.blocks_kib_per_second),
            ("limits.device_blocks_kib_per_second", self.limits.device_blocks_kib_per_second),
            ("telemetry.keep_hours", self.telemetry.keep_hours),
            ("rollouts.look_secs", self.rollouts.look_secs),
            ("drift.check_secs", self.drift.check_secs),
            ("drift.keep_minutes_for_hours", self.drift.keep_minutes_for_hours),
            ("drift.keep_hours_for_days", self.drift.keep_hours_for_days),
            ("drift.keep_days_for_days", self.drift.keep_days_for_days),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::value(key, "0", "a number from 1 up"));
        }
        self.drift.check()?;
        let life_secs = self.certificates.device_life_secs;
        if !DEVICE_LIFE_SECS.contains(&life_secs) {
            return Err(ConfigError::value(
                "certificates.device_life_secs",
                &life_secs.to_string(),
                "a number from 15 to 31536000, which is a year",
            ));
        }
        if let Some(url) = self.http.public_url.as_ref().filter(|url| !url.starts_with("https://")) {
            return Err(ConfigError::value(
                "http.public_url",
                url,
                "an address that starts with https://, for example https://fleet.example:8443",
            ));
        }
        let known = |url: &str| ["sqlite:", "postgres:", "postgresql:"].iter().any(|s| url.starts_with(s));
        match &self.database.url {
            Some(url) if !known(url) => Err(ConfigError::value(
                "database.url",
                "another scheme",
                "sqlite:///path/file.db or postgres://user@host/name",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
