//! Windows are added to what they belong to: their device's counts until the next check, and the sums of its strata.
//!
//! Each (device, boot, sequence) counts once, and adding is of integers, so the sums are the same to the bit whatever comes twice,
//! late or in another order.

use std::collections::BTreeMap;

use fleet_core::drift::{Keep, Sums, is_of_baseline, strata};
use muster_sketch::window::Window;
use shared::{BootId, DeviceId, ReleaseId, Timestamp, device::Labels};

use super::{
    super::{
        Columns as _, Packed, Store, StoreError, Tx,
        counted::{Book, News, Numbered, sift},
        from_json,
        many::{most_rows, pieces, statement},
        millis, signed, to_json,
    },
    anew::Anew,
    batch::Batch,
    bound,
    checks::unstruck,
    strata::Named,
    summed::{and, mixed},
};

/// Releases that a device has sent windows of lately, more than it can run. Beyond it windows are not added, so a device that
/// makes up what it runs makes no rows without end.
const MAX_RELEASES: i64 = 64;

/// A window and who sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct SketchRow {
    /// Who.
    pub device: DeviceId,
    /// In which run of its agent.
    pub boot: BootId,
    /// Whose inputs and outputs were counted.
    pub release: ReleaseId,
    /// The counts, in the bins of the release's reference.
    pub window: Window,
}

/// What of a batch was beyond a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOutOfWindows {
    /// Sums of strata that were added to another one, or to none.
    pub strata: u64,
    /// Windows of releases that a device may not have so many of.
    pub releases: u64,
}

impl Numbered for SketchRow {
    fn device(&self) -> &DeviceId {
        &self.device
    }
    fn boot(&self) -> &BootId {
        &self.boot
    }
    fn sequence(&self) -> u64 {
        self.window.sequence
    }
}

impl Store {
    /// Adds a batch of windows in one transaction. When it returns, all of them may be acknowledged. `labels` are those whose
    /// values are strata.
    ///
    /// # Errors
    /// When the database refuses; then none is added.
    pub async fn insert_windows(
        &self,
        batch: &[SketchRow],
        keep: &Keep,
        labels: &[String],
        now: Timestamp,
    ) -> Result<LeftOutOfWindows, StoreError> {
        let mut tx = self.begin().await?;
        let news = sift(&mut tx, Book::Sketches, batch).await?;
        save_counted(&mut tx, &news).await?;
        let devices: Vec<_> = news.keys().copied().collect();
        let strata = strata_of(&mut tx, &devices, labels).await?;
        let anew = Anew::of_devices(&mut tx, &devices).await?;
        let period = Store::drift_period(&mut tx).await?.current;
        let (mut sums, mut left_out) = (Batch::default(), LeftOutOfWindows::default());
        for (device, news) in &news {
            let strata = strata.get(*device).map_or(&[][..], Vec::as_slice);
            for (release, windows) in by_release(&news.windows) {
                let Some(not_before) = note_device(&mut tx, release, device, now).await? else {
                    left_out.releases += windows.len() as u64;
                    continue;
                };
                let windows: Vec<_> = windows.iter().map(|row| Sums::of(&row.window)).collect();
                for one in &windows {
                    sums.add((device, strata), (release, keep.place(one.to_ms, now)), one)?;
                }
                let baseline = Baseline { not_before, anew: anew.of(device, release), now };
                if let Some(own) = baseline.sum(windows)? {
                    add_to_device(&mut tx, release, device, period, &own).await?;
                }
            }
        }
        left_out.strata = sums.store(&mut tx, now).await?;
        tx.commit().await?;
        Ok(left_out)
    }
}

/// What counts of what a device sends now.
struct Baseline {
    /// Windows since then.
    not_before: Timestamp,
    /// And single features, by their places, only since later.
    anew: Vec<(usize, Timestamp)>,
    now: Timestamp,
}

impl Baseline {
    /// The sum of all that counts; nothing when nothing does.
    fn sum(&self, windows: Vec<Sums>) -> Result<Option<Sums>, StoreError> {
        let mut sum: Option<Sums> = None;
        for one in windows.into_iter().filter_map(|one| self.counted(one)) {
            match &mut sum {
                Some(sum) => sum.add(&one).map_err(mixed)?,
                None => sum = Some(one),
            }
        }
        Ok(sum)
    }

    /// What of a window counts.
    fn counted(&self, mut one: Sums) -> Option<Sums> {
        let to_ms = one.to_ms;
        let counts = |since| is_of_baseline(since, to_ms, self.now);
        if !counts(self.not_before) {
            return None;
        }
        self.anew.iter().filter(|(_, since)| !counts(*since)).for_each(|(place, _)| one.strike(*place));
        Some(one)
    }
}

fn by_release<'a>(windows: &[&'a SketchRow]) -> BTreeMap<&'a ReleaseId, Vec<&'a SketchRow>> {
    let mut sorted = BTreeMap::<_, Vec<_>>::new();
    windows.iter().for_each(|row| sorted.entry(&row.release).or_default().push(*row));
    sorted
}

async fn save_counted(tx: &mut Tx, news: &BTreeMap<&str, News<'_, SketchRow>>) -> Result<(), StoreError> {
    let news: Vec<_> = news.iter().collect();
    for piece in pieces(&news, most_rows(tx)) {
        let mut query = statement(
            "UPDATE devices SET sketched = new.column2 FROM (VALUES",
            piece.len(),
            2,
            ") AS new WHERE devices.id = new.column1",
        );
        for (device, news) in piece {
            query = query.bind((*device).to_owned()).bind(to_json(&news.counted));
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// What these devices have in common with others.
async fn strata_of(
    tx: &mut Tx,
    devices: &[&str],
    labels: &[String],
) -> Result<BTreeMap<String, Vec<Named>>, StoreError> {
    let mut found = BTreeMap::new();
    for piece in pieces(devices, most_rows(tx)) {
        let mut query = statement(
            "SELECT devices.id, devices.labels, devices.inventory FROM (VALUES",
            piece.len(),
            1,
            ") AS keys CROSS JOIN devices WHERE devices.id = keys.column1",
        );
        for device in piece {
            query = query.bind((*device).to_owned());
        }
        for row in query.fetch_all(&mut **tx).await? {
            let id = row.text("id")?;
            let own = readable(&id, from_json::<Labels>("labels", &row.text("labels")?));
            let inventory = readable(&id, from_json("inventory", &row.text("inventory")?));
            let named = strata(&own, &inventory, labels);
            found.insert(id, named.iter().map(|of| Named::of(of, &own)).collect());
        }
    }
    Ok(found)
}

/// What was read of a device, or nothing: one whose row is damaged is in no stratum, and keeps no other device's windows out.
fn readable<T: Default>(device: &str, read: Result<T, StoreError>) -> T {
    read.unwrap_or_else(|error| {
        let error = error.in_row(&format_args!("devices, id {device}"));
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a device is added to no stratum; set its labels again"
        );
        T::default()
    })
}

/// Writes down that a device is of a release's fleet, and tells since when its windows count.
/// Nothing when it may be of no more fleets.
async fn note_device(
    tx: &mut Tx,
    release: &ReleaseId,
    device: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let (model, version) = bound(release);
    let known = sqlx::query(
        "UPDATE drift_devices SET last_window_at = $1 WHERE model = $2 AND version = $3 AND device = $4 \
         RETURNING not_before",
    )
    .bind(millis(now))
    .bind(&model)
    .bind(version)
    .bind(device)
    .fetch_optional(&mut **tx)
    .await?;
    if let Some(known) = known {
        return Ok(Some(known.time("not_before")?));
    }
    let count = sqlx::query("SELECT COUNT(*) AS releases_there FROM drift_devices WHERE device = $1");
    let count = count.bind(device).fetch_one(&mut **tx).await?.number("releases_there")?;
    if count >= MAX_RELEASES {
        return Ok(None);
    }
    sqlx::query(
        "INSERT INTO drift_devices (model, version, device, last_window_at, not_before) \
         VALUES ($1, $2, $3, $4, 0)",
    )
    .bind(&model)
    .bind(version)
    .bind(device)
    .bind(millis(now))
    .execute(&mut **tx)
    .await?;
    Ok(Some(Timestamp(0)))
}

/// Adds to what a device counts until the next check.
async fn add_to_device(
    tx: &mut Tx,
    release: &ReleaseId,
    device: &str,
    period: u64,
    more: &Sums,
) -> Result<(), StoreError> {
    let (model, version) = bound(release);
    let row = sqlx::query(
        "SELECT sums, struck FROM drift_pending WHERE model = $1 AND version = $2 AND device = $3 AND period = $4",
    )
    .bind(&model)
    .bind(version)
    .bind(device)
    .bind(signed(period))
    .fetch_optional(&mut **tx)
    .await?;
    let before = row.map(|row| Ok::<_, StoreError>((row.text("sums")?, row.text("struck")?))).transpose()?;
    let before = before.map(|(sums, struck)| unstruck(Packed::from_text(sums), &struck));
    let sum = and(before, more, &format!("{device} under {release}"));
    sqlx::query(
        "INSERT INTO drift_pending (model, version, device, period, sums) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (model, version, device, period) DO UPDATE SET sums = excluded.sums, struck = ''",
    )
    .bind(&model)
    .bind(version)
    .bind(device)
    .bind(signed(period))
    .bind(Packed::of(&sum).as_text())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
