//! Which strata of a release have sums of their own: a bounded number, whatever labels there are and whatever devices say of themselves.
//!
//! Labels are the operator's words, also one that is called `hardware`. Processor and version of the agent are the device's own, and one that says
//! another every day must not take the room of others: the strata of each of the two are bounded, and so is how many a device brings in a week.
//! What is beyond is added to one stratum of the key, `other`.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::drift::{ALL, FIRMWARE, HARDWARE, Stratum};
use shared::{ReleaseId, Timestamp, device::Labels};
use sqlx::any::AnyRow;

use super::{
    super::{Columns as _, StoreError, Tx, signed},
    bound,
};

/// Strata of one release that sums are kept of. Labels with a value of its own for every device would make a table of devices of it.
const MAX_STRATA: usize = 1_000;

/// Strata of a key whose values devices say themselves: a fleet has some dozens of processors and versions. Both together leave labels room.
const MAX_TOLD: usize = 250;

/// New strata of such a key that one device brings in a week: it was updated and went back, or got another board.
const MAX_NEW_OF_DEVICE: usize = 2;

/// A week.
const NEW_DAYS: i64 = 7;

/// The value that stands for those beyond a bound.
const OTHER: &str = "other";

/// A stratum of a device.
pub(super) struct Named {
    /// As `site=hall-3`.
    pub(super) stratum: String,
    /// Its key, if the device says the value itself.
    told: Option<&'static str>,
}

/// Whose word a stratum is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// The operator's: a label, or all devices together.
    Operator,
    /// That of these devices, which say it of themselves.
    Devices {
        /// Processor or version of the agent.
        key: &'static str,
        /// Who.
        devices: BTreeSet<&'a str>,
    },
}

/// A stratum that there are sums of.
#[derive(Clone)]
struct Known {
    /// Who was the first to say it; nobody where it is the operator's word.
    device: Option<String>,
    first_day: i64,
    last_day: i64,
}

/// The strata of a release by name.
type OfRelease = BTreeMap<String, Known>;

/// The strata of releases as far as one batch asked for them: those of a release are read once.
#[derive(Default)]
pub(super) struct Catalog(BTreeMap<ReleaseId, OfRelease>);

impl Named {
    /// A stratum of a device with these labels.
    pub(super) fn of(stratum: &Stratum, labels: &Labels) -> Self {
        let is_told = |key: &&str| *key == stratum.key && !labels.contains_key(*key);
        Self { stratum: stratum.to_string(), told: [HARDWARE, FIRMWARE].into_iter().find(is_told) }
    }
}

impl<'a> Word<'a> {
    pub(super) fn of(named: &Named, device: &'a str) -> Self {
        match named.told {
            Some(key) => Self::Devices { key, devices: BTreeSet::from([device]) },
            None => Self::Operator,
        }
    }

    /// The word of both together.
    pub(super) fn join(&mut self, other: Self) {
        match other {
            Self::Operator => *self = Self::Operator,
            Self::Devices { devices: more, .. } => {
                if let Self::Devices { devices, .. } = self {
                    devices.extend(more);
                }
            }
        }
    }
}

impl Catalog {
    /// The stratum to whose sums counts are added: their own where that is known or there is room for it. Nothing when there is none.
    pub(super) async fn kept_as(
        &mut self,
        tx: &mut Tx,
        release: &ReleaseId,
        stratum: &str,
        word: &Word<'_>,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let today = signed(now.as_millis() / 86_400_000);
        let last_day = match self.0.get(release) {
            Some(known) => known.get(stratum).map(|of| of.last_day),
            None => last_day(tx, release, stratum).await?,
        };
        if last_day == Some(today) {
            return Ok(Some(stratum.to_owned()));
        }
        let known = self.of(tx, release).await?;
        let Some((kept, device)) = room(known, stratum, word, today) else { return Ok(None) };
        if known.get(&kept).is_none_or(|of| of.last_day != today) {
            note(tx, release, &kept, device, today).await?;
            let new = || Known { device: device.map(str::to_owned), first_day: today, last_day: today };
            known.entry(kept.clone()).or_insert_with(new).last_day = today;
        }
        Ok(Some(kept))
    }

    async fn of(&mut self, tx: &mut Tx, release: &ReleaseId) -> Result<&mut OfRelease, StoreError> {
        let read = if self.0.contains_key(release) { None } else { Some(known(tx, release).await?) };
        Ok(self.0.entry(release.clone()).or_insert_with(|| read.unwrap_or_default()))
    }
}

/// As what a stratum is kept, and the first device that says it where that counts against it; nothing when there is no room.
fn room<'a>(
    known: &OfRelease,
    stratum: &str,
    word: &Word<'a>,
    today: i64,
) -> Option<(String, Option<&'a str>)> {
    let own = |device| Some((stratum.to_owned(), device));
    let is_full = known.len() >= MAX_STRATA;
    match word {
        _ if known.contains_key(stratum) => own(None),
        Word::Operator if is_full && stratum != ALL => None,
        Word::Operator => own(None),
        Word::Devices { key, devices } => {
            // Those who are beyond their bounds take nothing from one who is not.
            let may = |device: &&&str| !is_full && !is_beyond(known, key, device, today);
            let first = devices.iter().find(may);
            first.map_or_else(|| Some((format!("{key}={OTHER}"), None)), |device| own(Some(*device)))
        }
    }
}

/// Whether a device may bring no further stratum of a key that devices tell.
fn is_beyond(known: &OfRelease, key: &str, device: &str, today: i64) -> bool {
    let is_of_key = |stratum: &str| stratum.strip_prefix(key).is_some_and(|rest| rest.starts_with('='));
    let told = || known.iter().filter(|(stratum, of)| is_of_key(stratum) && of.device.is_some());
    let is_own =
        |of: &Known| of.device.as_deref() == Some(device) && today.saturating_sub(of.first_day) < NEW_DAYS;
    told().count() >= MAX_TOLD || told().filter(|(_, of)| is_own(of)).count() >= MAX_NEW_OF_DEVICE
}

async fn last_day(tx: &mut Tx, release: &ReleaseId, stratum: &str) -> Result<Option<i64>, StoreError> {
    let (model, version) = bound(release);
    let row =
        sqlx::query("SELECT last_day FROM drift_strata WHERE model = $1 AND version = $2 AND stratum = $3")
            .bind(model)
            .bind(version)
            .bind(stratum)
            .fetch_optional(&mut **tx)
            .await?;
    row.map(|row| row.number("last_day")).transpose()
}

async fn known(tx: &mut Tx, release: &ReleaseId) -> Result<OfRelease, StoreError> {
    let (model, version) = bound(release);
    let query =
        "SELECT stratum, device, first_day, last_day FROM drift_strata WHERE model = $1 AND version = $2";
    let rows = sqlx::query(query).bind(model).bind(version).fetch_all(&mut **tx).await?;
    let known = |row: &AnyRow| {
        let device = row.optional_text("device")?;
        let (first_day, last_day) = (row.number("first_day")?, row.number("last_day")?);
        Ok((row.text("stratum")?, Known { device, first_day, last_day }))
    };
    rows.iter().map(known).collect()
}

/// Notes that a stratum is there today, and who says so if it is new and a device's word.
async fn note(
    tx: &mut Tx,
    release: &ReleaseId,
    stratum: &str,
    device: Option<&str>,
    today: i64,
) -> Result<(), StoreError> {
    let (model, version) = bound(release);
    sqlx::query(
        "INSERT INTO drift_strata (model, version, stratum, last_day, first_day, device) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (model, version, stratum) DO UPDATE SET last_day = excluded.last_day",
    )
    .bind(model)
    .bind(version)
    .bind(stratum)
    .bind(today)
    .bind(today)
    .bind(device)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
