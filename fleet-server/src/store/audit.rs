//! The audit log: who did what, each entry holding the digest of the one before.
//!
//! Entries are only ever added. Whoever changes or removes one must rewrite all that follow, and any copy of a later
//! digest shows it.

use serde::Serialize;
use shared::{Digest, Timestamp};
use sqlx::any::AnyRow;
use thiserror::Error;

use super::{Columns, MAX_ROWS, Store, StoreError, Tx, millis, printable, signed, to_json};

/// What the first entry names as its predecessor.
const NO_PREVIOUS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Number, from 1, without gaps.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who: the name of a token, `device:<id>`, or `rollout:<id>`.
    pub actor: String,
    /// What was done, such as `model.publish`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// More about it.
    pub detail: String,
    /// Digest of the entry before.
    pub previous: String,
    /// Digest of this entry without this field.
    #[serde(skip)]
    pub digest: String,
}

/// Where the chain is broken.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry does not fit the one before it or its own digest.
    #[error("audit entry {0} was changed, or the one before it removed")]
    Broken(u64),
}

impl AuditEntry {
    fn seal(&self) -> String {
        Digest::of(to_json(self).as_bytes()).to_string()
    }

    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            sequence: row.unsigned("sequence")?,
            at: row.time("at")?,
            actor: row.text("actor")?,
            action: row.text("action")?,
            subject: row.text("subject")?,
            detail: row.text("detail")?,
            previous: row.text("previous")?,
            digest: row.text("digest")?,
        })
    }
}

impl Store {
    /// Adds an entry as part of `tx`, so that the act and its record happen together.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn audit(
        tx: &mut Tx,
        at: Timestamp,
        actor: &str,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        let last = sqlx::query("SELECT sequence, digest FROM audit ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(&mut **tx)
            .await?;
        let (sequence, previous) = match last {
            Some(row) => (row.unsigned("sequence")? + 1, row.text("digest")?),
            None => (1, NO_PREVIOUS.to_owned()),
        };
        let mut entry = AuditEntry {
            sequence,
            at,
            actor: printable(actor),
            action: action.into(),
            subject: printable(subject),
            detail: printable(detail),
            previous,
            digest: String::new(),
        };
        entry.digest = entry.seal();
        insert(tx, &entry).await
    }

    /// Entries after number `after`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn audit_after(&self, after: u64) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query("SELECT * FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2")
            .bind(signed(after))
            .bind(MAX_ROWS)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(AuditEntry::from_row).collect()
    }

    /// Recomputes the whole chain and returns the number of entries.
    ///
    /// # Errors
    /// Names the first entry that does not fit.
    pub async fn verify_audit(&self) -> Result<u64, AuditError> {
        let (mut count, mut previous) = (0, NO_PREVIOUS.to_owned());
        loop {
            let entries = self.audit_after(count).await?;
            if entries.is_empty() {
                return Ok(count);
            }
            for entry in entries {
                let fits = entry.sequence == count + 1 && entry.previous == previous;
                if !fits || entry.seal() != entry.digest {
                    return Err(AuditError::Broken(entry.sequence));
                }
                (count, previous) = (entry.sequence, entry.digest);
            }
        }
    }
}

async fn insert(tx: &mut Tx, entry: &AuditEntry) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit (sequence, at, actor, action, subject, detail, previous, digest) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(signed(entry.sequence))
    .bind(millis(entry.at))
    .bind(&entry.actor)
    .bind(&entry.action)
    .bind(&entry.subject)
    .bind(&entry.detail)
    .bind(&entry.previous)
    .bind(&entry.digest)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
