//! What happens in a live story.

use fleet_core::{Selector, Strategy};
use serde::{Deserialize, Deserializer};
use shared::{ReleaseId, RolloutId};

use crate::story::Moment;

/// Acts of virtual time that a real server knows nothing of, and what to do about it.
const NOT_LIVE: [(&str, &str); 6] = [
    ("approve", "approval needs another person's token; leave `approve` out of the waves"),
    ("freeze", "set a freeze on the server itself: muster freeze"),
    ("quarantine", "set it on the server itself: muster device quarantine"),
    ("stop_server", "stop a server of your own while the story runs, and name it with --server"),
    ("kill_server", "kill a server of your own while the story runs, and name it with --server"),
    ("server_clock", "set the clock of a server of your own, and name it with --server"),
];

/// Something that happens at a moment.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct LiveTimed {
    /// When, since the beginning of the story.
    pub at: Moment,
    /// What.
    pub act: LiveAct,
}

/// Something that happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum LiveAct {
    /// A person starts a rollout.
    Start {
        /// Its name in this story.
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
    /// Links break and do not come back.
    Cut {
        /// Whose.
        #[serde(default)]
        devices: Who,
    },
    /// Links that were cut come back.
    Reconnect {
        /// Whose.
        #[serde(default)]
        devices: Who,
    },
    /// Links break all at once and come back after a while.
    Outage {
        /// Whose.
        #[serde(default)]
        devices: Who,
        /// For how long.
        for_secs: u64,
    },
    /// Links break again and again.
    Flap {
        /// Whose.
        #[serde(default)]
        devices: Who,
        /// From one break to the next, half as much more or less by chance.
        every_secs: u64,
        /// How long a link is down each time.
        down_secs: u64,
        /// Until when.
        until: Moment,
    },
    /// Power fails for half a minute, after this many more effects.
    PowerCut {
        /// Whose.
        #[serde(default)]
        devices: Who,
        /// How many.
        #[serde(default)]
        after_effects: u32,
    },
    /// The agent is stopped and started in order.
    Restart {
        /// Whose.
        #[serde(default)]
        devices: Who,
    },
    /// They are never heard of again.
    Die {
        /// Which.
        #[serde(default)]
        devices: Who,
    },
    /// They say hello and nothing more from now on.
    Mute {
        /// Which.
        #[serde(default)]
        devices: Who,
    },
    /// At their next start their clock is this far ahead.
    Clock {
        /// Whose.
        #[serde(default)]
        devices: Who,
        /// In seconds; negative when it is behind.
        ahead_secs: i64,
    },
    /// Their runner is killed, by the system and not by a model.
    KillRunner {
        /// Whose.
        #[serde(default)]
        devices: Who,
    },
    /// The disk changes the models that they keep, and their runner has to load them anew.
    DamageDisk {
        /// Whose.
        #[serde(default)]
        devices: Who,
    },
    /// From now on this many requests reach their model in a minute.
    Traffic {
        /// Whose.
        #[serde(default)]
        devices: Who,
        /// How many.
        per_minute: u32,
    },
}

/// Devices of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// These devices, and all devices of these classes.
    Named(Vec<String>),
    /// A percentage of a class, or of all devices, drawn by the seed of the story.
    Share {
        /// From 1 to 100.
        percent: u32,
        /// Of which class; of all devices when absent.
        of: Option<String>,
    },
}

impl Default for Who {
    /// Every device.
    fn default() -> Self {
        Self::Share { percent: 100, of: None }
    }
}

/// How [`Who`] is written.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`devices` is a list of names and classes, or { percent = 30, of = \"class\" }"
)]
enum WrittenWho {
    Named(Vec<String>),
    Share(WrittenShare),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenShare {
    percent: u32,
    #[serde(default)]
    of: Option<String>,
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WrittenWho::deserialize(deserializer)? {
            WrittenWho::Named(names) => Self::Named(names),
            WrittenWho::Share(WrittenShare { percent, of }) => Self::Share { percent, of },
        })
    }
}

impl LiveAct {
    /// The rollout that a person speaks of.
    #[must_use]
    pub fn rollout(&self) -> Option<&RolloutId> {
        match self {
            Self::Start { rollout, .. }
            | Self::Pause { rollout }
            | Self::Resume { rollout }
            | Self::Promote { rollout }
            | Self::Retry { rollout }
            | Self::Halt { rollout }
            | Self::RollBack { rollout } => Some(rollout),
            _ => None,
        }
    }

    /// The devices that something befalls.
    #[must_use]
    pub fn devices(&self) -> Option<&Who> {
        match self {
            Self::Cut { devices }
            | Self::Reconnect { devices }
            | Self::Outage { devices, .. }
            | Self::Flap { devices, .. }
            | Self::PowerCut { devices, .. }
            | Self::Restart { devices }
            | Self::Die { devices }
            | Self::Mute { devices }
            | Self::Clock { devices, .. }
            | Self::KillRunner { devices }
            | Self::DamageDisk { devices }
            | Self::Traffic { devices, .. } => Some(devices),
            _ => None,
        }
    }
}

impl TryFrom<toml::Table> for LiveTimed {
    type Error = String;
    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let kind = table.get("do").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let at =
            table.remove("at").ok_or_else(|| format!("the act `{kind}` has no `at`; write at = \"0:10\""))?;
        let at: Moment = at.try_into().map_err(|error| words("at", &error))?;
        if let Some((_, instead)) = NOT_LIVE.iter().find(|(name, _)| *name == kind) {
            return Err(format!("the act `{kind}` at {at} happens only in virtual time; {instead}"));
        }
        let act = LiveAct::deserialize(toml::Value::Table(table));
        Ok(Self { at, act: act.map_err(|error| words(&format!("the act `{kind}` at {at}"), &error))? })
    }
}

fn words(what: &str, error: &toml::de::Error) -> String {
    format!("{what}: {}", error.message())
}
