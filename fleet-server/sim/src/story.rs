//! A story: who there is, what is published, and what happens when. A seed makes one up, and a person writes one down.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use fleet_core::{Selector, Strategy};
use muster_sketch::detector::Scope;
use serde::{Deserialize, Serialize};
use shared::{
    DeviceId, ModelName, ReleaseId, RolloutId, Timestamp, device::Labels, maintenance::MaintenanceWindows,
};

use crate::nature::Nature;

/// When every story begins: 2026-03-02 00:00 UTC, a Monday.
pub const BEGIN: Timestamp = Timestamp(1_772_409_600_000);

/// Everything that decides how a world goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    /// What it shows, in a sentence.
    pub title: String,
    /// Why anybody cares.
    #[serde(default)]
    pub why: String,
    /// Decides every chance.
    #[serde(default)]
    pub seed: u64,
    /// The fleet.
    #[serde(rename = "device")]
    pub devices: Vec<DeviceStory>,
    /// What is published.
    #[serde(rename = "release")]
    pub releases: Vec<ReleaseStory>,
    /// Whether devices tell how far their inputs are from the reference.
    #[serde(default)]
    pub drift: bool,
    /// Seconds after which a version on probation tells again what it answered: enough that a day of a fleet is short.
    #[serde(default = "twenty")]
    pub tells_secs: u32,
    /// Seconds between two looks of the server at the metrics.
    #[serde(default = "five_minutes")]
    pub look_secs: u32,
    /// How bad the network is until calm.
    #[serde(default)]
    pub network: Network,
    /// What happens.
    #[serde(rename = "act", default)]
    pub acts: Vec<Timed>,
    /// When faults cease: the network is perfect, clocks are right, who can connect does. Never, unless it is said.
    #[serde(default)]
    pub calm: Option<Moment>,
    /// When the story is over.
    pub end: Moment,
}

impl Story {
    /// True when a rollout of it compares metrics.
    #[must_use]
    pub fn compares_metrics(&self) -> bool {
        let compares = |act: &Act| matches!(act, Act::Start { strategy, .. } if strategy.metrics.is_some());
        self.acts.iter().any(|timed| compares(&timed.act))
    }
}

/// One device, or several alike.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceStory {
    /// Its name; with `count`, the name before `-1`, `-2`, ….
    pub name: String,
    /// How many.
    #[serde(default)]
    pub count: Option<u32>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// What it keeps when the story begins.
    #[serde(default)]
    pub runs: Option<ReleaseId>,
    /// Requests that reach its model in a minute.
    #[serde(default = "busy")]
    pub traffic: u32,
    /// Memory that it tells of, in MiB.
    #[serde(default = "gibibyte")]
    pub memory_mib: u64,
    /// How fast its link is, in KiB per second.
    #[serde(default = "fast")]
    pub link_kib: u64,
    /// When it is first switched on.
    #[serde(default)]
    pub on: Moment,
    /// Whether it does as it says.
    #[serde(default)]
    pub character: Character,
    /// How far its clock is ahead, in seconds.
    #[serde(default)]
    pub clock_secs: i64,
    /// When new versions may begin to answer, by the settings of the device.
    #[serde(default)]
    pub maintenance: Option<MaintenanceWindows>,
    /// How far its local time is ahead of UTC, in seconds.
    #[serde(default)]
    pub utc_offset_secs: i32,
}

/// Whether a device does as it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Character {
    /// It does.
    #[default]
    Honest,
    /// It says hello and nothing more.
    Mute,
    /// It reports whatever it likes, signed by its own key.
    Liar,
}

/// One published release.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseStory {
    /// Its name.
    pub release: ReleaseId,
    /// How it behaves.
    #[serde(default)]
    pub nature: Nature,
    /// How it behaves on single devices.
    #[serde(default)]
    pub except: BTreeMap<DeviceId, Nature>,
    /// Blocks to fetch.
    #[serde(default = "few")]
    pub blocks: u32,
    /// Size of the unpacked model in MiB, if it is larger than its blocks.
    #[serde(default)]
    pub size_mib: u64,
    /// How long a device watches it.
    #[serde(default = "ten_minutes")]
    pub probation_secs: u32,
    /// Inferences without which a device does not keep it.
    #[serde(default = "fifty")]
    pub min_inferences: u32,
}

/// How bad the network is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Messages lost, in a million. The link of a lost message breaks soon after, as one of TCP does.
    pub loss_ppm: u32,
    /// Messages that come twice, in a million.
    pub twice_ppm: u32,
    /// Messages that come late, in a million: up to five minutes, behind others that were sent later.
    pub late_ppm: u32,
    /// Blocks that come damaged, in a million.
    pub damage_ppm: u32,
    /// How much longer than its least time a message takes at most, in milliseconds.
    pub jitter_ms: u64,
}

/// Something that happens at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Timed {
    /// When.
    pub at: Moment,
    /// What.
    #[serde(flatten)]
    pub act: Act,
}

/// Something that happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Act {
    /// A person starts a rollout.
    Start {
        /// Its name.
        rollout: RolloutId,
        /// What to bring.
        release: ReleaseId,
        /// To whom.
        #[serde(default)]
        devices: Selector,
        /// How.
        #[serde(default)]
        strategy: Box<Strategy>,
    },
    /// A person pauses it.
    Pause {
        /// Which.
        rollout: RolloutId,
    },
    /// A person lets it go on.
    Resume {
        /// Which.
        rollout: RolloutId,
    },
    /// Somebody agrees that the wave that waits for it is asked.
    Approve {
        /// Which.
        rollout: RolloutId,
        /// Who.
        by: String,
    },
    /// A person lets the wave under way pass.
    Promote {
        /// Which.
        rollout: RolloutId,
    },
    /// A person wants devices that failed or fell silent to be asked again.
    Retry {
        /// Which.
        rollout: RolloutId,
    },
    /// From now on nobody new is asked, by any rollout.
    Freeze {
        /// Whom it concerns; everybody when absent.
        #[serde(default)]
        devices: Option<BTreeSet<DeviceId>>,
        /// Until when.
        until: Moment,
        /// Why.
        reason: String,
    },
    /// A person stops it for good.
    Halt {
        /// Which.
        rollout: RolloutId,
    },
    /// A person takes the release away again.
    RollBack {
        /// Which.
        rollout: RolloutId,
    },
    /// A person takes devices out of every rollout, or lets them in again.
    Quarantine {
        /// Which.
        devices: Vec<DeviceId>,
        /// Out or in.
        #[serde(default)]
        lifted: bool,
    },
    /// A person wants devices to keep the version of a model that they have, or no longer.
    Pin {
        /// Which.
        devices: Vec<DeviceId>,
        /// Of what.
        model: ModelName,
        /// Whether pins are taken off.
        #[serde(default)]
        lifted: bool,
    },
    /// The server's check finds that a release drifts.
    DriftAlarm {
        /// Which.
        release: ReleaseId,
        /// Of which feature.
        #[serde(default = "brightness")]
        feature: String,
        /// Who moved.
        scope: Scope,
        /// Devices with other releases that were counted too.
        #[serde(default)]
        others: usize,
    },
    /// Links break and do not come back.
    Cut {
        /// Whose.
        devices: Vec<DeviceId>,
    },
    /// Links that were cut come back.
    Reconnect {
        /// Whose.
        devices: Vec<DeviceId>,
    },
    /// Links break again and again.
    Flap {
        /// Whose.
        devices: Vec<DeviceId>,
        /// From one break to the next, half as much more or less by chance.
        every_secs: u64,
        /// How long a link is down each time.
        down_secs: u64,
        /// Until when, or until calm.
        until: Moment,
    },
    /// Power fails for half a minute, after this many more effects.
    PowerCut {
        /// Whose.
        devices: Vec<DeviceId>,
        /// How many.
        #[serde(default)]
        after_effects: u32,
    },
    /// The agent is stopped and started in order.
    Restart {
        /// Whose.
        devices: Vec<DeviceId>,
    },
    /// They are never heard of again.
    Die {
        /// Which.
        devices: Vec<DeviceId>,
    },
    /// They say hello and nothing more from now on.
    Mute {
        /// Which.
        devices: Vec<DeviceId>,
    },
    /// At their next start their clock is this far ahead.
    Clock {
        /// Whose.
        devices: Vec<DeviceId>,
        /// In seconds; negative when it is behind.
        ahead_secs: i64,
    },
    /// From their next hello on their local time is this far ahead of UTC.
    LocalTime {
        /// Whose.
        devices: Vec<DeviceId>,
        /// In seconds.
        utc_offset_secs: i32,
    },
    /// Their runner is killed, by the system and not by a model.
    KillRunner {
        /// Whose.
        devices: Vec<DeviceId>,
    },
    /// The disk changes the models that they keep, and their runner has to load them anew.
    DamageDisk {
        /// Whose.
        devices: Vec<DeviceId>,
    },
    /// From now on this many requests reach their model in a minute.
    Traffic {
        /// Whose.
        devices: Vec<DeviceId>,
        /// How many.
        per_minute: u32,
    },
    /// The server is away and starts again from what it has stored.
    StopServer {
        /// For how long.
        for_secs: u64,
    },
    /// The server dies in the middle of the next turn that changes anything.
    KillServer {
        /// Whether the turn had been stored.
        stored: bool,
    },
    /// At its next start the clock of the server differs by this much.
    ServerClock {
        /// In seconds; negative when it is set back.
        ahead_secs: i64,
    },
}

/// Time since the beginning, written `H:MM` or `H:MM:SS`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment {
    /// Seconds since the beginning.
    pub secs: u64,
}

impl Moment {
    /// So many seconds after the beginning.
    #[must_use]
    pub fn of_secs(secs: u64) -> Self {
        Self { secs }
    }

    /// The moment on the clock of the world.
    #[must_use]
    pub fn on_clock(self) -> Timestamp {
        Timestamp(BEGIN.0.saturating_add(self.secs.saturating_mul(1_000)))
    }

    /// How long after the beginning this is.
    #[must_use]
    pub fn of(now: Timestamp) -> Self {
        Self::between(BEGIN, now)
    }

    /// How long after `begin` the moment `now` is; none when it is before.
    #[must_use]
    pub fn between(begin: Timestamp, now: Timestamp) -> Self {
        Self { secs: now.since(begin).as_secs() }
    }
}

impl TryFrom<String> for Moment {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no moment: write H:MM or H:MM:SS since the beginning");
        let numbers: Vec<u64> =
            text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        match numbers[..] {
            [hours, minutes] if minutes < 60 => Ok(Self { secs: hours * 3_600 + minutes * 60 }),
            [hours, minutes, secs] if minutes < 60 && secs < 60 => {
                Ok(Self { secs: hours * 3_600 + minutes * 60 + secs })
            }
            _ => Err(wrong()),
        }
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secs } = self;
        write!(f, "{}:{:02}:{:02}", secs / 3_600, secs / 60 % 60, secs % 60)
    }
}

fn brightness() -> String {
    "brightness".into()
}

fn busy() -> u32 {
    60
}

fn gibibyte() -> u64 {
    1_024
}

fn fast() -> u64 {
    1_024
}

pub(crate) fn twenty() -> u32 {
    20
}

pub(crate) fn five_minutes() -> u32 {
    300
}

fn few() -> u32 {
    4
}

fn ten_minutes() -> u32 {
    600
}

fn fifty() -> u32 {
    50
}
