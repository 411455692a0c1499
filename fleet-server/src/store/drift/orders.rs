//! What people say about baselines, until the check that carries it out.

use fleet_core::drift::Order;
use shared::{DeviceId, ReleaseId, Timestamp};

use sqlx::{AssertSqlSafe, any::AnyRow};

use super::{
    super::{Columns as _, Store, StoreError, Tx, from_json, many::Open, millis, signed, to_json},
    anew::note_anew,
    bound, release_of,
};

impl Store {
    /// Orders that wait for one check, at most: a person gives a few, a script for every device of the largest fleet one.
    pub const MAX_DRIFT_ORDERS: i64 = 20_000;

    /// Notes an order for the check that closes the open period. False when there are too many; a name that another device takes over is
    /// never too many, since nobody would say it once more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn order_drift(tx: &mut Tx, release: &ReleaseId, order: &Order) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS orders_there, COALESCE(MAX(sequence), 0) + 1 AS next FROM drift_orders",
        )
        .fetch_one(&mut **tx)
        .await?;
        match order {
            Order::Relearn { .. } if row.number("orders_there")? >= Self::MAX_DRIFT_ORDERS => {
                return Ok(false);
            }
            Order::Relearn { .. } | Order::Forget { .. } => {}
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

    /// What a device of a release, or every one, counted until `now` is no part of what it is like from now on: not what waits for the
    /// check that closes the open period, and not what comes late. Sums of strata keep it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_anew(
        tx: &mut Tx,
        release: &ReleaseId,
        device: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let due = due(tx).await?;
        let of = Of { release, device };
        let counts = of.statement("UPDATE drift_devices SET not_before = $1 WHERE {of}", 1).bind(millis(now));
        of.execute(counts, tx).await?;
        of.execute(of.statement("DELETE FROM drift_anew WHERE {of}", 0), tx).await?;
        let waits = of.statement("DELETE FROM drift_pending WHERE period <> $1 AND {of}", 1).bind(due);
        of.execute(waits, tx).await
    }

    /// The same of one feature, by its place in the reference; what was counted of the others stays. What is struck is taken out when the
    /// row is read, so that an order for the largest fleet is two statements, and one row that says since when windows count.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_feature_anew(
        tx: &mut Tx,
        release: &ReleaseId,
        device: Option<&str>,
        place: usize,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let due = due(tx).await?;
        let of = Of { release, device };
        note_anew(tx, release, device, place, now).await?;
        let mark = format!(";{place};");
        let waits = of.statement(
            "UPDATE drift_pending SET struck = struck || $1 WHERE struck NOT LIKE $2 AND period <> $3 AND {of}",
            3,
        )
        .bind(mark.clone())
        .bind(format!("%{mark}%"))
        .bind(due);
        of.execute(waits, tx).await
    }

    /// What was ordered of a release up to `period`, in order, each with the period whose check carries it out first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_orders(
        &self,
        release: &ReleaseId,
        period: u64,
    ) -> Result<Vec<(u64, Order)>, StoreError> {
        let (model, version) = bound(release);
        let rows = sqlx::query(
            "SELECT sequence, period, document FROM drift_orders WHERE model = $1 AND version = $2 AND period <= $3 \
             ORDER BY sequence",
        )
        .bind(model)
        .bind(version)
        .bind(signed(period))
        .fetch_all(&self.reader)
        .await?;
        let order = |row: &AnyRow| {
            let sequence = row.unsigned("sequence")?;
            let order = from_json("order", &row.text("document")?);
            let order =
                order.map_err(|error| error.in_row(&format_args!("drift_orders, sequence {sequence}")))?;
            Ok((row.unsigned("period")?, order))
        };
        rows.iter().map(order).collect()
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
        for delete in
            ["DELETE FROM drift_pending WHERE device = $1", "DELETE FROM drift_anew WHERE device = $1"]
        {
            sqlx::query(delete).bind(device.as_str()).execute(&mut **tx).await?;
        }
        for row in &rows {
            let order = Order::Forget { device: device.to_string() };
            Self::order_drift(tx, &release_of(row)?, &order).await?;
        }
        Ok(())
    }
}

/// The period that a check under way works through, whose rows stay as they are; 0, which is none, without.
async fn due(tx: &mut Tx) -> Result<i64, StoreError> {
    Ok(signed(Store::drift_period(tx).await?.due().unwrap_or(0)))
}

/// A device of a release, or all of them.
struct Of<'a> {
    release: &'a ReleaseId,
    device: Option<&'a str>,
}

impl Of<'_> {
    /// A statement in which `{of}` stands for who is meant, after so many values of its own.
    fn statement(&self, sql: &'static str, values: usize) -> Open {
        let (model, version, device) = (values + 1, values + 2, values + 3);
        let mut of = format!("model = ${model} AND version = ${version}");
        if self.device.is_some() {
            of.push_str(&format!(" AND device = ${device}"));
        }
        sqlx::query(AssertSqlSafe(sql.replace("{of}", &of)))
    }

    /// Runs it, when its own values are bound.
    async fn execute(&self, statement: Open, tx: &mut Tx) -> Result<(), StoreError> {
        let (model, version) = bound(self.release);
        let mut statement = statement.bind(model).bind(version);
        if let Some(device) = self.device {
            statement = statement.bind(device.to_owned());
        }
        statement.execute(&mut **tx).await?;
        Ok(())
    }
}
