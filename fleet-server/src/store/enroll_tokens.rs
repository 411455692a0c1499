//! Enrolment tokens: a keyed hash, how often it may still be used, and what it presets.

use shared::{Timestamp, device::Labels};

use super::{Columns, Store, StoreError, Tx, from_json, millis, to_json};

/// An enrolment token to be stored.
#[derive(Debug, Clone)]
pub struct NewEnrollToken {
    /// Keyed hash of the secret.
    pub hash: String,
    /// Labels of the devices that use it.
    pub labels: Labels,
    /// How many devices may use it.
    pub uses: u32,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// What came of using an enrolment token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// One use is taken; these are the labels.
    Accepted(Labels),
    /// No such token.
    Unknown,
    /// Its time is over.
    Expired,
    /// Every use is taken.
    UsedUp,
}

impl Store {
    /// Stores an enrolment token and returns its id.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_enroll_token(
        tx: &mut Tx,
        token: &NewEnrollToken,
        now: Timestamp,
    ) -> Result<String, StoreError> {
        let id = uuid::Uuid::now_v7().to_string();
        sqlx::query(
            "INSERT INTO enroll_tokens (id, hash, labels, uses_left, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&id)
        .bind(&token.hash)
        .bind(to_json(&token.labels))
        .bind(i64::from(token.uses))
        .bind(millis(now))
        .bind(millis(token.expires_at))
        .execute(&mut **tx)
        .await?;
        Ok(id)
    }

    /// Takes one use of a token, if it has one. The check and the taking are one statement, so two devices never
    /// share the last use.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn redeem(tx: &mut Tx, hash: &str, now: Timestamp) -> Result<Redeemed, StoreError> {
        let taken = sqlx::query(
            "UPDATE enroll_tokens SET uses_left = uses_left - 1 \
             WHERE hash = $1 AND uses_left > 0 AND expires_at > $2 RETURNING labels",
        )
        .bind(hash)
        .bind(millis(now))
        .fetch_optional(&mut **tx)
        .await?;
        match taken {
            Some(row) => Ok(Redeemed::Accepted(from_json("labels", &row.text("labels")?)?)),
            None => why_not(tx, hash, now).await,
        }
    }
}

async fn why_not(tx: &mut Tx, hash: &str, now: Timestamp) -> Result<Redeemed, StoreError> {
    let row = sqlx::query("SELECT expires_at FROM enroll_tokens WHERE hash = $1")
        .bind(hash)
        .fetch_optional(&mut **tx)
        .await?;
    match row {
        None => Ok(Redeemed::Unknown),
        Some(row) if row.time("expires_at")? <= now => Ok(Redeemed::Expired),
        Some(_) => Ok(Redeemed::UsedUp),
    }
}
