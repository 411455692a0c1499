//! From which period on devices count for what is known of a feature.
//!
//! An order that is given while a check is under way strikes nothing of the period that is checked, which belongs to the baseline before it. If that
//! check leaves the release aside, those counts wait for the check that carries the order out, and must not be learnt from.

use std::collections::BTreeMap;

use fleet_core::drift::{Order, Whom};
use muster_sketch::detector::Group;

use super::check::Fleet;

/// The period of the newest order about a feature, for those whom it is about.
#[derive(Default)]
pub(super) struct Renewed<'a> {
    everyone: u64,
    devices: BTreeMap<&'a str, u64>,
    groups: BTreeMap<Group, u64>,
}

impl<'a> Renewed<'a> {
    pub(super) fn of(fleet: &'a Fleet, feature: &str) -> Self {
        let mut renewed = Self::default();
        for (period, order) in fleet.orders.iter().filter(|(_, order)| order.is_about(feature)) {
            let newest = match order {
                Order::Relearn { whom: Whom::Everyone, .. } => &mut renewed.everyone,
                Order::Relearn { whom: Whom::Device(device), .. } | Order::Forget { device } => {
                    renewed.devices.entry(device).or_default()
                }
                Order::Relearn { whom: Whom::Stratum { key, value }, .. } => {
                    let group = Group::Stratum { key: key.clone(), value: value.clone() };
                    renewed.groups.entry(group).or_default()
                }
            };
            *newest = (*newest).max(*period);
        }
        renewed
    }

    /// The first period of which counts of a device are of what it is like now.
    pub(super) fn first_period(&self, fleet: &Fleet, device: &str) -> u64 {
        let groups = fleet.groups.get(device).into_iter().flatten();
        let of_groups = groups.filter_map(|group| self.groups.get(group));
        let of_device = self.devices.get(device).into_iter();
        of_groups.chain(of_device).fold(self.everyone, |newest, period| newest.max(*period))
    }
}
