//! Landlock: no file, no TCP, no other process, by what they are and not by which call reaches for them.
//!
//! No rule is added, so everything that the ruleset handles is denied. The newest rights are asked for where the kernel
//! knows them; the three named here are what a model could do harm with.

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr, RulesetError,
    Scope,
};

/// The newest version that this program knows; older kernels give what they have.
const NEWEST: ABI = ABI::V6;

/// What of Landlock holds; an error tells why not.
pub(super) struct Restricted {
    pub(super) files: Result<(), String>,
    pub(super) network: Result<(), String>,
    pub(super) processes: Result<(), String>,
}

/// Denies everything from here on, for this thread and those that it starts.
pub(super) fn restrict() -> Restricted {
    match deny_all() {
        Ok(status) => from_status(&status),
        Err(error) => {
            let failed = || Err(error.to_string());
            Restricted { files: failed(), network: failed(), processes: failed() }
        }
    }
}

fn deny_all() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()
}

fn from_status(status: &RestrictionStatus) -> Restricted {
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => ABI::Unsupported,
    };
    let since = |needed: ABI| {
        if abi >= needed { Ok(()) } else { Err(format!("Landlock {abi:?} where {needed:?} is needed")) }
    };
    Restricted { files: since(ABI::V1), network: since(ABI::V4), processes: since(ABI::V6) }
}
