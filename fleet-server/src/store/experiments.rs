//! Experiments: the machine's state, the judge beside it, and the evidence.

use fleet_core::{
    experiment::{ArmsJudge, Record},
    verdict::Look,
};
use shared::{ExperimentId, ModelName, Timestamp};
use sqlx::any::AnyRow;

use super::{
    Columns, MAX_ROWS, Store, StoreError, Tx, from_json, millis, parsed, signed, to_json,
    verdicts::LOOKS_PAGE,
};

/// Everything but the judge, which is large and read where it is needed.
const COLUMNS: &str = "id, model, state, phase, finished, change, created_by, created_at, changed_at";

/// An experiment as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExperimentRow {
    /// Its name.
    pub id: ExperimentId,
    /// The model whose versions are compared.
    pub model: ModelName,
    /// The machine, as JSON.
    pub state: String,
    /// Where it stands, in a word.
    pub phase: String,
    /// It is over.
    pub finished: bool,
    /// The number of its newest change among the changes of all experiments.
    pub change: u64,
    /// Who started it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
}

/// A piece of evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentLookRow {
    /// When it was taken.
    pub at: Timestamp,
    /// What the devices showed.
    pub look: Look,
    /// What came of it; nothing of a look from before the comparison.
    pub record: Option<Record>,
}

impl ExperimentRow {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed("experiment name", &row.text("id")?)?,
            model: parsed("model name", &row.text("model")?)?,
            state: row.text("state")?,
            phase: row.text("phase")?,
            finished: row.flag("finished")?,
            change: row.unsigned("change")?,
            created_by: row.text("created_by")?,
            created_at: row.time("created_at")?,
            changed_at: row.time("changed_at")?,
        })
    }
}

impl ExperimentLookRow {
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
    /// Stores an experiment that starts; false when there is or was one of this name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_experiment(tx: &mut Tx, new: &ExperimentRow) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO experiments (id, model, state, phase, finished, change, created_by, created_at, changed_at) \
             VALUES ($1, $2, $3, $4, $5, (SELECT COALESCE(MAX(change), 0) + 1 FROM experiments), $6, $7, $7) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(new.id.as_str())
        .bind(new.model.as_str())
        .bind(&new.state)
        .bind(&new.phase)
        .bind(i64::from(new.finished))
        .bind(&new.created_by)
        .bind(millis(new.created_at))
        .execute(&mut **tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Stores the next state of an experiment as the change of the number that it returns. Nobody else writes beside `tx`, so
    /// whoever read it there has the newest.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_experiment(
        tx: &mut Tx,
        id: &ExperimentId,
        (state, phase, finished): (&str, &str, bool),
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "UPDATE experiments SET state = $1, phase = $2, finished = $3, changed_at = $4, \
             change = (SELECT COALESCE(MAX(change), 0) + 1 FROM experiments) WHERE id = $5 RETURNING change",
        )
        .bind(state)
        .bind(phase)
        .bind(i64::from(finished))
        .bind(millis(now))
        .bind(id.as_str())
        .fetch_one(&mut **tx)
        .await?;
        row.unsigned("change")
    }

    /// Stores what was learned from the looks.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_experiment_judge(
        tx: &mut Tx,
        id: &ExperimentId,
        judge: &ArmsJudge,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE experiments SET judge = $1 WHERE id = $2")
            .bind(to_json(judge))
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// What was learned from the looks, as part of `tx`; nothing before the comparison began.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn experiment_judge(tx: &mut Tx, id: &ExperimentId) -> Result<Option<ArmsJudge>, StoreError> {
        let row = sqlx::query("SELECT judge FROM experiments WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        let text = row.map(|row| row.optional_text("judge")).transpose()?.flatten();
        text.map(|text| from_json("judge of an experiment", &text)).transpose()
    }

    /// One experiment.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn experiment(&self, id: &ExperimentId) -> Result<Option<ExperimentRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM experiments WHERE id = $1");
        let row =
            sqlx::query(sqlx::AssertSqlSafe(query)).bind(id.as_str()).fetch_optional(&self.reader).await?;
        row.as_ref().map(ExperimentRow::from_row).transpose()
    }

    /// Every experiment, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn experiments(&self) -> Result<Vec<ExperimentRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM experiments ORDER BY created_at DESC, id LIMIT $1");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(MAX_ROWS).fetch_all(&self.reader).await?;
        rows.iter().map(ExperimentRow::from_row).collect()
    }

    /// Experiments that are not over, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn unfinished_experiments(&self) -> Result<Vec<ExperimentRow>, StoreError> {
        let query =
            format!("SELECT {COLUMNS} FROM experiments WHERE finished = 0 ORDER BY created_at, id LIMIT $1");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(MAX_ROWS).fetch_all(&self.reader).await?;
        rows.iter().map(ExperimentRow::from_row).collect()
    }

    /// Experiments that changed after the change of number `after`, oldest change first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn experiments_changed(tx: &mut Tx, after: u64) -> Result<Vec<ExperimentRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM experiments WHERE change > $1 ORDER BY change");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(signed(after)).fetch_all(&mut **tx).await?;
        rows.iter().map(ExperimentRow::from_row).collect()
    }

    /// The number of the newest change.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_experiment_change(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(change), 0) AS change FROM experiments")
            .fetch_one(&self.reader)
            .await?;
        row.unsigned("change")
    }

    /// Keeps a look as evidence.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_experiment_look(
        tx: &mut Tx,
        id: &ExperimentId,
        row: &ExperimentLookRow,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO experiment_looks (experiment, number, at, document, record) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id.as_str())
        .bind(signed(row.look.number))
        .bind(millis(row.at))
        .bind(to_json(&row.look))
        .bind(row.record.as_ref().map(to_json))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// The evidence of an experiment after the look of number `after`, oldest first: a page of [`LOOKS_PAGE`].
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn experiment_looks(
        &self,
        id: &ExperimentId,
        after: Option<u64>,
    ) -> Result<Vec<ExperimentLookRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM experiment_looks WHERE experiment = $1 AND number > $2 ORDER BY number LIMIT $3",
        )
        .bind(id.as_str())
        .bind(after.map_or(-1, signed))
        .bind(LOOKS_PAGE)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(ExperimentLookRow::from_row).collect()
    }

    /// Forgets evidence from before `oldest`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trim_experiment_looks(tx: &mut Tx, oldest: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM experiment_looks WHERE at < $1")
            .bind(millis(oldest))
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}
