//! Examines what the agent needs, from outside of the daemon, and changes nothing.
//!
//! Every check says what it found and, where something is wrong, what to do about it. A *warning* is something that
//! works and deserves a look; a *failure* keeps the agent from its work, now or soon. A check that depends on one that
//! failed is left out, because it could only repeat it.

mod device;
mod fleet;

use std::{fmt, path::Path};

use serde::Serialize;

use crate::{clock, config::Config, identity::Identity};

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works and deserves a look.
    Warn,
    /// It keeps the agent from its work.
    Fail,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was examined; never changes.
    pub name: &'static str,
    /// What was found.
    pub state: State,
    /// In words.
    pub detail: String,
    /// What to do; absent when all is well.
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), advice: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Warn, detail: detail.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Fail, detail: detail.into(), advice: Some(advice.into()) }
    }
}

/// Examines the device on which `config` is the agent's configuration file.
pub async fn examine(config: Option<&Path>) -> Vec<Check> {
    let (mut checks, config) = match Config::load(config) {
        Ok(read) => (vec![Check::ok("configuration", described(config))], read),
        Err(error) => {
            return vec![Check::fail(
                "configuration",
                format!("{error:#}"),
                "correct the file, then ask again",
            )];
        }
    };
    let now = clock::system_now();
    checks.push(device::data_dir(&config.data_dir));
    checks.push(device::system_clock(now));
    checks.push(device::disk(&config));
    checks.push(device::memory());
    checks.push(device::kernel());
    checks.push(device::machine());
    checks.push(fleet::agent(&config).await);
    match Identity::load(&config.data_dir) {
        Ok(identity) => {
            checks.push(Check::ok(
                "identity",
                format!("{}, of the fleet at {}", identity.device, identity.url),
            ));
            checks.push(fleet::certificate(&identity.tls_pem, now));
            checks.push(fleet::server(&identity).await);
        }
        Err(error) => checks.push(Check::fail(
            "identity",
            format!("{error:#}"),
            "enrol the device: `muster enroll token create` on the server, `muster-agent enroll TOKEN` here",
        )),
    }
    checks
}

fn described(config: Option<&Path>) -> String {
    config.map_or_else(|| "no file is given; the defaults hold".to_owned(), |path| path.display().to_string())
}
