//! What lies in an agent's data directory, read without the agent's own code: its ledger, and whether every byte of what
//! the ledger names is there.

use std::{fs, path::Path};

use serde_json::Value;
use shared::{Digest, manifest::Manifest};

/// One model on a device's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// The desired state that was taken in last.
    pub generation: u64,
    /// The version that is kept, such as `digits@1`.
    pub committed: Option<String>,
    /// The version that is on its way or on probation.
    pub candidate: Option<String>,
    /// Reports that the server has not acknowledged.
    pub waiting: usize,
}

impl Installed {
    /// True when `release` is kept and nothing is under way.
    #[must_use]
    pub fn is_settled_on(&self, release: &str) -> bool {
        self.committed.as_deref() == Some(release) && self.candidate.is_none()
    }

    /// True when the disk has heard of `release`.
    #[must_use]
    pub fn knows(&self, release: &str) -> bool {
        [&self.committed, &self.candidate].into_iter().flatten().any(|known| known == release)
    }
}

/// Reads what the ledger in `data_dir` says of `model`, also while an agent writes there.
///
/// # Errors
/// When no copy of the ledger is intact, in words.
pub fn look(data_dir: &Path, model: &str) -> Result<Installed, String> {
    let ledger = ledger_in(data_dir)?;
    let record = &ledger["models"][model];
    let release = |installed: &Value| installed["release"].as_str().map(str::to_owned);
    Ok(Installed {
        generation: ledger["generation"].as_u64().unwrap_or_default(),
        committed: release(&record["committed"]),
        candidate: release(&record["candidate"]["installed"]),
        waiting: ledger["outbox"]["waiting"].as_array().map_or(0, Vec::len),
    })
}

/// The same, and demands that the version that is kept is whole: manifest, model and golden vectors byte for byte, and
/// so the model of a version that answers requests on probation.
///
/// # Errors
/// What is damaged or missing, in words.
pub fn examine(data_dir: &Path, model: &str) -> Result<Installed, String> {
    let ledger = ledger_in(data_dir)?;
    let record = &ledger["models"][model];
    whole(data_dir, &record["committed"])?;
    let candidate = &record["candidate"];
    if matches!(candidate["phase"]["step"].as_str(), Some("activating" | "probation")) {
        whole(data_dir, &candidate["installed"])?;
    }
    look(data_dir, model)
}

fn ledger_in(data_dir: &Path) -> Result<Value, String> {
    let copies = ["ledger.a", "ledger.b"].map(|name| fs::read(data_dir.join(name)).unwrap_or_default());
    let newest = copies.iter().filter_map(|copy| intact(copy)).max_by_key(|(sequence, _)| *sequence);
    let (_, mut state) = newest.ok_or("no copy of the ledger is intact")?;
    Ok(state["ledger"].take())
}

/// `muster-ledger SCHEMA SEQUENCE LENGTH CHECKSUM`, and as much JSON on the next line. The checksum is that of the
/// sequence number and the JSON.
fn intact(copy: &[u8]) -> Option<(u64, Value)> {
    let end = copy.iter().position(|byte| *byte == b'\n')?;
    let header = std::str::from_utf8(&copy[..end]).ok()?;
    let ["muster-ledger", _, sequence, length, checksum] = header.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let (sequence, length): (u64, usize) = (sequence.parse().ok()?, length.parse().ok()?);
    let json = copy.get(end + 1..end + 1 + length)?;
    let sum = Digest::of(&[&sequence.to_le_bytes(), json].concat());
    (sum.to_string() == checksum).then(|| Some((sequence, serde_json::from_slice(json).ok()?)))?
}

fn whole(data_dir: &Path, installed: &Value) -> Result<(), String> {
    let release = installed["release"].as_str().ok_or("no version is kept")?;
    let bytes = artifact(data_dir, installed, "manifest")?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| format!("the manifest of {release}: {error}"))?;
    let named = [("model", manifest.model.digest), ("golden", manifest.golden.artifact.digest)];
    for (kind, digest) in named {
        artifact(data_dir, installed, kind)?;
        if installed[kind] != digest.to_string() {
            return Err(format!("the ledger and the manifest of {release} name another {kind}"));
        }
    }
    Ok(())
}

fn artifact(data_dir: &Path, installed: &Value, kind: &str) -> Result<Vec<u8>, String> {
    let (release, digest) = (&installed["release"], installed[kind].as_str().unwrap_or_default());
    let bytes = fs::read(data_dir.join("artifacts").join(digest))
        .map_err(|error| format!("the {kind} of {release}: {error}"))?;
    let found = Digest::of(&bytes).to_string();
    if found != digest {
        return Err(format!("the {kind} of {release} has {} bytes that are not its own", bytes.len()));
    }
    Ok(bytes)
}
