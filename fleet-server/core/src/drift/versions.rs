//! One feature of a model over all versions that devices run: each has a fleet of its own, and what one finds is held against the
//! others, so that what a version does is not taken for what the world does.

use muster_sketch::{
    detector::{FleetError, MIN_GROUP_DEVICES, Scope},
    reference::{FeatureReference, ReferenceValues},
};

use super::{Brought, Cause, FeatureState, Found, Look, Order, Outcome, feature::drift};

/// A version with what is known of the feature and what devices brought of it.
#[derive(Debug, Clone)]
pub struct Version<'a> {
    /// With what is looked.
    pub look: Look<'a>,
    /// What is known; nothing before its first check.
    pub state: Option<FeatureState>,
    /// What people say about baselines.
    pub orders: &'a [Order],
    /// What devices brought, one entry each.
    pub brought: &'a [Brought<'a>],
}

/// What came of the check of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What is known now.
    pub state: FeatureState,
    /// What it showed; nothing when what devices brought is of no use.
    pub outcome: Result<Outcome, FleetError>,
    /// Why what was known before is of no use, as after an update that looks at something else. The devices learn anew then.
    pub lost: Option<FleetError>,
}

/// Which versions of a model are here to be held against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Every one that devices brought anything of.
    Complete,
    /// Something of another one could not be read, so nobody knows what its devices did.
    Incomplete,
}

/// Checks a feature under each version of a model. One of which what devices brought is of no use makes the company incomplete.
#[must_use]
pub fn check_versions(versions: Vec<Version<'_>>, company: Company) -> Vec<Checked> {
    let (kept, states): (Vec<_>, Vec<_>) = versions.into_iter().map(split).unzip();
    let pairs = kept.iter().zip(states);
    let mut checked: Vec<_> = pairs.map(|(version, state)| check(version, state)).collect();
    let is_complete = company == Company::Complete && checked.iter().all(|checked| checked.outcome.is_ok());
    for this in 0..kept.len() {
        let Ok(outcome) = &checked[this].outcome else { continue };
        let found: Vec<_> =
            outcome.found.iter().map(|found| held(&kept, &checked, (this, is_complete), found)).collect();
        if let Ok(outcome) = &mut checked[this].outcome {
            outcome.found = found;
        }
    }
    checked
}

/// A version without what is known of it, which changes.
type Kept<'a> = (Look<'a>, &'a [Order], &'a [Brought<'a>]);

fn split(version: Version<'_>) -> (Kept<'_>, Option<FeatureState>) {
    let Version { look, state, orders, brought } = version;
    ((look, orders, brought), state)
}

fn check((look, orders, brought): &Kept<'_>, state: Option<FeatureState>) -> Checked {
    let mut lost = None;
    if let Some(mut state) = state {
        match state.check(look, orders, brought) {
            Ok(outcome) => return Checked { state, outcome: Ok(outcome), lost },
            Err(error) => lost = Some(error),
        }
    }
    let mut state = FeatureState::new(look);
    let outcome = state.check(look, orders, brought);
    if outcome.is_err() {
        state = FeatureState::new(look);
    }
    Checked { state, outcome, lost }
}

/// A finding of the world, held against the other versions; others as they are.
fn held(kept: &[Kept<'_>], checked: &[Checked], (this, is_complete): (usize, bool), found: &Found) -> Found {
    let Cause::Drift { finding, .. } = &found.cause else { return found.clone() };
    if finding.scope != Scope::World {
        return found.clone();
    }
    let (look, _, brought) = &kept[this];
    let others =
        (0..kept.len()).filter(|&other| other != this && are_alike(look.feature, kept[other].0.feature));
    let others: Vec<_> = others.collect();
    let fleets: Vec<_> =
        others.iter().map(|&other| (kept[other].0.scores, &checked[other].state.fleet)).collect();
    let counted = others.iter().map(|&other| match &checked[other].outcome {
        Ok(outcome) => outcome.status.devices,
        Err(_) => 0,
    });
    let counted: usize = counted.sum();
    let finding = checked[this].state.fleet.against(finding, &fleets);
    let counted = if counted < MIN_GROUP_DEVICES { 0 } else { counted };
    drift(look, finding, (counted, !is_complete), brought)
}

/// Whether the same scores of both mean the same: categories are known by their places.
fn are_alike(one: &FeatureReference, other: &FeatureReference) -> bool {
    match (&one.values, &other.values) {
        (ReferenceValues::Numeric(_), ReferenceValues::Numeric(_)) => true,
        (ReferenceValues::Category(one), ReferenceValues::Category(other)) => one.names() == other.names(),
        (ReferenceValues::Numeric(_), ReferenceValues::Category(_))
        | (ReferenceValues::Category(_), ReferenceValues::Numeric(_)) => false,
    }
}
