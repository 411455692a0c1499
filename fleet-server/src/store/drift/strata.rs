//! Which strata of a release have sums of their own: a bounded number, whatever labels there are and whatever devices say of themselves.
//!
//! Labels are the operator's words. Processor and version of the agent are the device's own, and one that says another every day must not take
//! the room of others: the strata of each of the two are bounded, and so is how many a device brings in a week. What is
//! beyond is added to one stratum of the key, `other`.

use fleet_core::drift::{ALL, FIRMWARE, HARDWARE};
use shared::{ReleaseId, Timestamp};
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

/// A stratum that there are sums of.
struct Known {
    stratum: String,
    /// Who was the first in it.
    device: Option<String>,
    first_day: i64,
    last_day: i64,
}

/// The stratum to whose sums a device's counts are added: its own where that is known or there is room for it. Nothing when there is none.
pub(super) async fn kept_as(
    tx: &mut Tx,
    release: &ReleaseId,
    stratum: &str,
    device: &str,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let today = signed(now.as_millis() / 86_400_000);
    if let Some(last_day) = last_day(tx, release, stratum).await? {
        if last_day != today {
            note(tx, release, stratum, device, today).await?;
        }
        return Ok(Some(stratum.to_owned()));
    }
    let known = known(tx, release).await?;
    let told = [HARDWARE, FIRMWARE].into_iter().find(|key| is_of(stratum, key));
    let kept = match told {
        Some(key) if is_beyond(&known, key, device, today) => format!("{key}={OTHER}"),
        Some(_) | None if known.len() < MAX_STRATA || stratum == ALL => stratum.to_owned(),
        Some(key) => format!("{key}={OTHER}"),
        None => return Ok(None),
    };
    if known.iter().all(|of| of.stratum != kept || of.last_day != today) {
        note(tx, release, &kept, device, today).await?;
    }
    Ok(Some(kept))
}

fn is_of(stratum: &str, key: &str) -> bool {
    stratum.strip_prefix(key).is_some_and(|rest| rest.starts_with('='))
}

/// Whether a device may bring no further stratum of a key that devices tell.
fn is_beyond(known: &[Known], key: &str, device: &str, today: i64) -> bool {
    let of_key = || known.iter().filter(|of| is_of(&of.stratum, key));
    let own = of_key()
        .filter(|of| of.device.as_deref() == Some(device) && today.saturating_sub(of.first_day) < NEW_DAYS);
    of_key().count() >= MAX_TOLD || own.count() >= MAX_NEW_OF_DEVICE
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

async fn known(tx: &mut Tx, release: &ReleaseId) -> Result<Vec<Known>, StoreError> {
    let (model, version) = bound(release);
    let query =
        "SELECT stratum, device, first_day, last_day FROM drift_strata WHERE model = $1 AND version = $2";
    let rows = sqlx::query(query).bind(model).bind(version).fetch_all(&mut **tx).await?;
    let known = |row: &AnyRow| {
        Ok(Known {
            stratum: row.text("stratum")?,
            device: row.optional_text("device")?,
            first_day: row.number("first_day")?,
            last_day: row.number("last_day")?,
        })
    };
    rows.iter().map(known).collect()
}

/// Notes that a stratum is there today, and who brought it if it is new.
async fn note(
    tx: &mut Tx,
    release: &ReleaseId,
    stratum: &str,
    device: &str,
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
