//! What an agent keeps on its disk, so that a power cut at any moment leaves the old state or the new one.
//!
//! The ledger file holds what the core remembers, the store holds artifacts and manifests by digest, the spool what waits
//! for the server. None of them decides anything or knows of network, runner or model.

pub mod disk;
pub mod ledger_file;
pub mod spool;
pub mod store;

pub use ledger_file::{LedgerFile, LedgerFileError};
pub use store::{ArtifactReader, BlockFate, Opened, Room, Store, StoreError};
