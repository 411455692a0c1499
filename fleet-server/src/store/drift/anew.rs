//! Since when windows count of single features that devices learn anew, for a day after the order.

use std::collections::BTreeMap;

use shared::{ReleaseId, Timestamp};

use super::{
    super::{
        Columns as _, StoreError, Tx,
        many::{most_rows, pieces, statement},
        millis, signed,
    },
    bound, release_of,
};

/// Stands for every device of a release: one row in place of one for each.
const EVERYONE: &str = "";

/// Since when features count, by their places, of each device and release.
pub(super) struct Anew(BTreeMap<(String, ReleaseId), Vec<(usize, Timestamp)>>);

impl Anew {
    /// Of these devices, under all releases.
    pub(super) async fn of_devices(tx: &mut Tx, devices: &[&str]) -> Result<Self, StoreError> {
        let mut found = BTreeMap::<_, Vec<_>>::new();
        let devices = [devices, &[EVERYONE]].concat();
        for piece in pieces(&devices, most_rows(tx)) {
            let mut query = statement(
                "SELECT device, model, version, place, not_before FROM (VALUES",
                piece.len(),
                1,
                ") AS keys CROSS JOIN drift_anew WHERE drift_anew.device = keys.column1",
            );
            for device in piece {
                query = query.bind((*device).to_owned());
            }
            for row in query.fetch_all(&mut **tx).await? {
                let place = usize::try_from(row.unsigned("place")?).unwrap_or(usize::MAX);
                let of = (row.text("device")?, release_of(&row)?);
                found.entry(of).or_default().push((place, row.time("not_before")?));
            }
        }
        Ok(Self(found))
    }

    /// Of one device under one release.
    pub(super) fn of(&self, device: &str, release: &ReleaseId) -> Vec<(usize, Timestamp)> {
        let of = |device: &str| self.0.get(&(device.to_owned(), release.clone()));
        [of(device), of(EVERYONE)].into_iter().flatten().flatten().copied().collect()
    }
}

/// Notes that windows of a feature count from now on, of one device or of every one.
pub(super) async fn note_anew(
    tx: &mut Tx,
    release: &ReleaseId,
    device: Option<&str>,
    place: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (model, version) = bound(release);
    sqlx::query(
        "INSERT INTO drift_anew (device, model, version, place, not_before) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (device, model, version, place) DO UPDATE SET not_before = excluded.not_before",
    )
    .bind(device.unwrap_or(EVERYONE))
    .bind(model)
    .bind(version)
    .bind(signed(place as u64))
    .bind(millis(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
