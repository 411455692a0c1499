//! Messages between a device and the server, one type for each topic.
//!
//! | topic | message |
//! |---|---|
//! | `up/st` | [`StateMessage`] |
//! | `up/tm` | [`Telemetry`](crate::telemetry::Telemetry) |
//! | `up/sk` | [`SketchMessage`](crate::sketch::SketchMessage) (binary) |
//! | `up/rq` | [`Request`] |
//! | `dn/ds` | [`DesiredMessage`] |
//! | `dn/ak` | [`Acknowledgement`] |
//! | `dn/md` | [`MetadataPart`] |
//! | `dn/bl` | [`Frame`](crate::block::Frame) (binary) |

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    block::Run,
    challenger::ChallengersDocument,
    device::Inventory,
    id::{BootId, DeviceId, Digest, Generation, ReleaseId},
    maintenance::MaintenanceWindows,
    report::{ModelState, Report},
    time::Timestamp,
    trust::{Envelope, Signed},
};

/// Largest MQTT packet on either side: a block or a telemetry report with room to spare.
pub const MAX_PACKET_BYTES: usize = 256 * 1_024;

/// Bytes of metadata in one part.
pub const METADATA_PART_BYTES: usize = 64 * 1_024;

/// What a device says of its state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StateMessage {
    /// Sent after every connect; the server answers with the desired state.
    Hello(Box<Hello>),
    /// A signed report about a deployment; the server acknowledges it after its commit.
    Report(Signed<Report>),
    /// The last will: the broker says it when the device is gone.
    Offline,
}

/// A device introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// This run of the agent.
    pub boot: BootId,
    /// When, by the device's clock.
    pub at: Timestamp,
    /// The newest desired state that was verified here.
    pub generation: Generation,
    /// What the device is.
    pub inventory: Inventory,
    /// What it runs.
    pub models: Vec<ModelState>,
    /// The newest limits that were verified here; zero before the first.
    #[serde(default)]
    pub limits_revision: u64,
    /// The newest challengers that were verified here; zero before the first.
    #[serde(default)]
    pub challengers_revision: u64,
}

/// What a device asks for. The server keeps no state between requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// A part of a metadata file or manifest.
    Metadata {
        /// `timestamp.json`, `3.root.json`, or the path of a target such as `digits/2.json`.
        name: String,
        /// Where the part starts.
        offset: u64,
    },
    /// Blocks of a packed artifact.
    Blocks {
        /// Packed digest.
        artifact: Digest,
        /// Size of a block, from the manifest.
        block_bytes: u32,
        /// Which blocks, at most [`MAX_RUNS`](crate::block::MAX_RUNS) runs.
        runs: Vec<Run>,
    },
}

/// The desired state of a device, signed by the director.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DesiredMessage {
    /// A hint, to skip what is known; the signed generation inside decides.
    pub generation: Generation,
    /// The director document.
    pub director: Signed<DirectorDocument>,
    /// What the device may spend, where somebody has set a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Signed<LimitsDocument>>,
    /// Which challengers it shall run, where somebody has asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challengers: Option<ChallengersMessage>,
}

/// The challengers of a device, signed by the director.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChallengersMessage {
    /// A hint, to skip what is known; the signed revision inside decides.
    pub revision: u64,
    /// The document.
    pub document: Signed<ChallengersDocument>,
}

/// The director's word for one device: what its words may cost. It is a document of its own, because it has nothing to do
/// with what the device runs, and has no expiry, because a bound that is forgotten is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsDocument {
    /// Always `limits`, so that no other signed document passes for one.
    #[serde(rename = "_type")]
    pub kind: LimitsKind,
    /// For whom.
    pub device: DeviceId,
    /// The limits.
    pub limits: Limits,
}

/// The type tag of a limits document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitsKind {
    /// The only value.
    #[default]
    Limits,
}

/// What a device may spend on its link. Days are those of UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Grows with every change; a device never goes back to a lower one.
    pub revision: u64,
    /// Bytes of telemetry in a day; no bound when absent.
    pub telemetry_bytes_per_day: Option<u64>,
    /// Bytes of blocks in a day; no bound when absent.
    pub transfer_bytes_per_day: Option<u64>,
}

/// The director's word for one device: which releases it shall run. The device follows only where the image
/// repository lists the same release with the same digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorDocument {
    /// Always `director`, so that no other signed document passes for one.
    #[serde(rename = "_type")]
    pub kind: DirectorKind,
    /// Version of the TUF specification whose envelope this is.
    pub spec_version: String,
    /// For whom.
    pub device: DeviceId,
    /// Number of this desired state.
    pub generation: Generation,
    /// When it stops being fresh; a device that already runs a release goes on running it.
    pub expires_at: Timestamp,
    /// What the device shall run: one entry for each model.
    pub assignments: Vec<Assignment>,
    /// When new versions may begin to answer; in place of what the device itself is set to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceWindows>,
    /// The device keeps what it has committed and takes nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

/// Why a device takes nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// What a person wrote, for other people.
    pub reason: String,
}

/// The type tag of a director document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectorKind {
    /// The only value.
    #[default]
    Director,
}

/// One release that a device shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Which release.
    pub release: ReleaseId,
    /// Digest of its manifest file.
    pub manifest_digest: Digest,
    /// Length of its manifest file.
    pub manifest_size_bytes: u64,
    /// Try again although this device refused it or rolled it back under a lower generation.
    #[serde(default)]
    pub retry: bool,
    /// The device stays on the version that it has committed, whichever it is; a first version is still taken.
    #[serde(default, skip_serializing_if = "is_free")]
    pub pinned: bool,
}

/// The server has stored something for good; the device may forget it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// What kind of message.
    pub stream: Stream,
    /// The boot it was made in.
    pub boot: BootId,
    /// Its number.
    pub sequence: u64,
}

/// Numbered messages of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Signed reports.
    Report,
    /// Telemetry.
    Telemetry,
    /// Windows of drift sketches.
    Sketch,
}

/// A part of a metadata file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataPart {
    /// Name of the file, as asked.
    pub name: String,
    /// Length of the whole file; `None` when the server has no such file.
    pub total_bytes: Option<u64>,
    /// Where the part starts.
    pub offset: u64,
    /// The part, at most [`METADATA_PART_BYTES`].
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub bytes: Vec<u8>,
}

/// The envelope as a director document, for code that stores it without opening it.
pub type DirectorEnvelope = Envelope;

/// What is not pinned says nothing of it, as before there were pins.
#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_free(pinned: &bool) -> bool {
    !*pinned
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_part_survives_its_wire_form() {
        let part = MetadataPart {
            name: "timestamp.json".into(),
            total_bytes: Some(3),
            offset: 0,
            bytes: vec![0, 255, 7],
        };
        let back: MetadataPart = serde_json::from_slice(&serde_json::to_vec(&part).unwrap()).unwrap();
        assert_eq!(back, part);
    }

    #[test]
    fn a_document_of_a_server_that_knows_no_windows_is_read_and_written_as_before() {
        let text = r#"{"_type":"director","spec_version":"1.0","device":"d","generation":1,"expires_at":1,"assignments":[{"release":"m@1","manifest_digest":"0000000000000000000000000000000000000000000000000000000000000000","manifest_size_bytes":1,"retry":false}]}"#;
        let document: DirectorDocument = serde_json::from_str(text).unwrap();
        assert_eq!((&document.maintenance, &document.quarantine), (&None, &None));
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
    }

    #[test]
    fn windows_pins_and_a_quarantine_travel_in_the_document() {
        let text = r#"{"_type":"director","spec_version":"1.0","device":"d","generation":1,"expires_at":1,"assignments":[],"maintenance":["Mon-Fri 22:00-05:00"],"quarantine":{"reason":"opened housing"}}"#;
        let document: DirectorDocument = serde_json::from_str(text).unwrap();
        assert_eq!(document.quarantine.as_ref().unwrap().reason, "opened housing");
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
        assert!(serde_json::from_str::<DirectorDocument>(&text.replace("Mon", "Mo")).is_err());
    }

    #[test]
    fn no_other_signed_document_passes_for_a_director_document() {
        let other = r#"{"_type":"targets","spec_version":"1.0","device":"d","generation":1,"expires_at":1,"assignments":[]}"#;
        assert!(serde_json::from_str::<DirectorDocument>(other).is_err());
    }
}
