//! Figures of devices: the latest health of each, and sums by minute, by device and in all of each model version.
//!
//! A batch is one transaction of few statements, because a commit and a statement cost little more for hundreds of reports
//! than for one. Each (device, boot, sequence) counts once, so a device that sends again after a lost acknowledgement changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    BootId, DeviceId, ReleaseId, Timestamp,
    telemetry::{Telemetry, VersionFigures},
};

use super::{
    Columns, MAX_ROWS, Store, StoreError, Tx, challengers,
    counted::{Book, News, Numbered, sift},
    figures, from_json,
    many::{most_rows, pieces, statement},
    millis, signed, to_json,
};

/// Milliseconds of one row.
const MINUTE_MS: u64 = 60_000;

/// A report and who sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryRow {
    /// Who.
    pub device: DeviceId,
    /// What.
    pub telemetry: Telemetry,
}

impl Numbered for TelemetryRow {
    fn device(&self) -> &DeviceId {
        &self.device
    }
    fn boot(&self) -> &BootId {
        &self.telemetry.boot
    }
    fn sequence(&self) -> u64 {
        self.telemetry.sequence
    }
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
        let news = sift(&mut tx, Book::Telemetry, batch).await?;
        save_status(&mut tx, &news, now).await?;
        let windows: Vec<_> = news.into_values().flat_map(|news| news.windows).collect();
        challengers::add(&mut tx, &windows, now).await?;
        for row in windows {
            let moment = row.telemetry.to.clamp(oldest, now);
            sums.add(row, moment.as_millis() / MINUTE_MS);
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

    /// Removes figures from before `oldest`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trim_telemetry(&self, oldest: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM minutes WHERE minute < $1")
            .bind(signed(oldest.as_millis() / MINUTE_MS))
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

    async fn save(
        mut self,
        tx: &mut Tx,
        known: &BTreeSet<ReleaseId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for ((release, minute), figures) in self.by_minute {
            if known.contains(&release) {
                add_to_minute(tx, minute, figures).await?;
            }
        }
        self.by_device.retain(|(_, release), _| known.contains(release));
        figures::add_to_devices(tx, self.by_device, now).await?;
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

/// Stores how each device is, how its telemetry gets here, as it last said, and what was counted of it.
async fn save_status(
    tx: &mut Tx,
    news: &BTreeMap<&str, News<'_, TelemetryRow>>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let news: Vec<_> = news.iter().collect();
    for piece in pieces(&news, most_rows(tx)) {
        let mut query = statement(
            "UPDATE devices SET health = new.column2, delivery = new.column3, counted = new.column4, \
             windows_counted = devices.windows_counted + new.column5, windows_lost = new.column6, \
             windows_waiting = new.column7, telemetry_bytes_today = new.column8, last_seen = new.column9 \
             FROM (VALUES",
            piece.len(),
            9,
            ") AS new WHERE devices.id = new.column1",
        );
        for (device, News { windows, counted }) in piece {
            let last = windows.last().expect("news are never empty");
            let Telemetry { health, delivery, .. } = &last.telemetry;
            query = query.bind((*device).to_owned()).bind(to_json(health)).bind(to_json(delivery));
            query = query.bind(to_json(counted));
            let figures = [
                windows.len() as u64,
                delivery.windows_lost,
                delivery.windows_waiting,
                delivery.telemetry_bytes_today,
            ];
            query = figures
                .map(signed)
                .into_iter()
                .fold(query, |query, count| query.bind(count))
                .bind(millis(now));
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// Those of `releases` that were published: a device cannot make rows for models that do not exist.
pub(super) async fn known_releases<'a>(
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
        figures = figures::and(from_json("figures", &row.text("figures")?)?, &figures);
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
