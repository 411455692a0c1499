//! What people say about baselines.

use muster_sketch::detector::{Group, Scope};
use serde::{Deserialize, Serialize};

/// A change of what is known of devices, carried out before the next check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// They learn a new baseline.
    Relearn {
        /// Which feature; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        feature: Option<String>,
        /// Who.
        whom: Whom,
    },
    /// The device of this name is another one, or none.
    Forget {
        /// Its name.
        device: String,
    },
}

/// Who learns anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// Every device, and the groups that they are in.
    Everyone,
    /// One device.
    Device(String),
    /// Those with this label.
    Stratum {
        /// As `site`.
        key: String,
        /// As `hall-3`.
        value: String,
    },
}

impl Whom {
    /// The devices of a finding. Those with a model version are all that are watched under it.
    #[must_use]
    pub fn of(scope: &Scope) -> Self {
        match scope {
            Scope::Sensor { device } => Self::Device(device.clone()),
            Scope::Stratum { key, value } => Self::Stratum { key: key.clone(), value: value.clone() },
            Scope::Model | Scope::World => Self::Everyone,
        }
    }

    /// Whether a device in these groups is meant.
    #[must_use]
    pub fn includes(&self, device: &str, groups: &[Group]) -> bool {
        match self {
            Self::Everyone => true,
            Self::Device(name) => name == device,
            Self::Stratum { key, value } => {
                groups.contains(&Group::Stratum { key: key.clone(), value: value.clone() })
            }
        }
    }
}

impl Order {
    /// Whether this feature is meant.
    #[must_use]
    pub fn is_about(&self, feature: &str) -> bool {
        match self {
            Self::Relearn { feature: Some(only), .. } => only == feature,
            Self::Relearn { feature: None, .. } | Self::Forget { .. } => true,
        }
    }
}
