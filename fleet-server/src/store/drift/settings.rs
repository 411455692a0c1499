//! How the drift of a model is watched, where somebody has said it.

use fleet_core::drift::DriftSettings;
use shared::ModelName;

use super::super::{Columns as _, Store, StoreError, Tx, from_json, to_json};

impl Store {
    /// The settings of a model; nothing when nobody has said any.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_settings(&self, model: &ModelName) -> Result<Option<DriftSettings>, StoreError> {
        let row = sqlx::query("SELECT document FROM drift_settings WHERE model = $1")
            .bind(model.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| from_json("drift settings", &row.text("document")?)).transpose()
    }

    /// Stores the settings of a model.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_drift_settings(
        tx: &mut Tx,
        model: &ModelName,
        settings: &DriftSettings,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO drift_settings (model, document) VALUES ($1, $2) \
             ON CONFLICT (model) DO UPDATE SET document = excluded.document",
        )
        .bind(model.as_str())
        .bind(to_json(settings))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}
