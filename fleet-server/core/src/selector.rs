//! Which devices: a small language over labels, ids and what devices are.
//!
//! ```
//! let selector = fleet_core::Selector::parse("site=berlin, env!=lab, line in (1,2), mem_mib>=512").unwrap();
//! assert_eq!(selector.to_string(), "site=berlin,env!=lab,line in (1,2),mem_mib>=512");
//! ```
//!
//! | written | selects |
//! |---|---|
//! | `all` | every device |
//! | `k=v` | devices whose label `k` is `v` |
//! | `k!=v` | devices whose label `k` is not `v`, also those without `k` |
//! | `k in (a,b)` | devices whose label `k` is one of the listed |
//! | `id=D`, `id!=D`, `id in (D,E)` | the same, by the name of the device |
//! | `arch=A`, `agent=V`, `hardening=full` | the same, by what the device told of itself |
//! | `mem_mib>=N`, also `>`, `<=`, `<` | devices with at least `N` MiB of memory; also `disk_mib` (free) and `cpus` |
//!
//! A comma means *and*. There is no *or*: two rollouts say it better. A device that never told what it is has no value
//! there: it is not equal to any, and neither smaller nor larger. A label with one of these names cannot be selected.

mod inventory;
mod parse;

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use shared::{
    DeviceId,
    device::{Inventory, Labels},
};
use thiserror::Error;

use inventory::{Number, Order, Word};

/// Longest selector: a snapshot list of a thousand devices with the longest names.
pub const MAX_SELECTOR_BYTES: usize = 66 * 1_024;

/// A set of devices, described by what they have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    /// All must hold; none means every device.
    clauses: Vec<Clause>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    subject: Subject,
    test: Test,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Device,
    Label(String),
    Word(Word),
    Number(Number),
}

/// What is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Is(String),
    IsNot(String),
    In(BTreeSet<String>),
    Ordered(Order, u64),
}

/// A text is not a selector; the message says what is wrong, where, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("selector, character {at}: {message}")]
pub struct SelectorError {
    /// Where, counted in characters from 1.
    pub at: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl Selector {
    /// Every device.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Reads a selector.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self { clauses: parse::clauses(text)? })
    }

    /// True when a device of this name, with these labels, that told this of itself, is selected.
    #[must_use]
    pub fn matches(&self, device: &DeviceId, labels: &Labels, inventory: &Inventory) -> bool {
        self.clauses.iter().all(|clause| clause.holds(device, labels, inventory))
    }
}

impl Clause {
    fn holds(&self, device: &DeviceId, labels: &Labels, inventory: &Inventory) -> bool {
        let value = match &self.subject {
            Subject::Device => Some(device.as_str()),
            Subject::Label(name) => labels.get(name).map(String::as_str),
            Subject::Word(word) => word.of(inventory),
            Subject::Number(number) => return self.holds_number(number.of(inventory)),
        };
        match &self.test {
            Test::Is(wanted) => value == Some(wanted),
            Test::IsNot(unwanted) => value != Some(unwanted),
            Test::In(wanted) => value.is_some_and(|value| wanted.contains(value)),
            Test::Ordered(..) => false,
        }
    }

    fn holds_number(&self, value: Option<u64>) -> bool {
        match &self.test {
            Test::Ordered(order, bound) => value.is_some_and(|value| order.holds(value, *bound)),
            Test::Is(_) | Test::IsNot(_) | Test::In(_) => false,
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;
    fn try_from(text: String) -> Result<Self, SelectorError> {
        Self::parse(&text)
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.clauses.split_first() else {
            return f.write_str("all");
        };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|clause| write!(f, ",{clause}"))
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match &self.subject {
            Subject::Device => parse::DEVICE,
            Subject::Label(name) => name,
            Subject::Word(word) => word.name(),
            Subject::Number(number) => number.name(),
        };
        match &self.test {
            Test::Ordered(order, bound) => write!(f, "{subject}{}{bound}", order.sign()),
            Test::Is(value) => write!(f, "{subject}={value}"),
            Test::IsNot(value) => write!(f, "{subject}!={value}"),
            Test::In(values) => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                write!(f, "{subject} in ({})", values.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests;
