//! Moments as people write them.

use std::{str::FromStr, time::Duration};

use shared::Timestamp;

use super::args::parse_duration;

/// Fewest digits of a moment in milliseconds, so that nobody means days or seconds: what has fewer lies before 1974.
const MIN_MILLIS_DIGITS: usize = 12;

/// A moment, relative or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At that moment.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
    /// So long after now.
    In(Duration),
}

impl When {
    /// The moment, seen from `now`.
    #[must_use]
    pub fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(time) => {
                Timestamp(now.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
            }
            Self::In(time) => now + time,
        }
    }
}

impl FromStr for When {
    type Err = String;

    /// Reads `2026-01-31T08:45:00Z` with any offset, `2h ago`, `in 2h`, `now`. The table's own `2026-01-31 08:45:00Z`
    /// is read too, and so are milliseconds since 1970 as JSON has them.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "now" {
            return Ok(Self::Ago(Duration::ZERO));
        }
        if let Some(time) = text.strip_suffix(" ago") {
            return parse_duration(time.trim()).map(Self::Ago);
        }
        if let Some(time) = text.strip_prefix("in ") {
            return parse_duration(time.trim()).map(Self::In);
        }
        if let Ok(millis) = text.parse()
            && text.len() >= MIN_MILLIS_DIGITS
        {
            return Ok(Self::At(Timestamp(millis)));
        }
        let wrong = || {
            format!(
                "'{text}' is not a moment: write for example 2026-01-31T08:45:00Z, '2h ago', 'in 2h' or now"
            )
        };
        let moment: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
        u64::try_from(moment.as_millisecond()).map(|millis| Self::At(Timestamp(millis))).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn moments_are_read_as_people_write_them_and_as_tables_show_them() {
        let at = |text: &str| text.parse::<When>().map(|when| when.seen_from(NOW));
        assert_eq!(at("2027-01-15T08:00:00Z"), Ok(NOW));
        assert_eq!(at("2027-01-15T09:00:00+01:00"), Ok(NOW));
        assert_eq!(at("2027-01-15 08:00:00Z"), Ok(NOW));
        assert_eq!(at("1800000000000"), Ok(NOW));
        assert_eq!(at("now"), Ok(NOW));
        assert_eq!(at("2h ago"), Ok(Timestamp(NOW.0 - 7_200_000)));
        assert_eq!(at(" in 30m "), Ok(Timestamp(NOW.0 + 1_800_000)));
        assert_eq!(at("99999999999d ago"), Ok(Timestamp(0)));
    }

    #[test]
    fn what_names_no_moment_is_refused_with_what_to_write() {
        for wrong in [
            "",
            "1800000000",
            "yesterday",
            "2h",
            "2027-01-15",
            "2027-01-15T08:00:00",
            "1960-01-01T00:00:00Z",
            "2y ago",
        ] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
        assert!("soon".parse::<When>().unwrap_err().contains("'2h ago'"));
    }
}
