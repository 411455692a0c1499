//! Which counters and gauges the applications of one model have, so that their number stays bounded.

use std::collections::BTreeMap;

use shared::{
    MetricName,
    telemetry::{CustomKind, MAX_CUSTOM_METRICS},
};
use thiserror::Error;

/// The names that were reported since the model was loaded first, over all of its versions.
#[derive(Debug, Default)]
pub(crate) struct CustomNames(BTreeMap<MetricName, CustomKind>);

/// Why a report is not taken.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum NotTaken {
    #[error("'{name}' is a {known} since its first report; report it as one, or choose another name")]
    OtherKind { name: MetricName, known: CustomKind },
    #[error(
        "there is no room for '{name}': the {MAX_CUSTOM_METRICS} counters and gauges of the model are {known}; report one \
         of these"
    )]
    NoRoom { name: MetricName, known: String },
}

impl CustomNames {
    /// Takes a report's name in, if it may come.
    pub(crate) fn admit(&mut self, name: &MetricName, kind: CustomKind) -> Result<(), NotTaken> {
        match self.0.get(name) {
            Some(known) if *known == kind => Ok(()),
            Some(known) => Err(NotTaken::OtherKind { name: name.clone(), known: *known }),
            None if self.0.len() >= MAX_CUSTOM_METRICS => {
                let known: Vec<&str> = self.0.keys().map(MetricName::as_str).collect();
                Err(NotTaken::NoRoom { name: name.clone(), known: known.join(", ") })
            }
            None => {
                self.0.insert(name.clone(), kind);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_too_many_is_refused_and_the_known_ones_go_on() {
        let mut names = CustomNames::default();
        let name = |n: usize| MetricName::new(format!("n{n}")).unwrap();
        for n in 0..MAX_CUSTOM_METRICS {
            assert_eq!(names.admit(&name(n), CustomKind::Gauge), Ok(()));
        }
        let refused = names.admit(&name(99), CustomKind::Gauge).unwrap_err().to_string();
        assert!(refused.contains("'n99'") && refused.contains("n0, n1, n10"), "{refused}");
        assert_eq!(names.admit(&name(3), CustomKind::Gauge), Ok(()));
    }

    #[test]
    fn a_name_keeps_its_kind() {
        let mut names = CustomNames::default();
        let name = MetricName::new("queue").unwrap();
        names.admit(&name, CustomKind::Gauge).unwrap();
        let refused = names.admit(&name, CustomKind::Counter).unwrap_err().to_string();
        assert!(refused.contains("is a gauge since"), "{refused}");
    }
}
