//! What devices have in common: labels that the operator named, the hardware, and the version of the agent.

use std::fmt;

use muster_sketch::detector::Group;
use serde::{Deserialize, Serialize};
use shared::device::{Inventory, Labels, MAX_LABEL_LEN};

/// What the sum over all devices is called where strata are named.
pub const ALL: &str = "";

/// The key of the stratum of devices with the same processor; a label of this name goes before what the device tells.
pub const HARDWARE: &str = "hardware";

/// The key of the stratum of devices with the same version of the agent; a label of this name goes before it.
pub const FIRMWARE: &str = "firmware";

/// Something that devices have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stratum {
    /// As `site`.
    pub key: String,
    /// As `hall-3`.
    pub value: String,
}

impl fmt::Display for Stratum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// The strata of a device, at most one of each key, in the order of the keys. A device without a label is in no stratum
/// of it.
#[must_use]
pub fn strata(labels: &Labels, inventory: &Inventory, keys: &[String]) -> Vec<Stratum> {
    let told = |key: &str, told: String| labels.get(key).cloned().unwrap_or(told);
    let of_labels = keys.iter().filter_map(|key| Some((key.clone(), labels.get(key)?.clone())));
    let of_inventory = [
        (HARDWARE.to_owned(), told(HARDWARE, hardware(inventory))),
        (FIRMWARE.to_owned(), told(FIRMWARE, printable(&inventory.agent_version))),
    ];
    let mut strata: Vec<_> = of_labels
        .chain(of_inventory)
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| Stratum { key, value })
        .collect();
    strata.sort();
    strata.dedup_by(|next, kept| next.key == kept.key);
    strata
}

/// The same as groups of a detector.
#[must_use]
pub fn groups(strata: &[Stratum]) -> Vec<Group> {
    strata.iter().cloned().map(|Stratum { key, value }| Group::Stratum { key, value }).collect()
}

fn hardware(inventory: &Inventory) -> String {
    printable(format!("{} {}", inventory.arch, inventory.cpu).trim())
}

/// What a device tells is cut to the length of a label, and without what would be taken for something else.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    let text: String = text.chars().map(plain).take(MAX_LABEL_LEN).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(labels: &[(&str, &str)], keys: &[&str]) -> Vec<String> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let inventory = Inventory {
            arch: "aarch64".into(),
            cpu: "Cortex-A72\u{7}".into(),
            agent_version: "1.2.0".into(),
            ..Inventory::default()
        };
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        strata(&labels, &inventory, &keys).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_device_is_in_one_stratum_of_each_key_that_it_has_a_label_of() {
        assert_eq!(
            told(&[("site", "hall-3"), ("tier", "a")], &["site", "line"]),
            ["firmware=1.2.0", "hardware=aarch64 Cortex-A72", "site=hall-3"]
        );
        assert_eq!(
            told(&[("hardware", "board-2")], &["hardware", "hardware"]),
            ["firmware=1.2.0", "hardware=board-2"]
        );
    }

    #[test]
    fn a_device_that_tells_nothing_is_in_no_stratum() {
        assert!(strata(&Labels::new(), &Inventory::default(), &["site".into()]).is_empty());
    }
}
