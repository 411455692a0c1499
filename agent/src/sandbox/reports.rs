//! What the processes that touch models have told about their sandboxes, for the inventory.

use shared::device::{Hardening, HardeningLevel};
use tokio::sync::watch;

/// The weakest sandbox that was told of, for all who want to know.
#[derive(Debug, Clone)]
pub struct Reports(watch::Sender<Option<Hardening>>);

impl Default for Reports {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Reports {
    /// A process has told.
    pub fn add(&self, hardening: Hardening) {
        let changed = self.0.send_if_modified(|known| {
            let merged = known.as_ref().map_or_else(|| hardening.clone(), |known| weaker(known, &hardening));
            let changed = known.as_ref() != Some(&merged);
            *known = Some(merged);
            changed
        });
        if changed && hardening.level != HardeningLevel::Full {
            tracing::warn!(%hardening, "this kernel does not keep models away from everything else");
        }
    }

    /// The present state, and news of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Hardening>> {
        self.0.subscribe()
    }
}

/// What is missing in either of two processes is missing on the device.
fn weaker(one: &Hardening, other: &Hardening) -> Hardening {
    let mut missing = one.missing.clone();
    missing.extend(other.missing.iter().filter(|layer| !one.missing.contains(layer)).cloned());
    let level = if rank(one.level) <= rank(other.level) { one.level } else { other.level };
    Hardening { level, missing }
}

fn rank(level: HardeningLevel) -> u8 {
    match level {
        HardeningLevel::Full => 2,
        HardeningLevel::Partial => 1,
        HardeningLevel::None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardening(level: HardeningLevel, missing: &[&str]) -> Hardening {
        Hardening { level, missing: missing.iter().map(|layer| (*layer).to_owned()).collect() }
    }

    #[test]
    fn the_inventory_lacks_what_any_process_lacks() {
        let reports = Reports::default();
        let mut watch = reports.watch();
        assert_eq!(*watch.borrow_and_update(), None);
        reports.add(hardening(HardeningLevel::Partial, &["network"]));
        reports.add(hardening(HardeningLevel::Full, &[]));
        reports.add(hardening(HardeningLevel::Partial, &["network", "files"]));
        assert!(watch.has_changed().unwrap());
        let told = hardening(HardeningLevel::Partial, &["network", "files"]);
        assert_eq!(watch.borrow_and_update().clone(), Some(told.clone()));
        reports.add(told);
        assert!(!watch.has_changed().unwrap(), "the same again is no news");
    }
}
