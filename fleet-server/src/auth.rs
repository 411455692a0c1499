//! Who may do what.
//!
//! A token is 256 random bits behind a prefix by which leak scanners know it. The server keeps only an HMAC of it,
//! so a copy of the database opens nothing. A role grants permissions, and every route names the one it needs.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use shared::Digest;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::data_dir::{DataDir, DataDirError, read_secret, write_secret};

/// Starts every API token.
pub const API_PREFIX: &str = "muster_api_";

/// Characters of a token that are kept to recognise it by: the prefix and 24 bits.
const SHOWN_LEN: usize = API_PREFIX.len() + 4;

/// What somebody is to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Moves releases to devices, and enrols devices.
    Operator,
    /// Publishes models.
    Publisher,
    /// Approves what others started.
    Approver,
    /// Everything, tokens included.
    Admin,
}

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Permission {
    /// Look at anything.
    Read,
    /// Change devices and rollouts.
    Operate,
    /// Publish models.
    Publish,
    /// Approve what others started.
    Approve,
    /// Make and revoke tokens, read the audit log.
    Administer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Operator, Self::Publisher, Self::Approver, Self::Admin];

    /// True when the role includes the permission.
    #[must_use]
    pub fn grants(self, permission: Permission) -> bool {
        match permission {
            Permission::Read => true,
            Permission::Operate => matches!(self, Self::Operator | Self::Admin),
            Permission::Publish => matches!(self, Self::Publisher | Self::Admin),
            Permission::Approve => matches!(self, Self::Approver | Self::Admin),
            Permission::Administer => self == Self::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Approver => "approver",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.to_string() == text).ok_or_else(|| {
            format!("'{text}' is not a role; expected viewer, operator, publisher, approver or admin")
        })
    }
}

/// Hashes secrets with a key that never leaves the server's folder.
pub struct TokenKey(Zeroizing<Vec<u8>>);

impl TokenKey {
    /// Reads the key of `data_dir`, or makes it at the first start. `in_use` says that something was hashed with it.
    ///
    /// # Errors
    /// When the file cannot be read or written or is lost, or others may read it.
    pub fn open(data_dir: &DataDir, in_use: bool) -> Result<Self, DataDirError> {
        let path = data_dir.join("token.key");
        if !path.exists() {
            if in_use {
                return Err(DataDirError::LostTokenKey { missing: path });
            }
            write_secret(&path, new_secret().as_bytes())?;
        }
        read_secret(&path).map(Self)
    }

    /// What is stored instead of `secret`.
    #[must_use]
    pub fn hash(&self, secret: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(secret.as_bytes());
        Digest::from_bytes(mac.finalize().into_bytes().into()).to_string()
    }

    /// A secret that only holders of the key can make again, for a purpose and by parts that are none. It is not stored, so a
    /// copy of the database holds none.
    #[must_use]
    pub fn derive(&self, purpose: &str, parts: &[&str]) -> Zeroizing<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        // Tokens begin otherwise, and no part can be taken for the end of another.
        for part in ["derived secret", purpose].iter().chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

/// A new API token.
#[must_use]
pub fn new_api_token() -> String {
    format!("{API_PREFIX}{}", new_secret())
}

/// 256 random bits as text.
///
/// # Panics
/// When the operating system has no random bytes; no server can do its work then.
#[must_use]
pub fn new_secret() -> String {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("the operating system gives random bytes");
    BASE64.encode(*bytes)
}

/// The first characters of a token, to recognise it by.
#[must_use]
pub fn shown_prefix(token: &str) -> String {
    token.chars().take(SHOWN_LEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().unwrap_err().contains("viewer"));
    }

    #[test]
    fn only_an_admin_makes_tokens_and_everybody_may_look() {
        let holders: Vec<Role> =
            Role::ALL.into_iter().filter(|role| role.grants(Permission::Administer)).collect();
        assert_eq!(holders, [Role::Admin]);
        assert!(Role::ALL.into_iter().all(|role| role.grants(Permission::Read)));
    }

    #[test]
    fn a_hash_depends_on_the_key() {
        let key = |byte| TokenKey(Zeroizing::new(vec![byte; 32]));
        assert_eq!(key(1).hash("a"), key(1).hash("a"));
        assert_ne!(key(1).hash("a"), key(2).hash("a"));
        assert_ne!(new_api_token(), new_api_token());
    }
}
