//! Whether this server draws the consequences of time.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// The lease as far as this server knows.
#[derive(Debug)]
pub struct Lease(Mutex<Standing>);

#[derive(Debug, Clone, Copy)]
enum Standing {
    /// There is nobody else.
    Alone,
    /// Another server has it, or nobody.
    Without,
    /// Ours until then.
    Held { epoch: u64, until: Instant },
}

impl Lease {
    /// The lease of a server that is alone, or that has yet to ask for it.
    #[must_use]
    pub fn new(is_shared: bool) -> Self {
        Self(Mutex::new(if is_shared { Standing::Without } else { Standing::Alone }))
    }

    /// Ours until `until`.
    pub fn hold(&self, epoch: u64, until: Instant) {
        self.set(Standing::Held { epoch, until });
    }

    /// No longer ours.
    pub fn lose(&self) {
        self.set(Standing::Without);
    }

    /// The epoch under which we last held it.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        match self.get() {
            Standing::Alone | Standing::Without => None,
            Standing::Held { epoch, .. } => Some(epoch),
        }
    }

    /// True when this server may draw the consequences of time at `now`.
    #[must_use]
    pub fn is_ours(&self, now: Instant) -> bool {
        match self.get() {
            Standing::Alone => true,
            Standing::Without => false,
            Standing::Held { until, .. } => now < until,
        }
    }

    fn get(&self) -> Standing {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, standing: Standing) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*held, Standing::Alone) {
            *held = standing;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_that_is_not_renewed_ends_and_one_who_is_alone_needs_none() {
        let now = Instant::now();
        let shared = Lease::new(true);
        assert!(!shared.is_ours(now));
        shared.hold(3, now + Duration::from_secs(5));
        assert!(
            shared.is_ours(now + Duration::from_secs(4)) && !shared.is_ours(now + Duration::from_secs(5))
        );
        assert_eq!(shared.epoch(), Some(3));
        shared.lose();
        assert!(!shared.is_ours(now));
        let alone = Lease::new(false);
        alone.lose();
        assert!(alone.is_ours(now) && alone.epoch().is_none());
    }
}
