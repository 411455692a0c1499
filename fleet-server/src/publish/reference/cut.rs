//! From the values of a feature to its reference.

use std::collections::BTreeMap;

use muster_sketch::reference::{
    CategoryReference, FeatureReference, NumericReference, ReferenceError, ReferenceValues,
};

use super::collect::{CodeCounts, Column};
use crate::publish::features::{Planned, What};

/// The reference of a feature with these values, and the numbers of its categories in their order, if it has categories with numbers.
pub(super) fn reference(feature: &Planned, column: &Column) -> Result<(FeatureReference, Vec<i64>), String> {
    let name = feature.name.as_str();
    let (values, codes) = match (column, &feature.what) {
        (Column::Numbers(numbers), _) => (numeric(name, numbers)?, vec![]),
        (Column::Codes(found), What::Code { codes, .. }) => codes_of(name, found, codes.as_deref())?,
        (Column::Classes { counts, missing }, What::TopClass { names }) => {
            (classes(name, counts, *missing, names.as_deref())?, vec![])
        }
        (Column::Codes(_) | Column::Classes { .. }, _) => {
            return Err(format!("feature '{name}': its values are of another kind"));
        }
    };
    Ok((FeatureReference { name: name.to_owned(), values }, codes))
}

fn numeric(name: &str, numbers: &[f32]) -> Result<ReferenceValues, String> {
    NumericReference::from_sample(name, numbers)
        .map(ReferenceValues::Numeric)
        .map_err(|error| error.to_string())
}

/// In the order that the publisher lists them in, or ascending.
fn codes_of(
    name: &str,
    found: &CodeCounts,
    listed: Option<&[(i64, String)]>,
) -> Result<(ReferenceValues, Vec<i64>), String> {
    if found.none > 0 {
        return Err(format!(
            "feature '{name}': {} values of the sample are no whole numbers, which name categories: watch it as a number",
            found.none
        ));
    }
    let listed: Vec<(i64, String)> = match listed {
        Some(listed) => listed.to_vec(),
        None => found.counts.keys().map(|&code| (code, code.to_string())).collect(),
    };
    let names: BTreeMap<i64, &String> = listed.iter().map(|(code, name)| (*code, name)).collect();
    if let Some((code, count)) = found.counts.iter().find(|(code, _)| !names.contains_key(code)) {
        return Err(format!(
            "feature '{name}': the sample has the code {code}, {count} times, which is not listed: list it, or leave \
             `codes` and `names` out to take those of the sample"
        ));
    }
    let counts =
        listed.iter().map(|(code, name)| (name.clone(), found.counts.get(code).copied().unwrap_or(0)));
    let values = categories(name, counts.collect(), found.missing)?;
    Ok((values, listed.into_iter().map(|(code, _)| code).collect()))
}

fn classes(
    name: &str,
    counts: &[u64],
    missing: u64,
    names: Option<&[String]>,
) -> Result<ReferenceValues, String> {
    let names: Vec<String> = match names {
        Some(names) if names.len() != counts.len() => {
            return Err(format!(
                "feature '{name}': {} names for the {} scores of an answer: one each",
                names.len(),
                counts.len()
            ));
        }
        Some(names) => names.to_vec(),
        None => (0..counts.len()).map(|class| class.to_string()).collect(),
    };
    categories(name, names.into_iter().zip(counts.iter().copied()).collect(), missing)
}

fn categories(name: &str, counts: Vec<(String, u64)>, missing: u64) -> Result<ReferenceValues, String> {
    CategoryReference::from_counts(name, counts, missing).map(ReferenceValues::Category).map_err(|error| {
        match error {
            // These name the category and not whose it is.
            ReferenceError::BadName { .. } | ReferenceError::NameUsedTwice { .. } => {
                format!("feature '{name}': {error}")
            }
            error => error.to_string(),
        }
    })
}
