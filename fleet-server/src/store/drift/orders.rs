//! What people say about baselines, until the check that carries it out.

use fleet_core::drift::Order;
use shared::{DeviceId, ReleaseId, Timestamp};

use super::{
    super::{Columns as _, Store, StoreError, Tx, from_json, millis, signed, to_json},
    bound, release_of,
};

impl Store {
    /// Orders that wait for one check, at most: a person gives a few, a script for every device of the largest fleet one.
    pub const MAX_DRIFT_ORDERS: i64 = 20_000;

    /// Notes an order for the check that closes the open period. False when there are too many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn order_drift(tx: &mut Tx, release: &ReleaseId, order: &Order) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS orders_there, COALESCE(MAX(sequence), 0) + 1 AS next FROM drift_orders",
        )
        .fetch_one(&mut **tx)
        .await?;
        if row.number("orders_there")? >= Self::MAX_DRIFT_ORDERS {
            return Ok(false);
        }
        let (model, version) = bound(release);
        let period = Self::drift_period(tx).await?.current;
        sqlx::query(
            "INSERT INTO drift_orders (sequence, model, version, period, document) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(row.number("next")?)
        .bind(model)
        .bind(version)
        .bind(signed(period))
        .bind(to_json(order))
        .execute(&mut **tx)
        .await?;
        Ok(true)
    }

    /// What a device counted until `now`, by its clock, is no part of what it is like from now on: not what waits for the check that
    /// closes the open period, and not what comes late. Sums of strata keep it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_anew(
        tx: &mut Tx,
        release: &ReleaseId,
        device: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (model, version) = bound(release);
        let period = Self::drift_period(tx).await?.current;
        sqlx::query(
            "UPDATE drift_devices SET not_before = $1 WHERE model = $2 AND version = $3 AND device = $4",
        )
        .bind(millis(now))
        .bind(&model)
        .bind(version)
        .bind(device)
        .execute(&mut **tx)
        .await?;
        sqlx::query(
            "DELETE FROM drift_pending WHERE model = $1 AND version = $2 AND device = $3 AND period = $4",
        )
        .bind(&model)
        .bind(version)
        .bind(device)
        .bind(signed(period))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// The same of every device of a release.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_all_anew(tx: &mut Tx, release: &ReleaseId, now: Timestamp) -> Result<(), StoreError> {
        let (model, version) = bound(release);
        let period = Self::drift_period(tx).await?.current;
        sqlx::query("UPDATE drift_devices SET not_before = $1 WHERE model = $2 AND version = $3")
            .bind(millis(now))
            .bind(&model)
            .bind(version)
            .execute(&mut **tx)
            .await?;
        sqlx::query("DELETE FROM drift_pending WHERE model = $1 AND version = $2 AND period = $3")
            .bind(&model)
            .bind(version)
            .bind(signed(period))
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// What was ordered of a release up to `period`, in order.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_orders(&self, release: &ReleaseId, period: u64) -> Result<Vec<Order>, StoreError> {
        let (model, version) = bound(release);
        let rows = sqlx::query(
            "SELECT document FROM drift_orders WHERE model = $1 AND version = $2 AND period <= $3 \
             ORDER BY sequence",
        )
        .bind(model)
        .bind(version)
        .bind(signed(period))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| from_json("order", &row.text("document")?)).collect()
    }

    /// Who takes a free name over is not held against what the device before was like.
    pub(in crate::store) async fn forget_drift_device(
        tx: &mut Tx,
        device: &DeviceId,
    ) -> Result<(), StoreError> {
        let rows = sqlx::query("DELETE FROM drift_devices WHERE device = $1 RETURNING model, version")
            .bind(device.as_str())
            .fetch_all(&mut **tx)
            .await?;
        sqlx::query("DELETE FROM drift_pending WHERE device = $1")
            .bind(device.as_str())
            .execute(&mut **tx)
            .await?;
        for row in &rows {
            let order = Order::Forget { device: device.to_string() };
            Self::order_drift(tx, &release_of(row)?, &order).await?;
        }
        Ok(())
    }
}
