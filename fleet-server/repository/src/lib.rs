//! Writes the signed metadata of the fleet: which releases exist, and which of them a device shall run.
//!
//! The image repository is a TUF 1.0 repository (root, targets, snapshot, timestamp) in which each release is
//! one target, `<model>/<version>.json`: its manifest. The director's documents are signed by a key of its own,
//! which the root metadata names. A device installs only what both say, so a stolen director key chooses among
//! listed releases and adds none.
//!
//! Pure: keys, state and the time go in, bytes come out. Nothing here reads a file, a clock or a random source;
//! the caller keeps [`Repository`] (it is serialisable) and the keys, and serves [`Repository::files`] and the
//! manifests. The same calls in the same order give the same bytes.

mod keys;
mod metadata;
mod repository;

pub use keys::{Keys, MissingKey, Role};
pub use metadata::{
    DIRECTOR_LIFETIME, ROOT_LIFETIME, SNAPSHOT_LIFETIME, TARGETS_LIFETIME, TIMESTAMP_LIFETIME, challengers,
    director, limits,
};
pub use repository::{MAX_RELEASES, Repository, RepositoryError};
