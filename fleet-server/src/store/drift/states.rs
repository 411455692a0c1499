//! What is known of each feature of each release.

use fleet_core::drift::FeatureStatus;
use shared::{ModelName, ReleaseId};
use sqlx::any::AnyRow;

use super::{
    super::{Columns as _, Packed, Store, StoreError, Tx, from_json, signed, to_json},
    bound, release_of,
};

/// What is known of a feature.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftState {
    /// Up to which period.
    pub period: u64,
    /// The state of its detectors.
    pub state: Packed,
}

impl Store {
    /// What is known of a feature.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_state(
        &self,
        release: &ReleaseId,
        feature: &str,
    ) -> Result<Option<DriftState>, StoreError> {
        let (model, version) = bound(release);
        let row = sqlx::query(
            "SELECT period, state FROM drift_states WHERE model = $1 AND version = $2 AND feature = $3",
        )
        .bind(model)
        .bind(version)
        .bind(feature)
        .fetch_optional(&self.reader)
        .await?;
        let state = |row: AnyRow| {
            Ok(DriftState { period: row.unsigned("period")?, state: Packed::from_text(row.text("state")?) })
        };
        row.map(state).transpose()
    }

    /// Up to which period a feature is known; 0 before its first check.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_state_period(
        tx: &mut Tx,
        release: &ReleaseId,
        feature: &str,
    ) -> Result<u64, StoreError> {
        let (model, version) = bound(release);
        let row =
            sqlx::query("SELECT period FROM drift_states WHERE model = $1 AND version = $2 AND feature = $3")
                .bind(model)
                .bind(version)
                .bind(feature)
                .fetch_optional(&mut **tx)
                .await?;
        row.map_or(Ok(0), |row| row.unsigned("period"))
    }

    /// Stores what is known of a feature.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_drift_state(
        tx: &mut Tx,
        release: &ReleaseId,
        feature: &str,
        state: &DriftState,
        status: &FeatureStatus,
    ) -> Result<(), StoreError> {
        let (model, version) = bound(release);
        sqlx::query(
            "INSERT INTO drift_states (model, version, feature, period, status, state) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (model, version, feature) DO UPDATE SET \
             period = excluded.period, status = excluded.status, state = excluded.state",
        )
        .bind(model)
        .bind(version)
        .bind(feature)
        .bind(signed(state.period))
        .bind(to_json(status))
        .bind(state.state.as_text())
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// How the detectors of a model stand, by release and feature.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_statuses(
        &self,
        model: &ModelName,
    ) -> Result<Vec<(ReleaseId, String, FeatureStatus)>, StoreError> {
        let rows = sqlx::query(
            "SELECT model, version, feature, status FROM drift_states WHERE model = $1 \
             ORDER BY version DESC, feature",
        )
        .bind(model.as_str())
        .fetch_all(&self.reader)
        .await?;
        let status = |row: &AnyRow| {
            Ok((release_of(row)?, row.text("feature")?, from_json("drift status", &row.text("status")?)?))
        };
        rows.iter().map(status).collect()
    }
}
