//! The five private keys, one for each role, and their files.

use std::{collections::BTreeMap, fmt};

use shared::trust::{KeyId, Signer, UnusablePem};
use thiserror::Error;
use zeroize::Zeroizing;

/// Who signs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Says which keys every role has.
    Root,
    /// Says which releases exist.
    Targets,
    /// Says which version of the targets belongs to now.
    Snapshot,
    /// Says which snapshot is the newest; short-lived.
    Timestamp,
    /// Says which device runs what.
    Director,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp, Self::Director];

    /// The role's name, which also serves as the name of its key file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Director => "director",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key file is missing or holds no key.
#[derive(Debug, Error)]
pub enum MissingKey {
    /// There is none.
    #[error("there is no private key for the role {0}")]
    Absent(Role),
    /// It is no key.
    #[error("the private key of the role {0} cannot be read")]
    Unusable(Role, #[source] UnusablePem),
}

/// The private keys of the repository and the director. They wipe themselves when dropped.
#[derive(Debug)]
pub struct Keys {
    signers: BTreeMap<Role, Signer>,
}

impl Keys {
    /// Keys from 32 secret bytes for each role, in the order of [`Role::ALL`].
    #[must_use]
    pub fn from_seeds(seeds: &[[u8; 32]; 5]) -> Self {
        let signers = Role::ALL.into_iter().zip(seeds).map(|(role, seed)| (role, Signer::from_seed(seed)));
        Self { signers: signers.collect() }
    }

    /// Keys from their PKCS#8 PEM files.
    ///
    /// # Errors
    /// When a role has no file, or a file holds no Ed25519 key.
    pub fn from_pem(files: &BTreeMap<Role, Zeroizing<String>>) -> Result<Self, MissingKey> {
        let read = |role: Role| {
            let pem = files.get(&role).ok_or(MissingKey::Absent(role))?;
            Ok((role, Signer::from_pem(pem).map_err(|error| MissingKey::Unusable(role, error))?))
        };
        Ok(Self { signers: Role::ALL.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Every key as PKCS#8 PEM, to be kept where only the server reads.
    #[must_use]
    pub fn to_pem(&self) -> BTreeMap<Role, Zeroizing<String>> {
        self.signers.iter().map(|(&role, signer)| (role, signer.to_pem())).collect()
    }

    /// The signer of a role.
    ///
    /// # Panics
    /// Never: both constructors fill every role.
    #[must_use]
    pub fn signer(&self, role: Role) -> &Signer {
        self.signers.get(&role).expect("both constructors fill every role")
    }

    /// The id of every role's key.
    pub(crate) fn ids(&self) -> BTreeMap<Role, KeyId> {
        self.signers.iter().map(|(&role, signer)| (role, signer.id().clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_files_and_a_missing_file_is_named() {
        let keys = Keys::from_seeds(&[[1; 32], [2; 32], [3; 32], [4; 32], [5; 32]]);
        let mut files = keys.to_pem();
        assert_eq!(Keys::from_pem(&files).unwrap().ids(), keys.ids());
        files.remove(&Role::Director);
        assert!(matches!(Keys::from_pem(&files), Err(MissingKey::Absent(Role::Director))));
        files.insert(Role::Director, Zeroizing::new("no key".into()));
        assert!(matches!(Keys::from_pem(&files), Err(MissingKey::Unusable(Role::Director, _))));
    }
}
