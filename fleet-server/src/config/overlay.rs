//! Variables `MUSTER__SECTION__KEY` on top of the file.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{Config, ConfigError};

const PREFIX: &str = "MUSTER__";

/// The variables that may change the configuration, in a fixed order.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect())
    }
}

/// Lays each variable over the file alone, so that a mistake is blamed on the one that made it.
pub(super) fn apply(from_file: Config, text: &str, variables: &Variables) -> Result<Config, ConfigError> {
    if variables.0.is_empty() {
        return Ok(from_file);
    }
    let mut table: Table = text.parse().unwrap_or_default();
    let mut config = from_file;
    for (name, value) in &variables.0 {
        let wrong = |message: String| ConfigError::Variable { name: name.clone(), message };
        config = try_variable(&mut table, name, value).map_err(wrong)?;
    }
    Ok(config)
}

/// A value is read as TOML where it is TOML of the right type, and as text otherwise: `8443`, `["a"]`, `/srv/muster`.
fn try_variable(table: &mut Table, name: &str, text: &str) -> Result<Config, String> {
    let path: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
    let as_text = Value::String(text.to_owned());
    let as_toml = format!("value = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("value"));
    let mut first_error = None;
    for value in as_toml.into_iter().chain([as_text]) {
        let mut changed = table.clone();
        insert(&mut changed, &path, value)?;
        match changed.clone().try_into::<Config>() {
            Ok(config) => {
                *table = changed;
                return Ok(config);
            }
            Err(error) => first_error = first_error.or_else(|| Some(error.message().to_owned())),
        }
    }
    Err(first_error.unwrap_or_else(|| "not a value".into()))
}

fn insert(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Err("names no key".into()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [section, rest @ ..] => {
            let inner = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| format!("{section} is not a section"))?;
            insert(inner, rest, value)
        }
    }
}
