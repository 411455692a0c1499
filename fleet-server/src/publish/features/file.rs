//! The schema as it is written, `features.toml`. Every kind of feature is a list of tables of its own, so that a mistake is
//! placed at its line; `docs/features.md` says what each key means.

use std::{collections::BTreeSet, ops::Range};

use muster_engine::features::Extractor;
use serde::Deserialize;
use shared::manifest::{CapturePolicy, DriftGuardrail, ImageOrder};
use toml::Spanned;

use super::{Model, Plan, Planned, entries};
use crate::config::ConfigError;

/// The file in messages.
const NAME: &str = "features";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    numeric: Vec<Spanned<Numeric>>,
    categorical: Vec<Spanned<Categorical>>,
    image: Vec<Spanned<Image>>,
    confidence: Vec<Spanned<Scores>>,
    entropy: Vec<Spanned<Scores>>,
    class: Vec<Spanned<Class>>,
    embedding: Vec<Spanned<Embedding>>,
    capture: Option<Spanned<CapturePolicy>>,
    guardrail: Option<Spanned<DriftGuardrail>>,
}

/// One element of an input or output, or all of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Numeric {
    pub(super) input: Option<String>,
    pub(super) output: Option<String>,
    pub(super) index: Option<u32>,
    pub(super) name: Option<String>,
    pub(super) names: Option<Vec<String>>,
}

/// One element that holds whole numbers, which name categories.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Categorical {
    pub(super) input: Option<String>,
    pub(super) output: Option<String>,
    pub(super) index: Option<u32>,
    pub(super) name: Option<String>,
    pub(super) codes: Option<Vec<i64>>,
    pub(super) names: Option<Vec<String>>,
    #[serde(default)]
    pub(super) list: List,
}

/// Whether there can be other categories.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum List {
    /// There can be.
    #[default]
    Open,
    /// There cannot.
    Closed,
}

/// An input that is an image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    pub(super) input: Option<String>,
    pub(super) name: Option<String>,
    pub(super) order: Option<ImageOrder>,
    pub(super) channels: Option<u32>,
    pub(super) height: Option<u32>,
    pub(super) width: Option<u32>,
    pub(super) statistics: Option<Vec<String>>,
}

/// An output that holds scores.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scores {
    pub(super) output: Option<String>,
    pub(super) name: Option<String>,
}

/// The same, and what its places mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    pub(super) output: Option<String>,
    pub(super) name: Option<String>,
    pub(super) names: Option<Vec<String>>,
}

/// An output that is an embedding.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Embedding {
    pub(super) output: Option<String>,
    pub(super) name: Option<String>,
    pub(super) projections: Option<u32>,
    #[serde(default)]
    pub(super) seed: u64,
}

pub(super) fn read(text: &str, model: Model<'_>) -> Result<Plan, ConfigError> {
    let file: File = toml::from_str(text).map_err(|error| ConfigError::toml(NAME, text, &error))?;
    let mut gathered = Gathered { text, model, features: vec![], names: BTreeSet::new() };
    gathered.all(&file.numeric, |entry| entries::numeric(entry, model))?;
    gathered.all(&file.categorical, |entry| entries::categorical(entry, model))?;
    gathered.all(&file.image, |entry| entries::image(entry, model))?;
    gathered.all(&file.confidence, |entry| entries::confidence(entry, model))?;
    gathered.all(&file.entropy, |entry| entries::entropy(entry, model))?;
    gathered.all(&file.class, |entry| entries::class(entry, model))?;
    gathered.all(&file.embedding, |entry| entries::embedding(entry, model))?;
    let capture = checked(text, file.capture, CapturePolicy::check)?;
    let guardrail = checked(text, file.guardrail, DriftGuardrail::check)?;
    Ok(Plan { features: gathered.features, capture: capture.unwrap_or_default(), guardrail })
}

/// The features so far.
struct Gathered<'a> {
    text: &'a str,
    model: Model<'a>,
    features: Vec<Planned>,
    names: BTreeSet<String>,
}

impl Gathered<'_> {
    fn all<T>(
        &mut self,
        entries: &[Spanned<T>],
        plan: impl Fn(&T) -> Result<Vec<Planned>, String>,
    ) -> Result<(), ConfigError> {
        for entry in entries {
            let wrong = |why| mistake(self.text, entry.span(), why);
            let planned = plan(entry.get_ref()).map_err(wrong)?;
            let sources: Vec<_> = planned.iter().map(|feature| feature.source(vec![])).collect();
            let fits = Extractor::new(&sources, self.model.inputs, self.model.outputs);
            fits.map_err(|error| wrong(error.to_string()))?;
            for feature in &planned {
                if !self.names.insert(feature.name.clone()) {
                    let name = &feature.name;
                    return Err(wrong(format!("two features are called '{name}': give one another `name`")));
                }
            }
            self.features.extend(planned);
        }
        Ok(())
    }
}

fn checked<T>(
    text: &str,
    section: Option<Spanned<T>>,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<Option<T>, ConfigError> {
    let Some(section) = section else { return Ok(None) };
    check(section.get_ref()).map_err(|why| mistake(text, section.span(), why))?;
    Ok(Some(section.into_inner()))
}

fn mistake(text: &str, span: Range<usize>, why: String) -> ConfigError {
    ConfigError::at(NAME, text, span, why)
}
