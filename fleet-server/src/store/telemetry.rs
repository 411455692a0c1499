//! Figures of devices: the latest health of each, and sums by minute, by device and in all of each model version.
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

use super::{Columns, MAX_ROWS, Store, StoreError, Tx, figures, from_json, limits, millis, signed, to_json};

/// Milliseconds of one row.
const MINUTE_MS: u64 = 60_000;

/// A report that comes later than this is counted again if it was counted before. That can only happen to the few that
/// were under way when a device lost its connection for longer.
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
        let mut sums = Sums::default();
        for row in batch {
            if note_seen(&mut tx, row, now).await? {
                save_health(&mut tx, row, now).await?;
                limits::save_delivery(&mut tx, &row.device, &row.telemetry.delivery, now).await?;
                let moment = row.telemetry.to.clamp(oldest, now);
                sums.add(row, moment.as_millis() / MINUTE_MS);
            }
        }
        let known = known_releases(&mut tx, sums.by_release.keys()).await?;
        sums.save(&mut tx, &known, now).await?;
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

/// Figures of one batch, summed before they are written: each row is written once for all its reports.
#[derive(Default)]
struct Sums {
    by_minute: BTreeMap<(ReleaseId, u64), VersionFigures>,
    by_device: BTreeMap<(DeviceId, ReleaseId), VersionFigures>,
    by_release: BTreeMap<ReleaseId, VersionFigures>,
}

impl Sums {
    fn add(&mut self, row: &TelemetryRow, minute: u64) {
        for figures in &row.telemetry.versions {
            let release = &figures.release;
            add(&mut self.by_minute, (release.clone(), minute), figures);
            add(&mut self.by_device, (row.device.clone(), release.clone()), figures);
            add(&mut self.by_release, release.clone(), figures);
        }
    }

    async fn save(self, tx: &mut Tx, known: &BTreeSet<ReleaseId>, now: Timestamp) -> Result<(), StoreError> {
        for ((release, minute), figures) in self.by_minute {
            if known.contains(&release) {
                add_to_minute(tx, minute, figures).await?;
            }
        }
        for ((device, release), figures) in self.by_device {
            if known.contains(&release) {
                figures::add_to_device(tx, &device, figures, now).await?;
            }
        }
        for (release, figures) in self.by_release {
            if known.contains(&release) {
                figures::add_to_release(tx, figures).await?;
            }
        }
        Ok(())
    }
}

fn add<K: Ord>(sums: &mut BTreeMap<K, VersionFigures>, key: K, figures: &VersionFigures) {
    sums.entry(key).or_insert_with(|| VersionFigures::new(figures.release.clone())).merge(figures);
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
