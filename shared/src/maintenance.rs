//! Maintenance windows: when, by the device's own clock on the wall, a new version may begin to answer.
//!
//! A window is text, `Mon-Fri 22:00-05:00`, in documents and in configurations alike. It belongs to the day on which
//! it begins: the one above is open on Saturday at four, and not on Monday at four. Nothing here knows a time zone:
//! whoever asks says how far local time is ahead of UTC.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::time::Timestamp;

/// Windows of one device: more than one for each day and night of a week.
pub const MAX_WINDOWS: usize = 16;

/// Farthest that a local time lies from UTC: 26 hours, beyond every zone of the world.
pub const MAX_UTC_OFFSET_SECS: i32 = 26 * 3_600;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES: u32 = 24 * 60;
const WEEK_MINUTES: u32 = 7 * DAY_MINUTES;
const MINUTE_MS: u64 = 60_000;

/// 1970-01-01 was a Thursday, three days after a Monday.
const EPOCH_DAY: i64 = 3;

/// Why a text is not a maintenance window.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "'{text}' is not a maintenance window: {problem}; expected DAYS HH:MM-HH:MM, for example 'Mon-Fri 22:00-05:00', \
     'Sat,Sun 00:00-24:00' or 'Daily 02:00-04:00'"
)]
pub struct InvalidWindow {
    text: String,
    problem: String,
}

/// Days of the week and minutes of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaintenanceWindow {
    /// The days on which it begins; Monday is the lowest bit. Never empty.
    days: u8,
    /// Minute of the day at which it opens, below 1440.
    from: u32,
    /// Minute at which it closes, counted from the same midnight: beyond 1440 on the next day.
    to: u32,
}

/// The windows of a device; never empty, because a device without windows has none of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<MaintenanceWindow>", into = "Vec<MaintenanceWindow>")]
pub struct MaintenanceWindows(Vec<MaintenanceWindow>);

impl MaintenanceWindows {
    /// A week of windows.
    ///
    /// # Errors
    /// When there is none, or more than [`MAX_WINDOWS`].
    pub fn new(windows: Vec<MaintenanceWindow>) -> Result<Self, String> {
        match windows.len() {
            1..=MAX_WINDOWS => Ok(Self(windows)),
            n => Err(format!("{n} maintenance windows; allowed are 1 to {MAX_WINDOWS}")),
        }
    }

    /// The moment at which one is open: `now` itself, or the next opening. `utc_offset_secs` is how far local time is
    /// ahead of UTC.
    #[must_use]
    pub fn opens_at(&self, now: Timestamp, utc_offset_secs: i32) -> Timestamp {
        let (minute, into_ms) = minute_of_week(now, utc_offset_secs);
        let wait = self.0.iter().map(|window| window.wait_minutes(minute)).min().unwrap_or(0);
        match wait {
            0 => now,
            wait => Timestamp(now.as_millis().saturating_add(u64::from(wait) * MINUTE_MS - into_ms)),
        }
    }
}

/// Day and time on the wall, `Mon 22:00`.
#[must_use]
pub fn local_time(at: Timestamp, utc_offset_secs: i32) -> String {
    let (minute, _) = minute_of_week(at, utc_offset_secs);
    format!("{} {}", DAYS[(minute / DAY_MINUTES) as usize], clock(minute % DAY_MINUTES))
}

/// Minutes since Monday's midnight, and milliseconds into that minute.
fn minute_of_week(at: Timestamp, utc_offset_secs: i32) -> (u32, u64) {
    let offset_secs = utc_offset_secs.clamp(-MAX_UTC_OFFSET_SECS, MAX_UTC_OFFSET_SECS);
    let local_ms =
        i64::try_from(at.as_millis()).unwrap_or(i64::MAX / 2).saturating_add(i64::from(offset_secs) * 1_000);
    let minute = local_ms.div_euclid(MINUTE_MS as i64) + EPOCH_DAY * i64::from(DAY_MINUTES);
    // Both remainders are smaller than what they are divided by.
    (minute.rem_euclid(i64::from(WEEK_MINUTES)) as u32, local_ms.rem_euclid(MINUTE_MS as i64) as u64)
}

impl MaintenanceWindow {
    /// Minutes until it is open, 0 when it is, counted from `minute` of the week.
    fn wait_minutes(&self, minute: u32) -> u32 {
        let openings =
            (0..7).filter(|day| self.days & (1 << day) != 0).map(|day| day * DAY_MINUTES + self.from);
        let waits = openings.map(|opening| {
            let since = (minute + WEEK_MINUTES - opening) % WEEK_MINUTES;
            if since < self.to - self.from { 0 } else { WEEK_MINUTES - since }
        });
        waits.min().unwrap_or(WEEK_MINUTES)
    }
}

impl FromStr for MaintenanceWindow {
    type Err = InvalidWindow;

    /// ```
    /// use shared::maintenance::MaintenanceWindow;
    /// let window: MaintenanceWindow = "mon-fri 22:00-5:00".parse()?;
    /// assert_eq!(window.to_string(), "Mon-Fri 22:00-05:00");
    /// # Ok::<(), shared::maintenance::InvalidWindow>(())
    /// ```
    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        parse(text).map_err(|problem| InvalidWindow { text: text.chars().take(64).collect(), problem })
    }
}

fn parse(text: &str) -> Result<MaintenanceWindow, String> {
    let (days, hours) = text.trim().split_once(' ').ok_or("days and hours are separated by a space")?;
    let (from, to) = hours.trim().split_once('-').ok_or("the hours are two times joined by '-'")?;
    let (days, from, to) = (parse_days(days)?, parse_time(from)?, parse_time(to)?);
    match (from, to) {
        (DAY_MINUTES, _) => Err("a day begins at 00:00; 24:00 is an end".into()),
        (from, to) if from == to => {
            Err("it opens and closes at the same minute; a whole day is 00:00-24:00".into())
        }
        (from, to) if to < from => Ok(MaintenanceWindow { days, from, to: to + DAY_MINUTES }),
        (from, to) => Ok(MaintenanceWindow { days, from, to }),
    }
}

/// `Mon`, `Mon-Fri`, `Sat,Sun`, `Fri-Mon` or `Daily`, as bits.
fn parse_days(text: &str) -> Result<u8, String> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok(0b111_1111);
    }
    text.split(',').try_fold(0, |days, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_day(first)?, parse_day(last)?);
        let length = (last + 7 - first) % 7;
        Ok((0..=length).fold(days, |days, step| days | 1 << ((first + step) % 7)))
    })
}

fn parse_day(text: &str) -> Result<usize, String> {
    let day = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
    day.ok_or_else(|| {
        format!("'{}' is not one of Mon Tue Wed Thu Fri Sat Sun", text.chars().take(16).collect::<String>())
    })
}

fn parse_time(text: &str) -> Result<u32, String> {
    let number = |part: &str| {
        let fits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| part.parse::<u32>().ok()).flatten()
    };
    let time = text.trim().split_once(':').and_then(|(hour, minute)| Some((number(hour)?, number(minute)?)));
    match time {
        Some((hour @ 0..=23, minute @ 0..=59)) => Ok(hour * 60 + minute),
        Some((24, 0)) => Ok(DAY_MINUTES),
        _ => Err(format!(
            "'{}' is not a time from 00:00 to 24:00",
            text.trim().chars().take(16).collect::<String>()
        )),
    }
}

fn clock(minute: u32) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

impl fmt::Display for MaintenanceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = if self.to > DAY_MINUTES { self.to - DAY_MINUTES } else { self.to };
        write!(f, "{} {}-{}", days_in_words(self.days), clock(self.from), clock(to))
    }
}

/// Runs of days as ranges, in the order of the week.
fn days_in_words(days: u8) -> String {
    if days == 0b111_1111 {
        return "Daily".into();
    }
    let has = |day: usize| day < 7 && days & (1 << day) != 0;
    let starts = (0..7).filter(|&day| has(day) && (day == 0 || !has(day - 1)));
    let runs = starts.map(|first| {
        let last = (first..7).take_while(|&day| has(day)).last().unwrap_or(first);
        if first == last { DAYS[first].to_owned() } else { format!("{}-{}", DAYS[first], DAYS[last]) }
    });
    runs.collect::<Vec<_>>().join(",")
}

impl fmt::Display for MaintenanceWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let windows: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&windows.join(" or "))
    }
}

impl TryFrom<String> for MaintenanceWindow {
    type Error = InvalidWindow;
    fn try_from(text: String) -> Result<Self, InvalidWindow> {
        text.parse()
    }
}

impl From<MaintenanceWindow> for String {
    fn from(window: MaintenanceWindow) -> Self {
        window.to_string()
    }
}

impl TryFrom<Vec<MaintenanceWindow>> for MaintenanceWindows {
    type Error = String;
    fn try_from(windows: Vec<MaintenanceWindow>) -> Result<Self, String> {
        Self::new(windows)
    }
}

impl From<MaintenanceWindows> for Vec<MaintenanceWindow> {
    fn from(windows: MaintenanceWindows) -> Self {
        windows.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23T00:00:00Z, a Monday.
    const MONDAY: Timestamp = Timestamp(1_795_392_000_000);
    const HOUR_MS: u64 = 3_600_000;

    fn windows(text: &str) -> MaintenanceWindows {
        MaintenanceWindows::new(vec![text.parse().unwrap()]).unwrap()
    }

    fn hours_until_open(text: &str, hour_of_week: u64, offset_hours: i32) -> u64 {
        let now = Timestamp(MONDAY.0 + hour_of_week * HOUR_MS);
        (windows(text).opens_at(now, offset_hours * 3_600).0 - now.0) / HOUR_MS
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let nights = "Mon-Fri 22:00-05:00";
        assert_eq!(hours_until_open(nights, 4, 0), 18, "Monday at four follows no window of Sunday");
        assert_eq!(hours_until_open(nights, 22, 0), 0);
        assert_eq!(hours_until_open(nights, 24 + 4, 0), 0);
        assert_eq!(hours_until_open(nights, 24 + 5, 0), 17);
        assert_eq!(hours_until_open(nights, 5 * 24 + 4, 0), 0, "Saturday at four belongs to Friday");
        assert_eq!(hours_until_open(nights, 5 * 24 + 5, 0), 24 + 24 + 17);
        assert_eq!(hours_until_open("Sun 22:00-05:00", 4, 0), 0, "and Monday at four to Sunday");
    }

    #[test]
    fn local_time_decides_and_a_changed_offset_moves_the_window() {
        assert_eq!(hours_until_open("Mon 10:00-12:00", 9, 0), 1);
        assert_eq!(hours_until_open("Mon 10:00-12:00", 9, 1), 0);
        assert_eq!(hours_until_open("Mon 10:00-12:00", 9, -9), 10);
        assert_eq!(hours_until_open("Sun 23:00-24:00", 0, -1), 0, "it is still Sunday there");
        assert_eq!(local_time(MONDAY, -3_600), "Sun 23:00");
    }

    #[test]
    fn a_whole_day_and_a_last_minute_are_open_to_their_end() {
        assert_eq!(hours_until_open("Sat,Sun 00:00-24:00", 6 * 24 + 23, 0), 0);
        assert_eq!(hours_until_open("Sat,Sun 00:00-24:00", 0, 0), 5 * 24);
        let now = Timestamp(MONDAY.0 + 59_999);
        assert_eq!(windows("Mon 00:01-00:02").opens_at(now, 0), Timestamp(MONDAY.0 + 60_000));
        assert_eq!(windows("Mon 00:00-00:01").opens_at(now, 0), now);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_was_expected() {
        for (text, words) in [
            ("Mon-Fri", "separated by a space"),
            ("Mon-Fri 22:00", "joined by '-'"),
            ("Mo 22:00-23:00", "'Mo' is not one of Mon"),
            ("Mon 25:00-26:00", "'25:00' is not a time"),
            ("Mon 5:00-5:00", "the same minute"),
            ("Mon 24:00-05:00", "24:00 is an end"),
        ] {
            let error = text.parse::<MaintenanceWindow>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("Mon-Fri 22:00-05:00"), "{error}");
        }
        assert!(
            serde_json::from_str::<MaintenanceWindows>("[]").unwrap_err().to_string().contains("0 maint")
        );
    }

    proptest! {
        #[test]
        fn a_window_survives_its_text(days in 1_u8..128, from in 0_u32..1_440, length in 1_u32..1_440) {
            let to = from + length;
            let window = MaintenanceWindow { days, from, to };
            prop_assert_eq!(window.to_string().parse::<MaintenanceWindow>().unwrap(), window);
        }

        #[test]
        fn a_window_is_open_when_it_opens_and_not_a_moment_earlier(
            days in 1_u8..128, from in 0_u32..1_440, length in 1_u32..1_440, now: u32, offset in -50_000_i32..50_000
        ) {
            let windows = MaintenanceWindows(vec![MaintenanceWindow { days, from, to: from + length }]);
            let now = Timestamp(MONDAY.0 + u64::from(now));
            let opens = windows.opens_at(now, offset);
            prop_assert_eq!(windows.opens_at(opens, offset), opens);
            if opens > now {
                prop_assert_eq!(windows.opens_at(Timestamp(opens.0 - 1), offset), opens);
            }
        }

        #[test]
        fn any_text_is_a_window_or_an_error(text in ".{0,30}") {
            let _ = text.parse::<MaintenanceWindow>();
        }
    }
}
