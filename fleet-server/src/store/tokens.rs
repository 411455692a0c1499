//! API tokens: only a keyed hash of a token is stored.

use shared::Timestamp;
use sqlx::any::AnyRow;

use super::{Columns, MAX_ROWS, Store, StoreError, Tx, millis, parsed, printable};
use crate::auth::Role;

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Its first characters, to recognise it by.
    pub prefix: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
    /// Taken back by a person.
    pub revoked: bool,
}

/// A token to be stored.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What people call it.
    pub name: String,
    /// Its first characters.
    pub prefix: String,
    /// Keyed hash of the whole.
    pub hash: String,
    /// What it may do.
    pub role: Role,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

impl TokenRow {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            name: row.text("name")?,
            prefix: row.text("prefix")?,
            role: parsed("role", &row.text("role")?)?,
            created_at: row.time("created_at")?,
            expires_at: row.optional_time("expires_at")?,
            last_used: row.optional_time("last_used")?,
            revoked: row.flag("revoked")?,
        })
    }

    /// True when the token still opens doors at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires_at.is_none_or(|end| now < end)
    }
}

impl Store {
    /// Stores a token and returns its id.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_token(tx: &mut Tx, token: &NewToken, now: Timestamp) -> Result<String, StoreError> {
        let id = uuid::Uuid::now_v7().to_string();
        sqlx::query(
            "INSERT INTO tokens (id, name, prefix, hash, role, created_at, expires_at, revoked) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
        )
        .bind(&id)
        .bind(printable(&token.name))
        .bind(&token.prefix)
        .bind(&token.hash)
        .bind(token.role.to_string())
        .bind(millis(now))
        .bind(token.expires_at.map(millis))
        .execute(&mut **tx)
        .await?;
        Ok(id)
    }

    /// The token with this hash, valid or not.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn token_by_hash(&self, hash: &str) -> Result<Option<TokenRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM tokens WHERE hash = $1")
            .bind(hash)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(TokenRow::from_row).transpose()
    }

    /// Notes that a token was used.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn touch_token(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE tokens SET last_used = $1 WHERE id = $2")
            .bind(millis(now))
            .bind(id)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Every token, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY id DESC LIMIT $1")
            .bind(MAX_ROWS)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(TokenRow::from_row).collect()
    }

    /// Tokens of admins that open doors at `now`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn valid_admins(tx: &mut Tx, now: Timestamp) -> Result<usize, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM tokens WHERE role = $1 AND revoked = 0 AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(Role::Admin.to_string())
        .bind(millis(now))
        .fetch_all(&mut **tx)
        .await?;
        Ok(rows.len())
    }

    /// Takes a token back; false when there is none with this id.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn revoke_token(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE tokens SET revoked = 1 WHERE id = $1").bind(id).execute(&mut **tx).await?;
        Ok(done.rows_affected() == 1)
    }
}
