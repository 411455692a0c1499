//! Who is watched, where there are more than can be.
//!
//! Labels come and go with releases, sites and whims, so neither many devices nor many groups are a reason to refuse a check: what
//! is beyond the bound is left out and named, and the others are watched. A group is kept as long as a known device is in it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};

use super::{
    super::scores::Scores, Fleet, FleetBatch, FleetError, Group, Grouped, MAX_DEVICES, MAX_GROUPS,
    MIN_GROUP_DEVICES, many::Many,
};

/// What a check could not look at. Empty in a fleet that is within its bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Devices that are new where [`MAX_DEVICES`] are known, by name. Nothing of them was counted. [`Fleet::forget`] those that
    /// are gone, or split the fleet.
    pub devices: Vec<String>,
    /// Groups beyond [`MAX_GROUPS`], in order. Their devices were counted for themselves, for their other groups and for the fleet.
    /// Leave out labels that every device has a value of its own for.
    pub groups: Vec<Group>,
}

/// Batches that are counted, by device.
pub(super) type Admitted<'a> = BTreeMap<&'a str, &'a FleetBatch<'a>>;

impl Fleet {
    /// Batches that can be counted, with all groups made that they need and those gone that nobody is in.
    pub(super) fn admit<'a>(
        &mut self,
        scores: &Scores,
        batches: &'a [FleetBatch<'a>],
    ) -> Result<(Admitted<'a>, LeftOut), FleetError> {
        let mut admitted = Admitted::new();
        for batch in batches {
            let refused = |cause| FleetError::Device { device: batch.device.to_owned(), cause };
            scores.check_bins(batch.counts).map_err(refused)?;
            if admitted.insert(batch.device, batch).is_some() {
                return Err(FleetError::Twice(batch.device.to_owned()));
            }
        }
        let devices = self.leave_out_devices(&mut admitted);
        let groups = self.choose_groups(scores, &admitted);
        Ok((admitted, LeftOut { devices, groups }))
    }

    pub(super) fn is_watched(&self, group: &Group) -> bool {
        self.groups.binary_search_by(|known| known.group.cmp(group)).is_ok()
    }

    /// Known devices stay, whatever comes.
    fn leave_out_devices(&self, batches: &mut Admitted<'_>) -> Vec<String> {
        let new = batches.keys().copied().filter(|name| !self.devices.contains_key(*name));
        let room = MAX_DEVICES.saturating_sub(self.devices.len());
        let excess: Vec<_> = new.skip(room).collect();
        for name in &excess {
            batches.remove(name);
        }
        excess.into_iter().map(str::to_owned).collect()
    }

    /// Those with the most use first: the model's, then groups that are large enough to be one, and of these the ones with evidence.
    /// So a label with a value for every device takes no place from a site.
    fn choose_groups(&mut self, scores: &Scores, batches: &Admitted<'_>) -> Vec<Group> {
        let absent = self.devices.iter().filter(|(name, _)| !batches.contains_key(name.as_str()));
        let members = absent.map(|(_, device)| &device.groups[..]).chain(batches.values().map(|b| b.groups));
        let mut sizes = BTreeMap::<&Group, usize>::new();
        members.flatten().for_each(|group| *sizes.entry(group).or_default() += 1);

        let mut ranked: Vec<_> = sizes.into_iter().collect();
        ranked.sort_by_cached_key(|&(group, devices)| {
            let of_the_model = matches!(group, Group::Treated | Group::Untreated);
            Reverse((of_the_model, devices >= MIN_GROUP_DEVICES, self.is_watched(group), devices))
        });
        let excess = ranked.split_off(ranked.len().min(MAX_GROUPS));
        let left_out: BTreeSet<_> = excess.into_iter().map(|(group, _)| group.clone()).collect();

        let chosen: BTreeSet<_> = ranked.into_iter().map(|(group, _)| group).collect();
        let known = std::mem::take(&mut self.groups);
        let mut known: BTreeMap<_, _> = known.into_iter().map(|known| (known.group, known.many)).collect();
        let grouped = |group: &Group| {
            let many = known.remove(group).unwrap_or_else(|| Many::new(scores));
            Grouped { group: group.clone(), many }
        };
        self.groups = chosen.into_iter().map(grouped).collect();
        left_out.into_iter().collect()
    }
}
