//! A thief of everything: who can write the server's folder can let it sign anything.
//!
//! The server's gate refuses a hostile model, so no device would ever see one. Here its files are put where the
//! server keeps what has passed: at its next start it lists and signs them with its own keys, and rolls them out as any
//! other release. What a device does then rests on the device alone.

use std::{fs, path::Path};

use shared::{
    Digest, ReleaseId, Timestamp,
    artifact::{Artifact, Encoding, Packed},
    manifest::{
        Budgets, DataType, Dim, Golden, Lineage, MANIFEST_FORMAT, Manifest, ProbationPolicy, Runtime,
        TensorSpec, Tolerance,
    },
};

use sqlx::{Connection as _, SqliteConnection};

use crate::{hostile::Attack, server::Server};

/// Golden cases of digits version 1.
pub const CASES: u32 = 8;

/// Budgets that a good model of this size needs no tenth of, and that make a hang short.
pub const BUDGETS: Budgets = Budgets { latency_ms: 50, load_ms: 2_000, memory_mib: 64 };

/// Puts each attack behind the gate as a version of `digits`, from `first` on, and gives the releases' names. The server
/// must not run.
#[must_use]
pub fn smuggle(server: &Server, first: u32, attacks: &[Attack]) -> Vec<String> {
    assert!(!server.runs(), "the thief changes the folder of a server that does not run");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = server.data_dir();
        let database = format!("sqlite://{}", folder.join("muster.db").display());
        let mut tables = SqliteConnection::connect(&database).await.unwrap();
        let mut releases = Vec::new();
        for (version, attack) in (first..).zip(attacks) {
            let release: ReleaseId = format!("digits@{version}").parse().unwrap();
            put(&mut tables, &folder.join("artifacts"), &release, attack).await;
            releases.push(release.to_string());
        }
        tables.close().await.unwrap();
        releases
    })
}

async fn put(tables: &mut SqliteConnection, artifacts: &Path, release: &ReleaseId, attack: &Attack) {
    let (model, model_bytes) = pack(&attack.model, attack.packed.as_deref());
    let (golden, golden_bytes) = pack(&attack.golden, None);
    for (artifact, bytes) in [(&model, model_bytes), (&golden, golden_bytes)] {
        keep(artifacts, &artifact.packed.digest, bytes);
        sqlx::query("INSERT INTO artifacts (digest, size_bytes, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(artifact.packed.digest.to_string())
            .bind(signed(artifact.packed.size_bytes))
            .bind(signed(now_ms()))
            .execute(&mut *tables)
            .await
            .unwrap();
    }
    let manifest = serde_json::to_string(&manifest(release, model, golden)).unwrap();
    sqlx::query(
        "INSERT INTO releases (model, version, manifest, manifest_digest, manifest_size_bytes, content_digest, \
         model_digest, gate, published_at, published_by) VALUES ($1, $2, $3, $4, $5, $4, $6, '{}', $7, 'a thief')",
    )
    .bind(release.model.as_str())
    .bind(i64::from(release.version.get()))
    .bind(&manifest)
    .bind(Digest::of(manifest.as_bytes()).to_string())
    .bind(signed(manifest.len() as u64))
    .bind(Digest::of(&attack.model).to_string())
    .bind(signed(now_ms()))
    .execute(&mut *tables)
    .await
    .unwrap();
}

/// Where the server keeps artifacts: by the first two letters of their digest.
fn keep(artifacts: &Path, digest: &Digest, bytes: &[u8]) {
    let name = digest.to_string();
    let folder = artifacts.join(&name[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

/// The artifact, and the bytes that travel for it.
fn pack<'a>(content: &'a [u8], packed: Option<&'a [u8]>) -> (Artifact, &'a [u8]) {
    let (encoding, travels) = match packed {
        Some(packed) => (Encoding::Zstd, packed),
        None => (Encoding::Stored, content),
    };
    let artifact = Artifact {
        digest: Digest::of(content),
        size_bytes: content.len() as u64,
        packed: Packed::describe(travels, encoding),
    };
    (artifact, travels)
}

/// The manifest of a model of the digits, whatever the model is.
#[must_use]
pub fn manifest(release: &ReleaseId, model: Artifact, golden: Artifact) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        release: release.clone(),
        published_at: Timestamp(now_ms()),
        runtime: Runtime {
            format: "onnx".into(),
            opsets: [("ai.onnx".to_owned(), 17)].into(),
            operators: ["ai.onnx.Conv".to_owned()].into(),
        },
        inputs: vec![tensor("image", &[1, 1, 8, 8])],
        outputs: vec![tensor("probabilities", &[1, 10])],
        model,
        golden: Golden { artifact: golden, cases: CASES, tolerance: Tolerance::default() },
        reference: None,
        drift: None,
        budgets: BUDGETS,
        probation: ProbationPolicy { duration_secs: 1, min_inferences: 0, ..ProbationPolicy::default() },
        lineage: Lineage::default(),
    }
}

/// An FP32 tensor.
#[must_use]
pub fn tensor(name: &str, shape: &[u64]) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: shape.iter().map(|&length| Dim::Fixed(length)).collect(),
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("this millennium")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("sizes and times are small")
}
