//! Sums of strata by minute, hour and day: adding, reading, and folding old ones into longer spans.

use std::ops::Range;

use fleet_core::drift::{Keep, Place, Span, Sums};
use futures_util::TryStreamExt as _;
use muster_sketch::window::CountsError;
use shared::{ReleaseId, Timestamp};
use sqlx::any::AnyRow;

use super::{
    super::{Columns as _, Packed, Store, StoreError, Tx, millis, signed},
    bound, release_of,
};

/// Longer spans that are made in one transaction: few, so that those who write wait for hundredths of a second.
const FOLDED_AT_ONCE: i64 = 16;

/// Rows that are read to answer one question, which takes some seconds: a day of fifty sites.
const MAX_ROWS: i64 = 20_000;

/// A sum of one stratum.
#[derive(Debug, Clone, PartialEq)]
pub struct SummedRow {
    /// `key=value`; empty for all devices.
    pub stratum: String,
    /// Of how much time.
    pub span_secs: u64,
    /// Its start, in seconds since 1970.
    pub start_secs: u64,
    /// The sum.
    pub sums: Sums,
}

/// Which strata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strata {
    /// This one; the one without a name is of all devices.
    One(String),
    /// All of this key.
    OfKey(String),
}

impl SummedRow {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            stratum: row.text("stratum")?,
            span_secs: row.unsigned("span_secs")?,
            start_secs: row.unsigned("start_secs")?,
            sums: Packed::from_text(row.text("sums")?).read("sum of counts")?,
        })
    }
}

impl Store {
    /// Passes every sum of a release that reaches into `secs` to `take`, the newest first. False when there were more than one
    /// question may read; the oldest are missing then.
    ///
    /// # Errors
    /// When the database refuses, or `take` does.
    pub async fn each_sum(
        &self,
        release: &ReleaseId,
        strata: &Strata,
        secs: Range<u64>,
        mut take: impl FnMut(SummedRow) -> Result<(), CountsError> + Send,
    ) -> Result<bool, StoreError> {
        let (model, version) = bound(release);
        let (text, prefix) = match strata {
            Strata::One(stratum) => (stratum.clone(), 0),
            Strata::OfKey(key) => (format!("{key}="), key.chars().count() + 1),
        };
        let mut rows = sqlx::query(
            "SELECT stratum, span_secs, start_secs, sums FROM drift_sums WHERE model = $1 AND version = $2 \
             AND (stratum = $3 OR ($4 > 0 AND SUBSTR(stratum, 1, $4) = $3)) \
             AND start_secs + span_secs > $5 AND start_secs < $6 ORDER BY start_secs DESC, span_secs DESC LIMIT $7",
        )
        .bind(model)
        .bind(version)
        .bind(text)
        .bind(prefix as i32)
        .bind(signed(secs.start))
        .bind(signed(secs.end))
        .bind(MAX_ROWS + 1)
        .fetch(&self.reader);
        let mut count = 0;
        while let Some(row) = rows.try_next().await? {
            count += 1;
            if count > MAX_ROWS {
                return Ok(false);
            }
            take(SummedRow::from_row(&row)?).map_err(mixed)?;
        }
        Ok(true)
    }

    /// Folds sums that are old into longer spans, a few in each transaction, and removes the oldest, and alarms that have been over
    /// for as long. True when there may be more to do.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn fold_sums(&self, keep: &Keep, now: Timestamp) -> Result<bool, StoreError> {
        let mut more = false;
        for (span, longer) in [(Span::Minute, Span::Hour), (Span::Hour, Span::Day)] {
            let mut tx = self.begin().await?;
            let due = due(&mut tx, span, longer, keep.oldest_secs(span, now)).await?;
            for (release, stratum, start_secs) in &due {
                fold(&mut tx, release, stratum, span, Place { span: longer, start_secs: *start_secs })
                    .await?;
            }
            tx.commit().await?;
            more |= due.len() as i64 == FOLDED_AT_ONCE;
        }
        let oldest = keep.oldest_secs(Span::Day, now);
        let mut tx = self.begin().await?;
        let deletions = [
            ("DELETE FROM drift_sums WHERE span_secs = 86400 AND start_secs < $1", signed(oldest)),
            ("DELETE FROM drift_strata WHERE last_day < $1", signed(oldest / Span::Day.secs())),
            ("DELETE FROM drift_alarms WHERE closed_at < $1", millis(Timestamp(oldest * 1_000))),
        ];
        for (delete, before) in deletions {
            sqlx::query(delete).bind(before).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(more)
    }
}

/// Counts of one release are of one reference, so this is a row that somebody else wrote.
pub(super) fn mixed(error: CountsError) -> StoreError {
    StoreError::Corrupt { what: "sum of counts", detail: error.to_string() }
}

/// Adds to a sum of a stratum.
pub(super) async fn add_to_sums(
    tx: &mut Tx,
    release: &ReleaseId,
    stratum: &str,
    place: Place,
    more: Sums,
) -> Result<(), StoreError> {
    let (model, version) = bound(release);
    let (span_secs, start_secs) = (signed(place.span.secs()), signed(place.start_secs));
    let row = sqlx::query(
        "SELECT sums FROM drift_sums WHERE model = $1 AND version = $2 AND stratum = $3 AND span_secs = $4 \
         AND start_secs = $5",
    )
    .bind(&model)
    .bind(version)
    .bind(stratum)
    .bind(span_secs)
    .bind(start_secs)
    .fetch_optional(&mut **tx)
    .await?;
    let before = row.map(|row| row.text("sums")).transpose()?;
    let before = before.map(|text| Packed::from_text(text).read("sum of counts"));
    let sum = and(before, &more, &format!("stratum '{stratum}' of {release}"));
    sqlx::query(
        "INSERT INTO drift_sums (model, version, stratum, span_secs, start_secs, sums) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (model, version, stratum, span_secs, start_secs) DO UPDATE SET sums = excluded.sums",
    )
    .bind(&model)
    .bind(version)
    .bind(stratum)
    .bind(span_secs)
    .bind(start_secs)
    .bind(Packed::of(&sum).as_text())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A sum, if there is one, with what comes to it. One that cannot be read, or is of something else, is given up: it would keep the windows of
/// every device out that are stored together with these.
pub(super) fn and(before: Option<Result<Sums, StoreError>>, more: &Sums, whose: &str) -> Sums {
    let Some(before) = before else { return more.clone() };
    let sum = before.and_then(|mut sum| sum.add(more).map(|()| sum).map_err(mixed));
    sum.unwrap_or_else(|error| {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "what was counted by {whose} cannot be read and is given up; its sum begins anew"
        );
        more.clone()
    })
}

/// Longer spans that have rows before `oldest_secs` to take in.
async fn due(
    tx: &mut Tx,
    span: Span,
    longer: Span,
    oldest_secs: u64,
) -> Result<Vec<(ReleaseId, String, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT model, version, stratum, start_secs - start_secs % $1 AS longer_secs FROM drift_sums \
         WHERE span_secs = $2 AND start_secs < $3 LIMIT $4",
    )
    .bind(signed(longer.secs()))
    .bind(signed(span.secs()))
    .bind(signed(oldest_secs))
    .bind(FOLDED_AT_ONCE)
    .fetch_all(&mut **tx)
    .await?;
    let due = |row: &AnyRow| Ok((release_of(row)?, row.text("stratum")?, row.unsigned("longer_secs")?));
    rows.iter().map(due).collect()
}

async fn fold(
    tx: &mut Tx,
    release: &ReleaseId,
    stratum: &str,
    span: Span,
    into: Place,
) -> Result<(), StoreError> {
    let (model, version) = bound(release);
    let rows = sqlx::query(
        "DELETE FROM drift_sums WHERE model = $1 AND version = $2 AND stratum = $3 AND span_secs = $4 \
         AND start_secs >= $5 AND start_secs < $6 RETURNING sums",
    )
    .bind(model)
    .bind(version)
    .bind(stratum)
    .bind(signed(span.secs()))
    .bind(signed(into.start_secs))
    .bind(signed(into.start_secs + into.span.secs()))
    .fetch_all(&mut **tx)
    .await?;
    let mut sum: Option<Sums> = None;
    for row in &rows {
        match Packed::from_text(row.text("sums")?).read::<Sums>("sum of counts") {
            Ok(more) => sum = Some(and(sum.map(Ok), &more, &format!("stratum '{stratum}' of {release}"))),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                %release, stratum, "a sum of counts cannot be read and is given up"
            ),
        }
    }
    match sum {
        Some(sum) => add_to_sums(tx, release, stratum, into, sum).await,
        None => Ok(()),
    }
}
