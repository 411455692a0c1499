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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use shared::artifact::{Artifact, Encoding, Packed};
    use tempfile::TempDir;

    use super::*;
    use crate::smuggle;

    /// A data directory with `digits@1`, and the names of its manifest, model and golden vectors.
    fn device() -> (TempDir, [String; 3]) {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = dir.path().join("artifacts");
        fs::create_dir(&artifacts).unwrap();
        let keep = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(artifacts.join(digest.to_string()), bytes).unwrap();
            Artifact {
                digest,
                size_bytes: bytes.len() as u64,
                packed: Packed::describe(bytes, Encoding::Stored),
            }
        };
        let (model, golden) = (keep(b"a model"), keep(b"golden vectors"));
        let manifest = smuggle::manifest(&"digits@1".parse().unwrap(), model.clone(), golden.clone());
        let manifest = keep(&serde_json::to_vec(&manifest).unwrap());
        let names = [manifest, model, golden].map(|artifact| artifact.digest.to_string());
        let [manifest, model, golden] = &names;
        let installed = serde_json::json!({
            "release": "digits@1", "manifest": manifest, "model": model, "golden": golden,
        });
        let state =
            serde_json::json!({"ledger": {"generation": 1, "models": {"digits": {"committed": installed}}}});
        save(dir.path(), "ledger.a", 4, &state);
        (dir, names)
    }

    fn save(dir: &Path, name: &str, sequence: u64, state: &Value) {
        let json = state.to_string();
        let sum = Digest::of(&[&sequence.to_le_bytes(), json.as_bytes()].concat());
        fs::write(dir.join(name), format!("muster-ledger 2 {sequence} {} {sum}\n{json}\0\0", json.len()))
            .unwrap();
    }

    #[test]
    fn a_whole_version_passes_and_one_changed_byte_of_it_does_not() {
        let (dir, names) = device();
        assert!(examine(dir.path(), "digits").unwrap().is_settled_on("digits@1"));
        for name in names {
            let path = dir.path().join("artifacts").join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, [&whole[1..], b"!"].concat()).unwrap();
            assert!(examine(dir.path(), "digits").is_err());
            fs::remove_file(&path).unwrap();
            assert!(examine(dir.path(), "digits").is_err());
            fs::write(&path, whole).unwrap();
        }
    }

    #[test]
    fn the_newest_intact_copy_of_the_ledger_counts() {
        let (dir, _) = device();
        save(dir.path(), "ledger.b", 5, &serde_json::json!({"ledger": {"generation": 2}}));
        assert_eq!(look(dir.path(), "digits").unwrap().generation, 2);
        let torn = fs::read(dir.path().join("ledger.b")).unwrap().len() / 2;
        File::options().write(true).open(dir.path().join("ledger.b")).unwrap().set_len(torn as u64).unwrap();
        assert_eq!(look(dir.path(), "digits").unwrap().generation, 1);
        fs::write(dir.path().join("ledger.a"), b"").unwrap();
        assert!(look(dir.path(), "digits").is_err());
    }
}
