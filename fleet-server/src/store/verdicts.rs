//! What verdicts on metrics are made of ([`Tally`]), and the evidence that they leave.

use std::collections::BTreeMap;

use fleet_core::verdict::{CanaryJudge, Cohorts, Look, LookRecord, Tally, VerdictPolicy};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, ModelName, RolloutId, Timestamp, Version, telemetry::VersionFigures};
use sqlx::any::AnyRow;

use super::{Columns, Store, StoreError, Tx, from_json, millis, parsed, signed, to_json};

/// By which rules a wave is compared, and with whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// The version that the canaries run.
    pub candidate: Version,
    /// Who is compared with whom.
    pub cohorts: Cohorts,
    /// By which rules.
    pub policy: VerdictPolicy,
}

/// A wave that is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparisonRow {
    /// Of which rollout.
    pub rollout: RolloutId,
    /// Which wave, counted from 0.
    pub wave: usize,
    /// By which rules.
    pub opening: Opening,
    /// What was learned so far.
    pub judge: CanaryJudge,
    /// When it began.
    pub opened_at: Timestamp,
}

/// A piece of evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct LookRow {
    /// When it was taken.
    pub at: Timestamp,
    /// What the devices showed.
    pub look: Look,
    /// What came of it; nothing of a look from before the wave began.
    pub record: Option<LookRecord>,
}

impl ComparisonRow {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            rollout: parsed("rollout id", &row.text("rollout")?)?,
            wave: usize::try_from(row.unsigned("wave")?).unwrap_or(usize::MAX),
            opening: from_json("opening of a comparison", &row.text("opening")?)?,
            judge: from_json("state of a comparison", &row.text("judge")?)?,
            opened_at: row.time("opened_at")?,
        })
    }
}

impl LookRow {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let record = row.optional_text("record")?;
        Ok(Self {
            at: row.time("at")?,
            look: from_json("look", &row.text("document")?)?,
            record: record.map(|text| from_json("record of a look", &text)).transpose()?,
        })
    }
}

impl Store {
    /// The sums of every device that did something since `from`, of all its versions, as part of `tx`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn figures_since(
        tx: &mut Tx,
        from: Timestamp,
    ) -> Result<Vec<(DeviceId, VersionFigures)>, StoreError> {
        let rows = sqlx::query(
            "SELECT device, figures FROM device_figures WHERE device IN \
             (SELECT device FROM device_figures WHERE updated_at >= $1)",
        )
        .bind(millis(from))
        .fetch_all(&mut **tx)
        .await?;
        let row = |row: &AnyRow| {
            Ok((parsed("device id", &row.text("device")?)?, from_json("figures", &row.text("figures")?)?))
        };
        rows.iter().map(row).collect()
    }

    /// Writes a tally down.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_tally(
        tx: &mut Tx,
        model: &ModelName,
        number: u64,
        tally: &Tally,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO tallies (model, number, document) VALUES ($1, $2, $3)")
            .bind(model.as_str())
            .bind(signed(number))
            .bind(to_json(tally))
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// The number of the newest tally.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_tally(tx: &mut Tx) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("SELECT MAX(number) AS newest FROM tallies").fetch_one(&mut **tx).await?;
        Ok(row.optional_number("newest")?.map(|number| u64::try_from(number).unwrap_or(0)))
    }

    /// The tallies that are kept of one model, oldest first, with their numbers.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tallies_of(tx: &mut Tx, model: &ModelName) -> Result<Vec<(u64, Tally)>, StoreError> {
        let rows = sqlx::query("SELECT number, document FROM tallies WHERE model = $1 ORDER BY number")
            .bind(model.as_str())
            .fetch_all(&mut **tx)
            .await?;
        rows.iter()
            .map(|row| Ok((row.unsigned("number")?, from_json("tally", &row.text("document")?)?)))
            .collect()
    }

    /// The tallies that are kept, oldest first, by model.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tallies(tx: &mut Tx) -> Result<BTreeMap<ModelName, Vec<(u64, Tally)>>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT model FROM tallies").fetch_all(&mut **tx).await?;
        let mut all = BTreeMap::new();
        for row in &rows {
            let model = parsed("model name", &row.text("model")?)?;
            let tallies = Self::tallies_of(tx, &model).await?;
            all.insert(model, tallies);
        }
        Ok(all)
    }

    /// Forgets tallies from before `oldest`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trim_tallies(tx: &mut Tx, oldest: u64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM tallies WHERE number < $1").bind(signed(oldest)).execute(&mut **tx).await?;
        Ok(())
    }

    /// Stores a comparison, or what it learned.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_comparison(tx: &mut Tx, row: &ComparisonRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO comparisons (rollout, wave, opening, judge, opened_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (rollout, wave) DO UPDATE SET judge = excluded.judge",
        )
        .bind(row.rollout.as_str())
        .bind(wave_number(row.wave))
        .bind(to_json(&row.opening))
        .bind(to_json(&row.judge))
        .bind(millis(row.opened_at))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// The comparison of a wave, as part of `tx`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn comparison(
        tx: &mut Tx,
        rollout: &RolloutId,
        wave: usize,
    ) -> Result<Option<ComparisonRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM comparisons WHERE rollout = $1 AND wave = $2")
            .bind(rollout.as_str())
            .bind(wave_number(wave))
            .fetch_optional(&mut **tx)
            .await?;
        row.as_ref().map(ComparisonRow::from_row).transpose()
    }

    /// Every comparison of a rollout, by wave.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn comparisons_of(&self, rollout: &RolloutId) -> Result<Vec<ComparisonRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM comparisons WHERE rollout = $1 ORDER BY wave")
            .bind(rollout.as_str())
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(ComparisonRow::from_row).collect()
    }

    /// Keeps a look as evidence.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_look(
        tx: &mut Tx,
        rollout: &RolloutId,
        wave: usize,
        row: &LookRow,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO looks (rollout, wave, number, at, document, record) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(rollout.as_str())
        .bind(wave_number(wave))
        .bind(signed(row.look.number))
        .bind(millis(row.at))
        .bind(to_json(&row.look))
        .bind(row.record.as_ref().map(to_json))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Forgets evidence from before `oldest`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trim_looks(tx: &mut Tx, oldest: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM looks WHERE at < $1").bind(millis(oldest)).execute(&mut **tx).await?;
        Ok(())
    }

    /// The evidence of a wave after the look of number `after`, oldest first: a page of [`LOOKS_PAGE`].
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn looks_of(
        &self,
        rollout: &RolloutId,
        wave: usize,
        after: Option<u64>,
    ) -> Result<Vec<LookRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM looks WHERE rollout = $1 AND wave = $2 AND number > $3 ORDER BY number LIMIT $4",
        )
        .bind(rollout.as_str())
        .bind(wave_number(wave))
        .bind(after.map_or(-1, signed))
        .bind(LOOKS_PAGE)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(LookRow::from_row).collect()
    }
}

/// Looks of one page. Each holds the figures of all devices that are compared, so few are much.
pub(super) const LOOKS_PAGE: i64 = 64;

fn wave_number(wave: usize) -> i64 {
    i64::try_from(wave).unwrap_or(i64::MAX)
}
