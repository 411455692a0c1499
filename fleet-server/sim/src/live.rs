//! Stories for a real server: virtual devices before it, in real time.
//!
//! They are written like a [`Story`](crate::Story). What a network of TCP and a real server make impossible (messages
//! that are lost one by one, a server that is killed in the middle of a turn, made-up sizes of artifacts) is an error
//! that says so; what only a fleet of thousands needs (classes and percentages of devices, outages, what is expected in the
//! end) is new. A [`Rehearsal`] tells the same story in virtual time.

mod act;
mod check;
mod crowd;
mod expect;
mod rehearsal;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de};
use shared::{ReleaseId, RolloutId, device::Labels, maintenance::MaintenanceWindows};
use thiserror::Error;

use crate::{nature::Nature, story::Moment};

pub use act::{LiveAct, LiveTimed, Who};
pub use crowd::{Class, Crowd, Member};
pub use rehearsal::{NoRehearsal, Rehearsal, Rehearsed};

/// Everything that decides how a live run goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveStory {
    /// What it shows, in a sentence.
    pub title: String,
    /// Why anybody cares.
    #[serde(default)]
    pub why: String,
    /// Decides every chance that is ours: which devices a percentage means, and what each of them draws.
    #[serde(default)]
    pub seed: u64,
    /// The fleet, class by class.
    #[serde(rename = "device")]
    pub devices: Vec<LiveDevices>,
    /// What is published.
    #[serde(rename = "release", default)]
    pub releases: Vec<LiveRelease>,
    /// How bad the network is.
    #[serde(default)]
    pub network: LiveNetwork,
    /// Seconds between two telemetry reports of a device, 0 for none.
    #[serde(default = "half_a_minute")]
    pub telemetry_secs: u32,
    /// Seconds between two looks of the server at the metrics, where the run starts the server itself.
    #[serde(default)]
    pub look_secs: Option<u32>,
    /// What happens.
    #[serde(rename = "act", default)]
    pub acts: Vec<LiveTimed>,
    /// When the story is over. It ends before when everything has happened and every rollout is finished.
    pub end: Moment,
    /// What must hold in the end, by the name of the rollout.
    #[serde(default)]
    pub expect: BTreeMap<RolloutId, Expectation>,
    /// Not of this stage.
    #[serde(default, rename = "strict", deserialize_with = "no_oracle")]
    _strict: (),
    /// Not of this stage.
    #[serde(default, rename = "calm", deserialize_with = "no_calm")]
    _calm: (),
}

/// Devices that are alike.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::manual_non_exhaustive, reason = "the private field is a word of the format that is refused")]
pub struct LiveDevices {
    /// Name of the class, and of its devices before `-1`, `-2`, …. They carry it as the label `class`.
    pub name: String,
    /// How many; where the number of all devices is given otherwise, how many of them in proportion.
    #[serde(default = "one")]
    pub count: u32,
    /// Labels beside `class`.
    #[serde(default)]
    pub labels: Labels,
    /// What they run when the story begins; a rollout before it brings it to them.
    #[serde(default)]
    pub runs: Option<ReleaseId>,
    /// Requests that reach their model in a minute.
    #[serde(default = "busy")]
    pub traffic: u32,
    /// Memory that they tell of, in MiB.
    #[serde(default = "gibibyte")]
    pub memory_mib: u64,
    /// How fast they read from their link, in KiB per second; as fast as they can when absent.
    #[serde(default)]
    pub link_kib: Option<u32>,
    /// Whether they do as they say, from the beginning of the story on.
    #[serde(default)]
    pub character: Steady,
    /// How far their clock is ahead, in seconds.
    #[serde(default)]
    pub clock_secs: i64,
    /// When new versions may begin to answer, by the settings of the device.
    #[serde(default)]
    pub maintenance: Option<MaintenanceWindows>,
    /// How far their local time is ahead of UTC, in seconds.
    #[serde(default)]
    pub utc_offset_secs: i32,
    /// Not of this stage.
    #[serde(default, rename = "on", deserialize_with = "no_late_start")]
    _on: (),
}

/// Whether a device does as it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Steady {
    /// It does.
    #[default]
    Honest,
    /// It says hello and nothing more.
    Mute,
}

/// One published release. Its files are those of the demo; how it behaves on virtual devices is decided here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveRelease {
    /// Its name. Versions of a model are numbered from 1 without gaps, as a server numbers them.
    pub release: ReleaseId,
    /// How it behaves.
    #[serde(default)]
    pub nature: Nature,
    /// How it behaves on single devices, or on classes.
    #[serde(default)]
    pub except: BTreeMap<String, Nature>,
    /// How long a device watches it.
    #[serde(default = "ten_minutes")]
    pub probation_secs: u32,
    /// Inferences without which a device does not keep it.
    #[serde(default = "fifty")]
    pub min_inferences: u32,
    /// Not of this stage.
    #[serde(default, rename = "blocks", deserialize_with = "no_size")]
    _blocks: (),
    /// Not of this stage.
    #[serde(default, rename = "size_mib", deserialize_with = "no_size")]
    _size_mib: (),
}

/// How bad the network is, beside what acts do to it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveNetwork {
    /// Blocks that come damaged, in a million.
    pub damage_ppm: u32,
    /// Not of this stage.
    #[serde(rename = "loss_ppm", deserialize_with = "no_loss")]
    _loss: (),
    /// Not of this stage.
    #[serde(rename = "twice_ppm", deserialize_with = "no_loss")]
    _twice: (),
    /// Not of this stage.
    #[serde(rename = "late_ppm", deserialize_with = "no_loss")]
    _late: (),
    /// Not of this stage.
    #[serde(rename = "jitter_ms", deserialize_with = "no_loss")]
    _jitter: (),
}

/// What must hold of a rollout in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expectation {
    /// Where it stands: `completed`, `rolled_back`, `halted`, `paused`, `running`, ….
    pub state: Option<String>,
    /// Percentage of its devices that keep the release, at least.
    pub committed_percent_at_least: Option<u32>,
    /// The same, at most.
    pub committed_percent_at_most: Option<u32>,
}

/// A text is no live story; the message says where and what to write.
#[derive(Debug, Error)]
pub enum NoLiveStory {
    /// It cannot be read.
    #[error("this is no story for a real server: {0}")]
    Unreadable(#[from] toml::de::Error),
    /// It contradicts itself.
    #[error("this story cannot be told: {0}")]
    Contradiction(String),
}

/// Reads a story for a real server.
///
/// # Errors
/// Says what is wrong, where, and what to do.
pub fn read_live_story(text: &str) -> Result<LiveStory, NoLiveStory> {
    let story: LiveStory = toml::from_str(text)?;
    check::check(&story).map_err(NoLiveStory::Contradiction)?;
    Ok(story)
}

impl<'de> Deserialize<'de> for Steady {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "honest" => Ok(Self::Honest),
            "mute" => Ok(Self::Mute),
            "liar" => refuse("liars live only in virtual time, where the oracle knows what is true"),
            other => refuse(format!("'{other}' is no character; write honest or mute")),
        }
    }
}

fn no_oracle<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    refuse("`strict` speaks to the oracle of virtual time; take it out")
}

fn no_calm<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    refuse(
        "`calm` ends the faults of virtual time; give `outage` its `for_secs` and `flap` its `until` instead",
    )
}

fn no_late_start<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    refuse(
        "devices are enrolled before a live story begins; take `on` out, or `cut` them at 0:00 and `reconnect` them later",
    )
}

fn no_size<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    refuse(
        "a real server serves real files, so a live story cannot make up sizes; take `blocks` and `size_mib` out",
    )
}

fn no_loss<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    refuse(
        "TCP loses, repeats and delays no single message; use the acts `outage` and `flap`, or `link_kib` of devices",
    )
}

fn refuse<T, E: de::Error>(why: impl fmt::Display) -> Result<T, E> {
    Err(E::custom(why))
}

fn one() -> u32 {
    1
}

fn busy() -> u32 {
    60
}

fn gibibyte() -> u64 {
    1_024
}

fn half_a_minute() -> u32 {
    30
}

fn ten_minutes() -> u32 {
    600
}

fn fifty() -> u32 {
    50
}

#[cfg(test)]
mod tests;
