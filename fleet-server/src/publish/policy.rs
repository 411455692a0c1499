//! The policy file: what a publisher wants otherwise than by default.

use serde::{Deserialize, Serialize};
use shared::manifest::{Budgets, ErrorTest, ProbationPolicy, Tolerance};

use crate::config::ConfigError;

/// Numbers that travel in the manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Policy {
    /// How far an output may lie from its golden value.
    pub tolerance: Tolerance,
    /// What the model may cost.
    pub budgets: Budgets,
    /// When a device keeps it and when it goes back.
    pub probation: ProbationPolicy,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tolerance: Option<Tolerance>,
    budgets: BudgetsFile,
    probation: ProbationFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BudgetsFile {
    latency_ms: Option<u32>,
    load_ms: Option<u32>,
    memory_mib: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProbationFile {
    duration_secs: Option<u32>,
    min_inferences: Option<u32>,
    max_starts: Option<u32>,
    failures: Option<ErrorTest>,
    slow: Option<ErrorTest>,
}

impl Policy {
    /// Reads a policy file; what it does not say stays at its default.
    ///
    /// # Errors
    /// Names line and column.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::toml("policy", text, &error))?;
        let Self { tolerance, budgets, probation } = Self::default();
        Ok(Self {
            tolerance: file.tolerance.unwrap_or(tolerance),
            budgets: Budgets {
                latency_ms: file.budgets.latency_ms.unwrap_or(budgets.latency_ms),
                load_ms: file.budgets.load_ms.unwrap_or(budgets.load_ms),
                memory_mib: file.budgets.memory_mib.unwrap_or(budgets.memory_mib),
            },
            probation: ProbationPolicy {
                duration_secs: file.probation.duration_secs.unwrap_or(probation.duration_secs),
                min_inferences: file.probation.min_inferences.unwrap_or(probation.min_inferences),
                max_starts: file.probation.max_starts.unwrap_or(probation.max_starts),
                failures: file.probation.failures.unwrap_or(probation.failures),
                slow: file.probation.slow.unwrap_or(probation.slow),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_changes_only_what_it_names() {
        let policy = Policy::read("[probation]\nduration_secs = 5\n[budgets]\nlatency_ms = 20").unwrap();
        assert_eq!((policy.probation.duration_secs, policy.budgets.latency_ms), (5, 20));
        let rest = Policy {
            probation: ProbationPolicy { duration_secs: 600, ..policy.probation },
            budgets: Budgets { latency_ms: 1_000, ..policy.budgets },
            ..policy
        };
        assert_eq!(rest, Policy::default());
    }

    #[test]
    fn a_misspelt_key_is_placed() {
        let error = Policy::read("[budgets]\nlatency = 20").unwrap_err().to_string();
        assert!(error.starts_with("policy:2:1: ") && error.contains("latency_ms"), "{error}");
    }
}
