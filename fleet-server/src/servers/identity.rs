//! What a server is called.

use std::{fmt, str::FromStr};

use thiserror::Error;
use uuid::Uuid;

use crate::data_dir::{DataDir, DataDirError, write_atomically};

/// Where the name lies in the data directory.
const FILE: &str = "server.id";

/// The name of a server among those on its database. It outlives restarts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(String);

/// A text that names no server.
#[derive(Debug, Error)]
#[error("'{0}' is not the name of a server, which is a UUID")]
pub struct NotServerId(String);

/// A server and this run of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The server.
    pub id: ServerId,
    /// Another text at every start.
    pub run: String,
}

impl ServerId {
    /// A name that nobody has.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ServerId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ServerId {
    type Err = NotServerId;
    fn from_str(text: &str) -> Result<Self, NotServerId> {
        Uuid::parse_str(text.trim()).map(|id| Self(id.to_string())).map_err(|_| NotServerId(text.to_owned()))
    }
}

impl Identity {
    /// Reads the name in `data_dir`, or makes one at the first start. An unreadable one is replaced: it means nothing to
    /// anybody but this server.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(data_dir: &DataDir) -> Result<Self, DataDirError> {
        let path = data_dir.join(FILE);
        let known = std::fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
        let id = match known {
            Some(id) => id,
            None => {
                let id = ServerId::new();
                write_atomically(&path, id.as_str().as_bytes())?;
                id
            }
        };
        Ok(Self { id, run: Uuid::new_v4().to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_its_name_and_every_run_is_another() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&root.path().join("data")).unwrap();
        let (first, second) = (Identity::open(&data_dir).unwrap(), Identity::open(&data_dir).unwrap());
        assert_eq!(first.id, second.id);
        assert_ne!(first.run, second.run);
    }
}
