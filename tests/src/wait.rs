//! Waiting for a condition with a deadline. Nothing in these tests waits for time to pass.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How often a condition is looked at: fine enough to measure a second, coarse enough for a machine of two cores.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What most things may take on a slow machine that runs other tests beside.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `look` finds something, and panics with `what` when `within` has passed.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, look: impl FnMut() -> Option<T>) -> T {
    match try_until(within, look) {
        Some(found) => found,
        None => panic!("waited {within:?} in vain until {what}"),
    }
}

/// Looks until `look` finds something; `None` when `within` has passed.
pub fn try_until<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

/// Looks until `holds` is true, and panics with `what` when `within` has passed.
#[track_caller]
pub fn until_true(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    until(what, within, || holds().then_some(()));
}

/// Panics with `what` as soon as `broken` is true; returns when `during` has passed.
#[track_caller]
pub fn never(what: &str, during: Duration, mut broken: impl FnMut() -> bool) {
    let seen = try_until(during, || broken().then_some(()));
    assert!(seen.is_none(), "{what}");
}
