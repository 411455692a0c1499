//! Who this device is: its name, its keys and what it pinned when it was enrolled.
//!
//! Everything lies in `identity/` below the data directory, readable by the agent alone. Private keys are made
//! here and never leave.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_store::disk;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use shared::{
    DeviceId,
    enroll::EnrollResponse,
    trust::{Envelope, Signer},
};

/// No file of an identity is larger.
const MAX_FILE_BYTES: u64 = 1_024 * 1_024;

/// The key and certificate of the connection. One file, because neither is of use with another generation of the other.
const TLS_FILE: &str = "tls.pem";

/// The names and addresses of an identity; keys and certificates lie beside it as PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    device: DeviceId,
    url: String,
    mqtt: String,
}

/// An enrolled device.
pub struct Identity {
    /// Name of the device and common name of its certificate.
    pub device: DeviceId,
    /// The server's HTTP API.
    pub url: String,
    /// The broker, as `host:port`.
    pub mqtt: String,
    /// Private key and certificate, as PEM.
    pub tls_pem: String,
    /// The fleet's CA, as PEM.
    pub ca_pem: String,
    /// Signs reports.
    pub report_signer: Arc<Signer>,
    /// Root metadata that was pinned at enrolment.
    pub root: Envelope,
}

/// The keys of a device that is about to be enrolled.
pub struct NewKeys {
    /// P-256 key for TLS.
    pub tls: rcgen::KeyPair,
    /// Ed25519 key for reports.
    pub report: Signer,
}

impl NewKeys {
    /// Makes both keys from the operating system's randomness.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> anyhow::Result<Self> {
        let tls = rcgen::KeyPair::generate().context("cannot make a TLS key")?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| anyhow::anyhow!("no randomness for the report key: {error}"))?;
        Ok(Self { tls, report: Signer::from_seed(&seed) })
    }
}

fn dir_of(data_dir: &Path) -> PathBuf {
    data_dir.join("identity")
}

impl fmt::Debug for Identity {
    /// Keys stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("device", &self.device)
            .field("mqtt", &self.mqtt)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// True when this data directory belongs to an enrolled device.
    ///
    /// # Errors
    /// When the disk does not say. A device that cannot tell must not take itself for a new one.
    pub fn exists(data_dir: &Path) -> anyhow::Result<bool> {
        let path = dir_of(data_dir).join("device.json");
        path.try_exists().with_context(|| format!("cannot look for {}", path.display()))
    }

    /// Writes a new identity, of the fleet whose API is at `url`. `device.json` comes last: it is what makes the
    /// others count.
    ///
    /// # Errors
    /// When the files cannot be written; the device is then not enrolled.
    pub fn create(
        data_dir: &Path,
        keys: &NewKeys,
        url: &str,
        response: &EnrollResponse,
    ) -> anyhow::Result<()> {
        let dir = dir_of(data_dir);
        disk::private_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let facts =
            Facts { device: response.device.clone(), url: url.to_owned(), mqtt: response.mqtt.clone() };
        let report_pem = keys.report.to_pem();
        let files = [
            (TLS_FILE, tls_pem(&keys.tls, &response.certificate_pem).into_bytes()),
            ("ca.pem", response.ca_pem.clone().into_bytes()),
            ("report.key.pem", report_pem.as_bytes().to_vec()),
            ("root.json", serde_json::to_vec(&response.root)?),
            ("device.json", serde_json::to_vec_pretty(&facts)?),
        ];
        for (name, bytes) in files {
            write(&dir, name, &bytes)?;
        }
        Ok(())
    }

    /// Replaces key and certificate, both or neither.
    ///
    /// # Errors
    /// When the file cannot be written; the old ones are then still there.
    pub fn replace_tls(data_dir: &Path, tls_pem: &str) -> anyhow::Result<()> {
        write(&dir_of(data_dir), TLS_FILE, tls_pem.as_bytes())
    }

    /// Remembers another address of the broker.
    ///
    /// # Errors
    /// When `device.json` cannot be read or written.
    pub fn replace_broker(data_dir: &Path, mqtt: &str) -> anyhow::Result<()> {
        let dir = dir_of(data_dir);
        let facts = Facts { mqtt: mqtt.to_owned(), ..facts_in(&dir)? };
        write(&dir, "device.json", &serde_json::to_vec_pretty(&facts)?)
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// When the device is not enrolled, a file is missing or damaged, or others may read the keys.
    pub fn load(data_dir: &Path) -> anyhow::Result<Self> {
        if !Self::exists(data_dir)? {
            bail!(
                "this device is not enrolled: {} holds no identity; run `muster-agent enroll TOKEN` with a token from `muster enroll token create`",
                data_dir.display()
            );
        }
        let dir = dir_of(data_dir);
        for name in [TLS_FILE, "report.key.pem"] {
            refuse_open_file(&dir.join(name))?;
        }
        let Facts { device, url, mqtt } = facts_in(&dir)?;
        let report_signer = Signer::from_pem(&text_of(&dir, "report.key.pem")?)
            .context("identity/report.key.pem is damaged")?;
        Ok(Self {
            device,
            url,
            mqtt,
            tls_pem: text_of(&dir, TLS_FILE)?,
            ca_pem: text_of(&dir, "ca.pem")?,
            report_signer: Arc::new(report_signer),
            root: serde_json::from_str(&text_of(&dir, "root.json")?)
                .context("identity/root.json is damaged")?,
        })
    }
}

/// Reads key and certificate alone.
///
/// # Errors
/// When the file is missing or cannot be read.
pub fn tls_pem_of(data_dir: &Path) -> anyhow::Result<String> {
    text_of(&dir_of(data_dir), TLS_FILE)
}

/// A private key with its certificate, as [`Identity::tls_pem`] holds them.
#[must_use]
pub fn tls_pem(key: &rcgen::KeyPair, certificate_pem: &str) -> String {
    format!("{}\n{certificate_pem}", key.serialize_pem().trim_end())
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    disk::replace(&dir.join(name), bytes).with_context(|| format!("cannot write identity/{name}"))
}

fn facts_in(dir: &Path) -> anyhow::Result<Facts> {
    serde_json::from_str(&text_of(dir, "device.json")?).context("identity/device.json is damaged")
}

fn text_of(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    let bytes = disk::read_bounded(&path, MAX_FILE_BYTES)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = bytes.with_context(|| format!("{} is missing; enrol the device again", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))
}

fn refuse_open_file(path: &Path) -> anyhow::Result<()> {
    let mode =
        fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(
            "{} may be read by others (mode {:o}); run `chmod 600 {}`",
            path.display(),
            mode & 0o777,
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::device::Labels;

    fn enrolled(dir: &Path) {
        let response = EnrollResponse {
            device: DeviceId::new("cam-1").unwrap(),
            certificate_pem: "certificate".into(),
            ca_pem: "ca".into(),
            mqtt: "localhost:8883".into(),
            root: Envelope { signed: serde_json::json!({}), signatures: Vec::new() },
            labels: Labels::new(),
        };
        let keys = NewKeys::generate().unwrap();
        Identity::create(dir, &keys, "https://localhost:8443", &response).unwrap();
    }

    #[test]
    fn keys_that_others_may_read_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        enrolled(dir.path());
        assert_eq!(Identity::load(dir.path()).unwrap().device.as_str(), "cam-1");
        let key = dir.path().join("identity/report.key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Identity::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn what_a_renewal_brings_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        enrolled(dir.path());
        Identity::replace_tls(dir.path(), "new").unwrap();
        Identity::replace_broker(dir.path(), "elsewhere:8883").unwrap();
        let identity = Identity::load(dir.path()).unwrap();
        assert_eq!((identity.tls_pem.as_str(), identity.mqtt.as_str()), ("new", "elsewhere:8883"));
        assert_eq!(identity.url, "https://localhost:8443");
    }

    #[test]
    fn a_device_without_identity_is_told_how_to_enrol() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Identity::load(dir.path()).unwrap_err().to_string().contains("muster-agent enroll"));
    }
}
