//! The reference of a feature with categories.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{MAX_CATEGORIES, MIN_REFERENCE_ROWS, ReferenceError, check_name, id::Fnv1a, numeric::SHARE_BITS};
use crate::{categories::CategoryCounts, window::MAX_WINDOW_ROWS};

/// Which categories a feature had in the reference sample, and how often. The bins of its windows are these categories
/// in this order, and one more at the end for values that are none of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "CategoryForm", into = "CategoryForm")]
pub struct CategoryReference {
    names: Vec<String>,
    counts: CategoryCounts,
    /// What a window without drift would count for each of its values, with [`SHARE_BITS`] fraction bits.
    expected: Vec<u64>,
    places: BTreeMap<String, usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CategoryForm {
    names: Vec<String>,
    counts: CategoryCounts,
}

impl CategoryReference {
    /// Counts the categories of `feature` in a sample; `None` is a missing value. They are put in the order of their
    /// names.
    ///
    /// # Errors
    /// As [`from_counts`](Self::from_counts).
    pub fn from_sample<'a>(
        feature: &str,
        sample: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Result<Self, ReferenceError> {
        let (mut counts, mut missing) = (BTreeMap::<&str, u64>::new(), 0_u64);
        for value in sample {
            match value {
                Some(name) => *counts.entry(name).or_insert(0) += 1,
                None => missing += 1,
            }
        }
        let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        Self::from_counts(feature, counts, missing)
    }

    /// Takes categories that were counted elsewhere, in the order given. For classes of a model that is the order of
    /// its outputs, so that [`record_class`](crate::categories::CategoryWindow::record_class) fits.
    ///
    /// # Errors
    /// With fewer than [`MIN_REFERENCE_ROWS`] or more than
    /// [`MAX_WINDOW_ROWS`] values, with more than [`MAX_CATEGORIES`] categories, or with names that
    /// are unusable or used twice.
    pub fn from_counts(
        feature: &str,
        counts: Vec<(String, u64)>,
        missing: u64,
    ) -> Result<Self, ReferenceError> {
        let feature = feature.to_owned();
        if counts.len() > MAX_CATEGORIES {
            return Err(ReferenceError::TooManyCategories { feature, categories: counts.len() });
        }
        let usable = counts.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        let rows = usable.saturating_add(missing);
        if rows > MAX_WINDOW_ROWS {
            return Err(ReferenceError::TooManyRows { feature, rows });
        }
        if usable < MIN_REFERENCE_ROWS {
            return Err(ReferenceError::TooFewRows { feature, usable, unusable: missing });
        }
        let (names, mut bins): (Vec<String>, Vec<u64>) = counts.into_iter().unzip();
        bins.push(0);
        Self::checked(names, CategoryCounts::of(bins, missing))
    }

    /// The categories in the order of the bins.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The counts of the sample itself.
    #[must_use]
    pub fn counts(&self) -> &CategoryCounts {
        &self.counts
    }

    /// The bin of a category; the last one when the reference has none of that name.
    #[must_use]
    pub fn bin_of(&self, name: &str) -> usize {
        self.places.get(name).copied().unwrap_or(self.names.len())
    }

    pub(crate) fn expected(&self) -> &[u64] {
        &self.expected
    }

    pub(super) fn hash_into(&self, hash: &mut Fnv1a) {
        hash.text("category");
        hash.number(self.names.len() as u64);
        self.names.iter().for_each(|name| hash.text(name));
        hash.numbers(self.counts.bins());
        hash.number(self.counts.missing());
    }

    fn checked(names: Vec<String>, counts: CategoryCounts) -> Result<Self, ReferenceError> {
        let mut seen = BTreeSet::new();
        for name in &names {
            check_name(name)?;
            if !seen.insert(name) {
                return Err(ReferenceError::NameUsedTwice { name: name.clone() });
            }
        }
        let places = names.iter().cloned().enumerate().map(|(place, name)| (name, place)).collect();
        let rows = u128::from(counts.seen().max(1));
        let share =
            |&count: &u64| u64::try_from((u128::from(count) << SHARE_BITS) / rows).unwrap_or(u64::MAX);
        let expected = counts.bins().iter().map(share).collect();
        Ok(Self { names, counts, expected, places })
    }
}

impl TryFrom<CategoryForm> for CategoryReference {
    type Error = ReferenceError;
    fn try_from(CategoryForm { names, counts }: CategoryForm) -> Result<Self, ReferenceError> {
        let damaged = |what| ReferenceError::Damaged { what };
        if names.len() > MAX_CATEGORIES {
            return Err(damaged("it has too many categories"));
        }
        counts.check(names.len() + 1).map_err(damaged)?;
        if counts.seen() < MIN_REFERENCE_ROWS {
            return Err(damaged("it counts fewer than 1000 values"));
        }
        if counts.unseen() != 0 {
            return Err(damaged("it counts values of no category"));
        }
        Self::checked(names, counts)
    }
}

impl From<CategoryReference> for CategoryForm {
    fn from(reference: CategoryReference) -> Self {
        Self { names: reference.names, counts: reference.counts }
    }
}
