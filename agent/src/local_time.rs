//! How far the device's local time is ahead of UTC. Maintenance windows are the only thing that asks.

use shared::Timestamp;

/// The offset at this moment, by the system's time zone; 0 where none is set.
#[must_use]
pub fn utc_offset_secs(at: Timestamp) -> i32 {
    let moment = i64::try_from(at.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or(0, |moment| jiff::tz::TimeZone::system().to_offset(moment).seconds())
}
