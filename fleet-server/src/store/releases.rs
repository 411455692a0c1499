//! Releases: published once, never changed.

use std::collections::BTreeSet;

use serde_json::Value;
use shared::{Digest, ModelName, ReleaseId, Timestamp, Version, manifest::Manifest, message::Assignment};
use sqlx::any::AnyRow;

use super::{Columns, MAX_ROWS, Store, StoreError, Tx, from_json, millis, parsed, signed};

/// A release as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseRow {
    /// Which.
    pub release: ReleaseId,
    /// The manifest, exactly as it was signed.
    pub manifest_json: String,
    /// Digest of these bytes.
    pub manifest_digest: Digest,
    /// What the gate found.
    pub gate: Value,
    /// When it was published.
    pub published_at: Timestamp,
    /// By whom.
    pub published_by: String,
}

/// A release to be stored.
#[derive(Debug, Clone)]
pub struct NewRelease {
    /// Which.
    pub release: ReleaseId,
    /// The manifest, exactly as it is signed.
    pub manifest_json: String,
    /// Digest over everything the publisher gave, to recognise the same thing published again.
    pub content_digest: Digest,
    /// Digest of the model.
    pub model_digest: Digest,
    /// What the gate found, as JSON.
    pub gate: String,
    /// By whom.
    pub published_by: String,
}

/// What came of storing a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is new.
    New,
    /// The same thing is there already, under this version.
    Existing(Version),
}

impl ReleaseRow {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let model: ModelName = parsed("model name", &row.text("model")?)?;
        Ok(Self {
            release: ReleaseId::new(model, version(row)?),
            manifest_json: row.text("manifest")?,
            manifest_digest: parsed("digest", &row.text("manifest_digest")?)?,
            gate: from_json("gate report", &row.text("gate")?)?,
            published_at: row.time("published_at")?,
            published_by: row.text("published_by")?,
        })
    }

    /// The manifest.
    ///
    /// # Errors
    /// When a newer program wrote it.
    pub fn manifest(&self) -> Result<Manifest, StoreError> {
        from_json("manifest", &self.manifest_json)
    }

    /// The words by which a device is told to run this release.
    #[must_use]
    pub fn assignment(&self, retry: bool) -> Assignment {
        Assignment {
            release: self.release.clone(),
            manifest_digest: self.manifest_digest,
            manifest_size_bytes: self.manifest_json.len() as u64,
            retry,
            pinned: false,
        }
    }
}

impl Store {
    /// The version under which the same thing was published before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn find_content(
        &self,
        model: &ModelName,
        content: &Digest,
    ) -> Result<Option<Version>, StoreError> {
        let row = sqlx::query("SELECT version FROM releases WHERE model = $1 AND content_digest = $2")
            .bind(model.as_str())
            .bind(content.to_string())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(version).transpose()
    }

    /// The newest version of a model.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_version(&self, model: &ModelName) -> Result<Option<Version>, StoreError> {
        let row = sqlx::query("SELECT version FROM releases WHERE model = $1 ORDER BY version DESC LIMIT 1")
            .bind(model.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(version).transpose()
    }

    /// Stores a release.
    ///
    /// # Errors
    /// When the database refuses, also when the version is taken.
    pub async fn insert_release(tx: &mut Tx, new: &NewRelease, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO releases (model, version, manifest, manifest_digest, manifest_size_bytes, \
             content_digest, model_digest, gate, published_at, published_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(new.release.model.as_str())
        .bind(i64::from(new.release.version.get()))
        .bind(&new.manifest_json)
        .bind(Digest::of(new.manifest_json.as_bytes()).to_string())
        .bind(signed(new.manifest_json.len() as u64))
        .bind(new.content_digest.to_string())
        .bind(new.model_digest.to_string())
        .bind(&new.gate)
        .bind(millis(now))
        .bind(&new.published_by)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// One release.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn release(&self, release: &ReleaseId) -> Result<Option<ReleaseRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM releases WHERE model = $1 AND version = $2")
            .bind(release.model.as_str())
            .bind(i64::from(release.version.get()))
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(ReleaseRow::from_row).transpose()
    }

    /// The names of all releases.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn release_ids(&self) -> Result<BTreeSet<ReleaseId>, StoreError> {
        let rows = sqlx::query("SELECT model, version FROM releases").fetch_all(&self.reader).await?;
        rows.iter()
            .map(|row| Ok(ReleaseId::new(parsed("model name", &row.text("model")?)?, version(row)?)))
            .collect()
    }

    /// Releases of one model, or of all, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn releases(&self, model: Option<&ModelName>) -> Result<Vec<ReleaseRow>, StoreError> {
        let query = match model {
            Some(model) => {
                sqlx::query("SELECT * FROM releases WHERE model = $1 ORDER BY version DESC LIMIT $2")
                    .bind(model.as_str())
                    .bind(MAX_ROWS)
            }
            None => {
                sqlx::query("SELECT * FROM releases ORDER BY model, version DESC LIMIT $1").bind(MAX_ROWS)
            }
        };
        query.fetch_all(&self.reader).await?.iter().map(ReleaseRow::from_row).collect()
    }

    /// Notes an artifact that lies in the artifact store.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_artifact(
        tx: &mut Tx,
        digest: &Digest,
        size_bytes: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO artifacts (digest, size_bytes, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.to_string())
        .bind(signed(size_bytes))
        .bind(millis(now))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

fn version(row: &AnyRow) -> Result<Version, StoreError> {
    let number = u32::try_from(row.number("version")?).unwrap_or(0);
    Version::try_from(number)
        .map_err(|error| StoreError::Corrupt { what: "version", detail: error.to_string() })
}
