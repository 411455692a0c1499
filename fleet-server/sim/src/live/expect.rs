//! What a live story expects in the end, and what of it does not hold.

use std::collections::BTreeMap;

use shared::RolloutId;

use super::{Expectation, LiveStory};
use crate::world::Standing;

impl LiveStory {
    /// What should hold of rollouts that stand so and does not, one sentence each: what the story expects, and that every
    /// rollout is over of which it does not say where it stands.
    #[must_use]
    pub fn missed(&self, standings: &BTreeMap<RolloutId, Standing>) -> Vec<String> {
        let unmet = |(name, expected): (&RolloutId, &Expectation)| match standings.get(name) {
            Some(standing) => expected.unmet(name, standing),
            None => vec![format!("{name} was not started")],
        };
        let mut missed: Vec<String> = self.expect.iter().flat_map(unmet).collect();
        let says_where =
            |name: &RolloutId| self.expect.get(name).is_some_and(|expected| expected.state.is_some());
        let unread = |(name, it): &(&RolloutId, &Standing)| !it.over && !says_where(name);
        missed.extend(standings.iter().filter(unread).map(|(name, it)| {
            let state = &it.state;
            format!("{name} is still {state} at the end; raise `end`, or say so: [expect.{name}] state = \"{state}\"")
        }));
        missed
    }
}

impl Expectation {
    fn unmet(&self, name: &RolloutId, standing: &Standing) -> Vec<String> {
        let Standing { state, counts, .. } = standing;
        let percent = counts.committed * 100 / counts.devices.max(1);
        let mut unmet = vec![];
        if let Some(wanted) = self.state.as_ref().filter(|wanted| *wanted != state) {
            unmet.push(format!("{name} should be {wanted} and is {state}"));
        }
        if let Some(least) = self.committed_percent_at_least.filter(|least| percent < *least as usize) {
            unmet.push(format!("{name} should be kept by {least} % of its devices and is by {percent} %"));
        }
        // By the number, because one device of ten thousand is less than a percent.
        let most = self.committed_percent_at_most.map(|most| (most, counts.devices * most as usize / 100));
        if let Some((most, _)) = most.filter(|(_, devices)| counts.committed > *devices) {
            unmet.push(format!(
                "{name} should be kept by at most {most} % of its devices and is by {} of {}",
                counts.committed, counts.devices
            ));
        }
        unmet
    }
}
