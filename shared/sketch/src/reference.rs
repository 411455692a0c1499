//! What the features of a model looked like when it was made: the yardstick that windows are counted against.
//!
//! A [`Reference`] lists the features of a model in the order in which its rows carry them. Numeric features bring
//! [`Edges`] and the counts of the reference sample between them, others bring their categories. It travels in a
//! signed manifest, and everything that was counted against it carries its [`ReferenceId`]: counts of two references
//! are never added, because the same place in them means another range of values.
//!
//! # The hash
//! The id is FNV-1a of 128 bits (Fowler, Noll & Vo; RFC 9923) over a canonical form in which every part has its length
//! in front. It tells references apart and guards against nobody: who may sign a manifest may sign any reference,
//! and a device that lies about its counts needs no collision for it. So a cryptographic hash would add a
//! dependency and no safety. The id is computed from the content whenever a reference is made or read, never read itself.

mod bits;
mod category;
mod edges;
mod error;
mod id;
mod numeric;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use category::CategoryReference;
pub use edges::{Edges, MAX_EDGES};
pub use error::ReferenceError;
pub use id::ReferenceId;
pub use numeric::NumericReference;

pub(crate) use bits::f32s_as_base64;
pub(crate) use numeric::SHARE_BITS;

/// Fewer finite values than this make no reference. The error of the reference itself is three standard errors of what
/// a detector must allow for: a tenth of a standard deviation at this size, and more would hide what is looked for.
pub const MIN_REFERENCE_ROWS: u64 = 1_000;

/// Features of one reference: four times what one MQTT message of a few kilobytes carries at a window each.
pub const MAX_FEATURES: usize = 256;

/// Categories of one feature: the thousand classes of ImageNet, and some room.
pub const MAX_CATEGORIES: usize = 4_096;

/// Bins of all features together, so that a decoded window stays below half a megabyte.
pub const MAX_BINS: usize = 65_536;

/// Bytes of the name of a feature or category.
pub const MAX_NAME_BYTES: usize = 128;

/// One feature and its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureReference {
    /// The name that alarms and pages show. Unique in the reference.
    pub name: String,
    /// What its values were.
    pub values: ReferenceValues,
}

/// What the values of a feature were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceValues {
    /// Numbers, counted between edges.
    Numeric(NumericReference),
    /// Names or classes, counted each.
    Category(CategoryReference),
}

impl ReferenceValues {
    /// Counts of the reference sample by bin: what detectors compare a window's bins with.
    #[must_use]
    pub fn bins(&self) -> &[u64] {
        match self {
            Self::Numeric(numeric) => numeric.counts().bins(),
            Self::Category(category) => category.counts().bins(),
        }
    }
}

/// The features of a model, in the order of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<FeatureReference>", into = "Vec<FeatureReference>")]
pub struct Reference {
    features: Vec<FeatureReference>,
    id: ReferenceId,
}

impl Reference {
    /// Puts features together.
    ///
    /// # Errors
    /// When there are none or more than [`MAX_FEATURES`], when a name is empty, long, unprintable or used twice, or
    /// when they have more than [`MAX_BINS`] bins together.
    pub fn new(features: Vec<FeatureReference>) -> Result<Self, ReferenceError> {
        if !(1..=MAX_FEATURES).contains(&features.len()) {
            return Err(ReferenceError::FeatureCount { features: features.len() });
        }
        let mut names = BTreeSet::new();
        for feature in &features {
            check_name(&feature.name)?;
            if !names.insert(feature.name.as_str()) {
                return Err(ReferenceError::NameUsedTwice { name: feature.name.clone() });
            }
        }
        let bins = features.iter().map(|feature| feature.values.bins().len()).sum();
        if bins > MAX_BINS {
            return Err(ReferenceError::TooManyBins { bins });
        }
        let id = id_of(&features);
        Ok(Self { features, id })
    }

    /// The features in order.
    #[must_use]
    pub fn features(&self) -> &[FeatureReference] {
        &self.features
    }

    /// What tells this reference from any other.
    #[must_use]
    pub fn id(&self) -> ReferenceId {
        self.id
    }

    /// The numeric features in order.
    pub fn numeric(&self) -> impl Iterator<Item = &NumericReference> {
        self.features.iter().filter_map(|feature| match &feature.values {
            ReferenceValues::Numeric(numeric) => Some(numeric),
            ReferenceValues::Category(_) => None,
        })
    }

    /// The features with categories, in order.
    pub fn categories(&self) -> impl Iterator<Item = &CategoryReference> {
        self.features.iter().filter_map(|feature| match &feature.values {
            ReferenceValues::Category(category) => Some(category),
            ReferenceValues::Numeric(_) => None,
        })
    }
}

impl TryFrom<Vec<FeatureReference>> for Reference {
    type Error = ReferenceError;
    fn try_from(features: Vec<FeatureReference>) -> Result<Self, ReferenceError> {
        Self::new(features)
    }
}

impl From<Reference> for Vec<FeatureReference> {
    fn from(reference: Reference) -> Self {
        reference.features
    }
}

fn check_name(name: &str) -> Result<(), ReferenceError> {
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(ReferenceError::BadName { name: name.chars().take(MAX_NAME_BYTES).collect() });
    }
    Ok(())
}

fn id_of(features: &[FeatureReference]) -> ReferenceId {
    let mut hash = id::Fnv1a::new();
    hash.text("muster reference 1");
    hash.number(features.len() as u64);
    for feature in features {
        hash.text(&feature.name);
        match &feature.values {
            ReferenceValues::Numeric(numeric) => numeric.hash_into(&mut hash),
            ReferenceValues::Category(category) => category.hash_into(&mut hash),
        }
    }
    hash.finish()
}
