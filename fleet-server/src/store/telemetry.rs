//! Figures of devices: the latest health of each, and sums by minute and model version.
//!
//! A batch is one transaction, because a commit costs the same for one report as for fifty. Each (device, boot,
//! sequence) counts once, so a device that sends again after a lost acknowledgement changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shared::{
    DeviceId, ReleaseId, Timestamp,
    telemetry::{Telemetry, VersionFigures},
};

use super::{Columns, MAX_ROWS, Store, StoreError, Tx, from_json, millis, signed, to_json};

/// Milliseconds of one row.
const MINUTE_MS: u64 = 60_000;

/// A report that comes later than this is counted again if it was counted before; spools of devices are shorter.
const REMEMBER_SEEN: Duration = Duration::from_secs(7 * 86_400);

/// A report and who sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryRow {
    /// Who.
    pub device: DeviceId,
    /// What.
    pub telemetry: Telemetry,
}

/// What all devices together did with one version in one minute.
#[derive(Debug, Clone, PartialEq)]
pub struct MinuteFigures {
    /// Start of the minute.
    pub from: Timestamp,
    /// The sums.
    pub figures: VersionFigures,
}

impl Store {
    /// Stores a batch of reports in one transaction. When it returns, all of them may be acknowledged.
    ///
    /// # Errors
    /// When the database refuses; then none is stored.
    pub async fn insert_telemetry(
        &self,
        batch: &[TelemetryRow],
        now: Timestamp,
        oldest: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut sums = BTreeMap::new();
        for row in batch {
            if note_seen(&mut tx, row, now).await? {
                save_health(&mut tx, row, now).await?;
                let moment = row.telemetry.to.clamp(oldest, now);
                add(&mut sums, moment.as_millis() / MINUTE_MS, &row.telemetry.versions);
            }
        }
        let known = known_releases(&mut tx, sums.keys().map(|(release, _)| release)).await?;
        for ((release, minute), figures) in sums {
            if known.contains(&release) {
                add_to_minute(&mut tx, minute, figures).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Sums of a version by minute since `from`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn minutes(
        &self,
        release: &ReleaseId,
        from: Timestamp,
    ) -> Result<Vec<MinuteFigures>, StoreError> {
        let rows = sqlx::query(
            "SELECT minute, figures FROM minutes WHERE model = $1 AND version = $2 AND minute >= $3 \
             ORDER BY minute LIMIT $4",
        )
        .bind(release.model.as_str())
        .bind(i64::from(release.version.get()))
        .bind(signed(from.as_millis() / MINUTE_MS))
        .bind(MAX_ROWS)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(MinuteFigures {
                    from: Timestamp(row.unsigned("minute")?.saturating_mul(MINUTE_MS)),
                    figures: from_json("figures", &row.text("figures")?)?,
                })
            })
            .collect()
    }

    /// Removes figures from before `oldest`, and forgets which reports were counted long ago.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trim_telemetry(&self, oldest: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM minutes WHERE minute < $1")
            .bind(signed(oldest.as_millis() / MINUTE_MS))
            .execute(&self.writer)
            .await?;
        let remembered = now.as_millis().saturating_sub(REMEMBER_SEEN.as_millis() as u64);
        sqlx::query("DELETE FROM telemetry_seen WHERE received_at < $1")
            .bind(signed(remembered))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

type Sums = BTreeMap<(ReleaseId, u64), VersionFigures>;

fn add(sums: &mut Sums, minute: u64, versions: &[VersionFigures]) {
    for figures in versions {
        sums.entry((figures.release.clone(), minute))
            .or_insert_with(|| VersionFigures::new(figures.release.clone()))
            .merge(figures);
    }
}

async fn note_seen(tx: &mut Tx, row: &TelemetryRow, now: Timestamp) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO telemetry_seen (device, boot, sequence, received_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (device, boot, sequence) DO NOTHING",
    )
    .bind(row.device.as_str())
    .bind(row.telemetry.boot.as_str())
    .bind(signed(row.telemetry.sequence))
    .bind(millis(now))
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn save_health(tx: &mut Tx, row: &TelemetryRow, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET health = $1, last_seen = $2 WHERE id = $3")
        .bind(to_json(&row.telemetry.health))
        .bind(millis(now))
        .bind(row.device.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Those of `releases` that were published: a device cannot make rows for models that do not exist.
async fn known_releases<'a>(
    tx: &mut Tx,
    releases: impl Iterator<Item = &'a ReleaseId>,
) -> Result<BTreeSet<ReleaseId>, StoreError> {
    let mut known = BTreeSet::new();
    for release in releases.collect::<BTreeSet<_>>() {
        let row = sqlx::query("SELECT version FROM releases WHERE model = $1 AND version = $2")
            .bind(release.model.as_str())
            .bind(i64::from(release.version.get()))
            .fetch_optional(&mut **tx)
            .await?;
        if row.is_some() {
            known.insert(release.clone());
        }
    }
    Ok(known)
}

async fn add_to_minute(tx: &mut Tx, minute: u64, mut figures: VersionFigures) -> Result<(), StoreError> {
    let (model, version) = (figures.release.model.as_str().to_owned(), figures.release.version.get());
    let row = sqlx::query("SELECT figures FROM minutes WHERE model = $1 AND version = $2 AND minute = $3")
        .bind(&model)
        .bind(i64::from(version))
        .bind(signed(minute))
        .fetch_optional(&mut **tx)
        .await?;
    if let Some(row) = row {
        figures.merge(&from_json("figures", &row.text("figures")?)?);
    }
    sqlx::query(
        "INSERT INTO minutes (model, version, minute, figures) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (model, version, minute) DO UPDATE SET figures = excluded.figures",
    )
    .bind(&model)
    .bind(i64::from(version))
    .bind(signed(minute))
    .bind(to_json(&figures))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
