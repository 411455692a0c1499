//! Several versions of a model, each with a fleet of its own: did the devices with one version move alone?
//!
//! Versions have references of their own, so their counts have no bin in common. What they have is the name of a feature, and scores
//! that look at the same thing: the rank of a value in the reference, its tails, what is outside. So moves are compared in
//! standard deviations of the score under each version's reference, over the same time.
//!
//! A finding of the world is the version's where the devices with other versions moved less than half as far, by more than chance,
//! and where it is not clear that they moved by a quarter of it, in this way or in any other: the same change may show in another
//! region of another reference. New versions often start at one site. So the others that share a label with all devices of the
//! version are held against it once more by themselves, and what a site does is not taken for the model.
//!
//! Where there is nobody to compare with, a finding stays the world's: with fewer than five devices of another version that counted
//! something since, or where most of them are silent because they are part of a finding of their own.

use super::{
    super::{device::DeviceWatch, evidence::Alarm, payoff::Move, scores::Scores},
    Fleet, Group,
    attribute::{CLEAR, Contrast, Finding, MOVED, Scope, Shift},
    many::Many,
};

/// Devices with another version that clearly moved, and at least this part of the way, moved as well.
const MOVED_PART: f64 = 0.25;

/// What the devices with other versions did since the evidence rose.
enum Others {
    /// Less than chance and the version make.
    Stayed(Contrast),
    /// As much, or too little is known to say that they did not.
    Moved(Contrast),
    /// Most are silent, as they moved shortly before.
    Suppressed,
    /// There are none, or they counted nothing.
    Unknown,
}

impl Fleet {
    /// A finding of this fleet's last check, held against the fleets of the same feature under other versions of the model. One of
    /// [`Scope::World`] becomes [`Scope::Model`] where only this fleet moved; others are returned as they are.
    ///
    /// Check the fleets of all versions first, then compare what each found: moves of the last check count too. A category is known by its
    /// bin, so pass only fleets whose reference lists the same categories in the same order.
    #[must_use]
    pub fn against(&self, finding: &Finding, others: &[(&Scores, &Self)]) -> Finding {
        let mut held = finding.clone();
        let Some(inside) = finding.moved.filter(|_| finding.scope == Scope::World) else { return held };
        let mut is_alone = true;
        for label in [None].into_iter().chain(self.shared_labels().into_iter().map(Some)) {
            match did(others, label, inside, &finding.alarm) {
                Others::Stayed(contrast) => held.contrast = held.contrast.or(Some(contrast)),
                Others::Moved(contrast) => {
                    held.contrast = Some(contrast);
                    is_alone = false;
                }
                Others::Suppressed => is_alone = false,
                Others::Unknown => is_alone &= label.is_some(),
            }
        }
        if is_alone {
            held.scope = Scope::Model;
        }
        held
    }

    /// Labels that every device of the fleet has.
    fn shared_labels(&self) -> Vec<&Group> {
        let mut devices = self.devices.values();
        let Some(first) = devices.next() else { return vec![] };
        let labels = first.groups.iter().filter(|group| matches!(group, Group::Stratum { .. }));
        let mut shared: Vec<_> = labels.collect();
        devices.for_each(|device| shared.retain(|&label| device.groups.contains(label)));
        shared
    }

    /// The evidence of all devices, or of those with a label.
    fn many(&self, label: Option<&Group>) -> Option<&Many> {
        let Some(label) = label else { return Some(&self.world) };
        self.groups.iter().find(|known| known.group == *label).map(|known| &known.many)
    }

    fn watches(&self, label: Option<&Group>) -> impl Iterator<Item = &DeviceWatch> {
        let devices = self.devices.values();
        let with_label =
            devices.filter(move |device| label.is_none_or(|label| device.groups.contains(label)));
        with_label.map(|device| &device.watch).filter(|watch| watch.baseline().is_some())
    }
}

fn did(fleets: &[(&Scores, &Fleet)], label: Option<&Group>, inside: Shift, alarm: &Alarm) -> Others {
    let watches = || fleets.iter().flat_map(|(_, fleet)| fleet.watches(label));
    let suppressed = watches().filter(|watch| watch.is_suppressed(alarm.at_secs)).count();
    if 2 * suppressed > watches().count() {
        return Others::Suppressed;
    }
    let many: Vec<_> =
        fleets.iter().filter_map(|(scores, fleet)| Some((*scores, fleet.many(label)?))).collect();
    let mut together = Move::default();
    for (scores, many) in &many {
        let score = scores.scores.iter().position(|score| score.name == alarm.direction.score);
        score.into_iter().for_each(|score| together.add_devices(&moved(scores, many, score, alarm)));
    }
    let Some(outside) = Shift::of(&together, alarm) else { return Others::Unknown };
    let contrast = Contrast::of(inside, outside);
    let least = MOVED_PART * inside.by;
    let alike = outside.by >= least.max(MOVED * outside.error);
    let otherwise = many.iter().any(|(scores, many)| has_moved(scores, many, alarm, least));
    if contrast.explains() && !alike && !otherwise {
        Others::Stayed(contrast)
    } else {
        Others::Moved(contrast)
    }
}

/// Whether any score clearly moved at least so far, either way.
fn has_moved(scores: &Scores, many: &Many, alarm: &Alarm, least: f64) -> bool {
    (0..scores.scores.len()).any(|score| {
        let moved = moved(scores, many, score, alarm);
        moved.mean().abs() >= least.max(CLEAR * moved.standard_error())
    })
}

/// In standard deviations of the score.
fn moved(scores: &Scores, many: &Many, score: usize, alarm: &Alarm) -> Move {
    many.moved(score, alarm.since_secs).in_units_of(scores.scores[score].deviation)
}
