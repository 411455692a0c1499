//! How far a window lies from its reference, as one figure a feature.

use muster_sketch::{
    distance,
    reference::{Reference, ReferenceValues},
    window::FeatureCounts,
};
use shared::telemetry::{MAX_DRIFT, Sums};

/// Of each feature with a value, the population stability index less its noise floor.
pub(super) fn drift_of(reference: &Reference, features: &[FeatureCounts]) -> Sums {
    let mut sums = Sums::default();
    for (reference, counts) in reference.features().iter().zip(features) {
        let psi = match (&reference.values, counts) {
            (ReferenceValues::Numeric(reference), FeatureCounts::Numeric(counts)) => {
                distance::of_numbers(reference, counts).map(|found| found.psi)
            }
            (ReferenceValues::Category(reference), FeatureCounts::Category(counts)) => {
                distance::of_categories(reference, counts).map(|found| found.psi)
            }
            (ReferenceValues::Numeric(_), FeatureCounts::Category(_))
            | (ReferenceValues::Category(_), FeatureCounts::Numeric(_)) => None,
        };
        if let Some(psi) = psi {
            sums.record((psi.value - psi.noise_floor).clamp(-MAX_DRIFT, MAX_DRIFT));
        }
    }
    sums
}
