//! How far the device's local time is ahead of UTC. Maintenance windows ask, and the server, whose rollouts have windows
//! too.

use shared::Timestamp;

use crate::clock::Clock;

/// How far local time is ahead of what the core takes for UTC, which stands still when the clock is set.
#[must_use]
pub fn of_core(clock: &Clock) -> i32 {
    let ahead = i32::try_from(clock.ahead().as_secs()).unwrap_or(i32::MAX);
    utc_offset_secs(clock.now()).saturating_add(ahead)
}

/// The offset at this moment, by the system's time zone; 0 where none is set.
#[must_use]
pub fn utc_offset_secs(at: Timestamp) -> i32 {
    let moment = i64::try_from(at.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or(0, |moment| jiff::tz::TimeZone::system().to_offset(moment).seconds())
}

/// The offset now.
#[must_use]
pub fn utc_offset_now_secs() -> i32 {
    utc_offset_secs(Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)))
}
