//! Webhooks: who is told of events over the web, and how far they have come.
//!
//! A delivery is written down only if the webhook still stands where it stood when the delivery began, so of two servers that
//! deliver the same event one writes nothing.

use shared::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{Columns, EventRow, Store, StoreError, Tx, from_json, millis, printable, signed, to_json};
use crate::webhooks::Standing;

/// A webhook as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRow {
    /// Its id, short enough to be typed.
    pub id: String,
    /// Where it leads.
    pub url: String,
    /// The events that it is told of, in words; all when there are none.
    pub events: Vec<String>,
    /// What its secret was derived with.
    pub salt: String,
    /// The CA that signed the receiver's certificate, where it is none of the system's.
    pub ca_pem: Option<String>,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// The number of the last event that is done with.
    pub sequence: u64,
    /// How the next delivery stands.
    pub standing: Standing,
    /// Why the last try failed; nothing when it did not.
    pub last_error: Option<String>,
    /// When the last delivery arrived.
    pub delivered_at: Option<Timestamp>,
    /// Since when it is given up, and why.
    pub disabled: Option<(Timestamp, String)>,
}

/// A webhook to be added.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Where it leads.
    pub url: String,
    /// The events that it is told of, in words; all when there are none.
    pub events: Vec<String>,
    /// The CA that signed the receiver's certificate, where it is none of the system's.
    pub ca_pem: Option<String>,
    /// Who adds it.
    pub created_by: String,
}

/// How a webhook goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The number of the event that it stood at.
    pub from: u64,
    /// The number of the event that it now stands at.
    pub to: u64,
    /// When a delivery arrived; nothing where events were only passed over.
    pub delivered_at: Option<Timestamp>,
}

impl WebhookRow {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let disabled_at = row.optional_time("disabled_at")?;
        let disabled_why = row.optional_text("disabled_why")?.unwrap_or_default();
        Ok(Self {
            id: row.text("id")?,
            url: row.text("url")?,
            events: from_json("filter of a webhook", &row.text("events")?)?,
            salt: row.text("salt")?,
            ca_pem: row.optional_text("ca_pem")?,
            created_by: row.text("created_by")?,
            created_at: row.time("created_at")?,
            sequence: row.unsigned("sequence")?,
            standing: Standing {
                failures: u32::try_from(row.unsigned("failures")?).unwrap_or(u32::MAX),
                failing_since: row.optional_time("failing_since")?,
                not_before: row.time("not_before")?,
            },
            last_error: row.optional_text("last_error")?,
            delivered_at: row.optional_time("delivered_at")?,
            disabled: disabled_at.map(|at| (at, disabled_why)),
        })
    }
}

impl Store {
    /// Webhooks, at most: each is a task and asks for every event, and more receivers than this share one that passes on.
    pub const MAX_WEBHOOKS: i64 = 32;

    /// Adds a webhook, which is told of what happens from now on; `None` when there are as many as there may be.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_webhook(
        tx: &mut Tx,
        new: &NewWebhook,
        now: Timestamp,
    ) -> Result<Option<WebhookRow>, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS webhooks_there FROM webhooks").fetch_one(&mut **tx).await?;
        if row.number("webhooks_there")? >= Self::MAX_WEBHOOKS {
            return Ok(None);
        }
        let random = || Uuid::new_v4().simple().to_string();
        let row = sqlx::query(
            "INSERT INTO webhooks (id, url, events, salt, ca_pem, created_by, created_at, sequence, failures, not_before) \
             SELECT $1, $2, $3, $4, $5, $6, $7, COALESCE(MAX(sequence), 0), 0, 0 FROM events RETURNING *",
        )
        .bind(&random()[..8])
        .bind(&new.url)
        .bind(to_json(&new.events))
        .bind(random())
        .bind(new.ca_pem.as_deref().map(printable))
        .bind(&new.created_by)
        .bind(millis(now))
        .fetch_one(&mut **tx)
        .await?;
        WebhookRow::from_row(&row).map(Some)
    }

    /// Every webhook, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn webhooks(&self) -> Result<Vec<WebhookRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM webhooks ORDER BY created_at, id").fetch_all(&self.reader).await?;
        rows.iter().map(WebhookRow::from_row).collect()
    }

    /// One webhook.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn webhook(&self, id: &str) -> Result<Option<WebhookRow>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM webhooks WHERE id = $1").bind(id).fetch_optional(&self.reader).await?;
        row.as_ref().map(WebhookRow::from_row).transpose()
    }

    /// Removes a webhook and returns it; `None` when there is no such one.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn delete_webhook(tx: &mut Tx, id: &str) -> Result<Option<WebhookRow>, StoreError> {
        let row = sqlx::query("DELETE FROM webhooks WHERE id = $1 RETURNING *")
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
        row.as_ref().map(WebhookRow::from_row).transpose()
    }

    /// Lets a webhook that failed, or was given up, try again at once, from where it stopped; `None` when there is no such one.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn enable_webhook(tx: &mut Tx, id: &str) -> Result<Option<WebhookRow>, StoreError> {
        let row = sqlx::query(
            "UPDATE webhooks SET failures = 0, failing_since = NULL, not_before = 0, disabled_at = NULL, \
             disabled_why = NULL WHERE id = $1 RETURNING *",
        )
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
        row.as_ref().map(WebhookRow::from_row).transpose()
    }

    /// Writes down how far a webhook has come; false when it does not stand there any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn advance_webhook(tx: &mut Tx, id: &str, advance: &Advance) -> Result<bool, StoreError> {
        let query = match advance.delivered_at {
            None => sqlx::query("UPDATE webhooks SET sequence = $1 WHERE id = $2 AND sequence = $3"),
            Some(at) => sqlx::query(
                "UPDATE webhooks SET sequence = $2, failures = 0, failing_since = NULL, not_before = 0, \
                 last_error = NULL, delivered_at = $1 WHERE id = $3 AND sequence = $4",
            )
            .bind(millis(at)),
        };
        let query = query.bind(signed(advance.to)).bind(id).bind(signed(advance.from));
        Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
    }

    /// Writes down that the delivery behind event `at` failed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn webhook_failed(
        tx: &mut Tx,
        id: &str,
        at: u64,
        standing: &Standing,
        error: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE webhooks SET failures = $1, failing_since = $2, not_before = $3, last_error = $4 \
             WHERE id = $5 AND sequence = $6 AND disabled_at IS NULL",
        )
        .bind(i64::from(standing.failures))
        .bind(standing.failing_since.map(millis))
        .bind(millis(standing.not_before))
        .bind(printable(error))
        .bind(id)
        .bind(signed(at))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Gives a webhook up; false when it does not stand at event `at` any more, or was given up before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn disable_webhook(
        tx: &mut Tx,
        id: &str,
        at: u64,
        why: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE webhooks SET disabled_at = $1, disabled_why = $2, last_error = $2 \
             WHERE id = $3 AND sequence = $4 AND disabled_at IS NULL",
        )
        .bind(millis(now))
        .bind(printable(why))
        .bind(id)
        .bind(signed(at))
        .execute(&mut **tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Events after number `after`, at most `most`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn events_page(&self, after: u64, most: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM events WHERE sequence > $1 ORDER BY sequence LIMIT $2")
            .bind(signed(after))
            .bind(i64::from(most))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(EventRow::from_row).collect()
    }

    /// The number of the newest event; 0 when there is none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_event(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(sequence), 0) AS newest FROM events")
            .fetch_one(&self.reader)
            .await?;
        row.unsigned("newest")
    }
}
