//! Publishing with a sample of what the model was made with: from the form through the gate worker to the signed manifest.

use crate::server_world::{World, demo};
use muster_sketch::reference::ReferenceValues;
use reqwest::{
    StatusCode,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use shared::manifest::{DriftSpec, Manifest, Reading, Side};

impl World {
    /// Publishes version 1 of the digits with some parts more.
    async fn publish_watched(&self, parts: &[(&'static str, &[u8])]) -> (StatusCode, Value) {
        let mut form = Form::new()
            .part("model", Part::bytes(demo("digits-v1.onnx")))
            .part("golden", Part::bytes(demo("digits-v1-golden.npz")))
            .part("lineage", Part::bytes(demo("digits-v1-lineage.toml")));
        for (name, bytes) in parts {
            form = form.part(*name, Part::bytes(bytes.to_vec()));
        }
        let url = format!("{}/api/v1/models/digits/versions", self.server().endpoints().url);
        let response = self.http.post(url).bearer_auth(&self.admin).multipart(form).send().await.unwrap();
        let status = response.status();
        (status, response.json().await.unwrap_or_default())
    }

    /// The drift part of a version's manifest, as its signed bytes have it.
    async fn watched(&self, version: u32) -> Option<DriftSpec> {
        let text = self.text(&format!("/api/v1/metadata/digits/{version}.json")).await;
        let manifest: Manifest = serde_json::from_str(&text).unwrap();
        manifest.check().unwrap();
        manifest.drift
    }
}

/// The test images as a table: a column for each pixel, a row for each image, and the same images once more.
fn images_as_table(name_of_pixel: impl Fn(usize) -> String) -> String {
    let header: Vec<String> = (0..64).map(name_of_pixel).collect();
    let bytes = demo("digits-test.bin");
    let image = |record: &[u8]| record[..64].iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let rows: Vec<String> = bytes.chunks(65).map(image).collect();
    [vec![header.join(",")], rows.clone(), rows].concat().join("\n")
}

fn refused(answer: (StatusCode, Value), status: StatusCode, code: &str) -> String {
    let (found, problem) = answer;
    assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_sample_becomes_the_reference_in_the_signed_manifest() {
    let world = World::start().await;
    let (status, published) = world.publish_watched(&[("reference", &demo("digits-reference.npz"))]).await;
    assert_eq!(status, StatusCode::CREATED, "{published}");
    let report = &published["gate"]["drift"];
    assert_eq!((report["features"].clone(), report["cases"].clone()), (json!(8), json!(1_200)));
    assert_eq!(report["kinds"], json!({"class": 1, "confidence": 1, "entropy": 1, "image": 5}));
    let spec = world.watched(1).await.unwrap();
    assert_eq!(report["reference"], spec.reference.id().to_string());
    assert_eq!(spec.sources.iter().filter(|source| source.side == Side::Input).count(), 5);
    assert_eq!(spec.sources[7].reading, Reading::TopClass);
    // Read, written and read again it is the same reference.
    let again: DriftSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
    assert_eq!((again.reference.id(), &again), (spec.reference.id(), &spec));
    let stored = world.get("/api/v1/models/digits/versions/1").await;
    let stored: DriftSpec = serde_json::from_value(stored["manifest"]["drift"].clone()).unwrap();
    assert_eq!(stored, spec);
}

#[tokio::test]
async fn without_a_sample_nothing_is_watched() {
    let world = World::start().await;
    let (status, published) = world.publish_watched(&[]).await;
    assert_eq!(
        (status, published["gate"]["drift"].clone()),
        (StatusCode::CREATED, Value::Null),
        "{published}"
    );
    assert_eq!(world.watched(1).await, None);
}

#[tokio::test]
async fn a_table_is_a_sample_too_and_the_schema_says_what_of_it_is_watched() {
    let world = World::start().await;
    let schema = "[[numeric]]\nindex = 36\nname = \"middle\"\n\n[[categorical]]\nindex = 0\ncodes = [0]\n\n[[class]]\n\n\
                  [capture]\nwindow_secs = 60\n\n[guardrail]\none_false_alarm_in_years = 10\n";
    let table = images_as_table(|pixel| if pixel == 36 { "middle".into() } else { format!("p{pixel}") });
    let parts = [("reference", table.as_bytes()), ("features", schema.as_bytes())];
    let (status, published) = world.publish_watched(&parts).await;
    assert_eq!(status, StatusCode::CREATED, "{published}");
    let spec = world.watched(1).await.unwrap();
    let names: Vec<&str> = spec.reference.features().iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["middle", "image[0]", "probabilities.class"]);
    let ReferenceValues::Numeric(middle) = &spec.reference.features()[0].values else { panic!("a number") };
    assert_eq!((middle.counts().range(), middle.counts().finite()), (Some((0.0, 16.0)), 1_194));
    assert_eq!((spec.capture.window_secs, spec.capture.min_rows), (60, 50));
    assert_eq!(spec.guardrail.unwrap().one_false_alarm_in_years, 10.0);
    assert_eq!(published["gate"]["drift"]["derived"], false);
}

#[tokio::test]
async fn the_same_files_are_the_same_version_and_other_features_another() {
    let world = World::start().await;
    let sample = demo("digits-reference.npz");
    let schema = |every| format!("[capture]\nevery = {every}\n");
    let publish = async |schema: &str| {
        let (_, published) =
            world.publish_watched(&[("reference", &sample), ("features", schema.as_bytes())]).await;
        published["release"].as_str().map(str::to_owned)
    };
    assert_eq!(publish(&schema(3)).await.as_deref(), Some("digits@1"));
    assert_eq!(publish(&schema(3)).await.as_deref(), Some("digits@1"));
    assert_eq!(publish(&schema(4)).await.as_deref(), Some("digits@2"));
    let (_, plain) = world.publish_watched(&[("reference", &sample)]).await;
    assert_eq!(plain["release"], "digits@3");
    assert_eq!(world.watched(2).await.unwrap().capture.every, Some(4));
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_with_place_and_reason() {
    let world = World::start().await;
    let sample = demo("digits-reference.npz");
    let bad = StatusCode::UNPROCESSABLE_ENTITY;
    let small = images_as_table(|pixel| format!("p{pixel}")).lines().take(600).collect::<Vec<_>>().join("\n");
    let why = refused(world.publish_watched(&[("reference", small.as_bytes())]).await, bad, "bad_reference");
    assert!(
        why.contains("feature 'image.mean[0]' has 599 usable values") && why.contains("1000 are needed"),
        "{why}"
    );
    let why = refused(world.publish_watched(&[("reference", b"hello")]).await, bad, "bad_reference");
    assert!(why.contains("1 columns") && why.contains("64 elements"), "{why}");
    let why =
        refused(world.publish_watched(&[("reference", b"PK\x03\x04broken")]).await, bad, "bad_reference");
    assert!(why.contains("not an .npz file"), "{why}");

    let watched =
        async |schema: &[u8]| world.publish_watched(&[("reference", &sample), ("features", schema)]).await;
    let why = refused(watched(b"[[numeric]]\nindex = 64").await, bad, "bad_features");
    assert!(why.starts_with("features:1:1: there is no element 64"), "{why}");
    let why = refused(watched(b"\xff").await, bad, "bad_features");
    assert!(why.contains("UTF-8"), "{why}");
    let why = refused(watched(&vec![b'#'; 300_000]).await, StatusCode::BAD_REQUEST, "bad_size");
    assert!(why.contains("262144"), "{why}");
    let alone = world.publish_watched(&[("features", b"[[class]]")]).await;
    let why = refused(alone, StatusCode::BAD_REQUEST, "missing_part");
    assert!(why.contains("there is no sample"), "{why}");
    assert_eq!(world.get("/api/v1/models").await, json!([]));
}

#[tokio::test]
async fn a_reference_of_tens_of_thousands_of_categories_fits_the_manifest() {
    let world = World::start().await;
    let sample = demo("digits-reference.npz");
    let codes: Vec<String> = (0..4_000).map(|code| code.to_string()).collect();
    let entry = |pixel: usize| format!("[[categorical]]\nindex = {pixel}\ncodes = [{}]\n", codes.join(","));
    let schema: String = (0..13).map(entry).collect();
    let (status, published) =
        world.publish_watched(&[("reference", &sample), ("features", schema.as_bytes())]).await;
    assert_eq!(status, StatusCode::CREATED, "{published}");
    assert_eq!(world.watched(1).await.unwrap().reference.features().len(), 13);
}
