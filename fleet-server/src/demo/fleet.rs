//! The fleet as its operator sees it: the HTTP API, asked with the administrator's context.
//!
//! The demo has no other way in. What it tells is what `muster` tells anybody with a token.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use fleet_core::{Event, Strategy, drift::FeatureStatus};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shared::device::Labels;

use super::{
    assets::{FEATURES, MODEL, POLICY, REFERENCE, VersionFiles},
    narrate::percent,
};
use crate::{
    api::{
        AlarmView, CreateEnrollToken, CreatedEnrollToken, DeviceView, DriftView, Figures, ModelSummary,
        Published, RolloutView, StartRollout,
    },
    cli::{Client, Context, Failure},
    publish::worker::Report,
};

/// An enrolment token of the demo is used at once.
const TOKEN_LIFE_SECS: u64 = 300;

/// A connection to the server.
pub struct Fleet {
    client: Client,
}

/// A version that passed the gate.
pub struct PublishedVersion {
    /// `name@version`.
    pub release: String,
    /// Bytes that a device fetches, besides the manifest.
    pub transfer_bytes: u64,
    /// What the gate found.
    pub gate: Report,
}

/// What all devices together did with a version.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct VersionSums {
    /// Inferences that were answered.
    pub ok: u64,
    /// Inferences that the model failed.
    pub failures: u64,
    /// Of these, those with an output that was not finite.
    pub non_finite: u64,
    /// Labels that agreed with the answer.
    pub labels_correct: u64,
    /// Labels that did not.
    pub labels_wrong: u64,
    /// Median time in the engine, in the minute with the most answers.
    pub latency_p50_ms: Option<f64>,
}

#[derive(Deserialize)]
struct EventView {
    sequence: u64,
    document: Event,
}

impl Fleet {
    /// Takes the context that the server wrote for its administrator.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn connect(context: &Path) -> anyhow::Result<Self> {
        let context = Context::find(Some(context)).map_err(told)?;
        Ok(Self { client: Client::new(&context).map_err(told)? })
    }

    /// True when the server answers from its database.
    pub async fn is_ready(&self) -> bool {
        self.get::<Vec<ModelSummary>>("/models", &[]).await.is_ok()
    }

    /// A token for one device.
    ///
    /// # Errors
    /// When the server does not give one.
    pub async fn enrolment_token(&self, labels: Labels) -> anyhow::Result<String> {
        let wanted = CreateEnrollToken { labels, uses: 1, expires_secs: TOKEN_LIFE_SECS };
        let created: CreatedEnrollToken = self.post("/enroll-tokens", &wanted).await?;
        Ok(created.token)
    }

    /// A device.
    ///
    /// # Errors
    /// When the server does not know it.
    pub async fn device(&self, name: &str) -> anyhow::Result<DeviceView> {
        self.get(&format!("/devices/{name}"), &[]).await
    }

    /// Publishes the next version of the demo's model.
    ///
    /// # Errors
    /// When the gate refuses it.
    pub async fn publish(&self, files: &VersionFiles) -> anyhow::Result<PublishedVersion> {
        let part = |bytes: &'static [u8]| Part::bytes(bytes);
        let mut form = Form::new()
            .part("model", part(files.onnx))
            .part("golden", part(files.golden))
            .part("lineage", part(files.lineage.as_bytes()))
            .part("policy", part(POLICY.as_bytes()));
        if files.is_watched {
            form = form.part("reference", part(REFERENCE)).part("features", part(FEATURES.as_bytes()));
        }
        let path = format!("/models/{MODEL}/versions");
        let published: Published = self.client.send_form(&path, form).await.map_err(told)?;
        let gate = serde_json::from_value(published.gate).context("the gate's report is not readable")?;
        Ok(PublishedVersion { release: published.release, transfer_bytes: published.transfer_bytes, gate })
    }

    /// Starts a rollout to every device.
    ///
    /// # Errors
    /// When nobody can be asked.
    pub async fn start_rollout(&self, release: &str, strategy: Strategy) -> anyhow::Result<RolloutView> {
        let wanted = StartRollout { release: release.to_owned(), selector: "all".to_owned(), strategy };
        self.post("/rollouts", &wanted).await
    }

    /// A rollout at this moment.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn rollout(&self, id: &str) -> anyhow::Result<RolloutView> {
        self.get(&format!("/rollouts/{id}"), &[]).await
    }

    /// What happened in a rollout after event `after`, with the number of each event.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn rollout_events(&self, id: &str, after: u64) -> anyhow::Result<Vec<(u64, Event)>> {
        let path = format!("/rollouts/{id}/events");
        let events: Vec<EventView> = self.get(&path, &[("after", after.to_string())]).await?;
        Ok(events.into_iter().map(|event| (event.sequence, event.document)).collect())
    }

    /// What the server knows of a version.
    ///
    /// # Errors
    /// When there is none.
    pub async fn sums(&self, release: &str) -> anyhow::Result<VersionSums> {
        let (model, version) = release.split_once('@').context("a release is name@version")?;
        let minutes: Vec<Figures> =
            self.get(&format!("/models/{model}/versions/{version}/figures"), &[]).await?;
        Ok(VersionSums::of(&minutes))
    }

    /// How the detectors of each feature of a release stand.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn drift_of(&self, release: &str) -> anyhow::Result<Vec<FeatureStatus>> {
        let (model, version) = release.split_once('@').context("a release is name@version")?;
        let view: DriftView = self.get(&format!("/models/{model}/drift"), &[]).await?;
        let of_version = view.versions.into_iter().filter(|of| of.version.to_string() == version);
        Ok(of_version.flat_map(|of| of.features).map(|of| of.status).collect())
    }

    /// The drift alarms that are not over.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn drift_alarms(&self) -> anyhow::Result<Vec<AlarmView>> {
        self.get("/drift/alarms", &[]).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        self.client.get(path, query).await.map_err(told)
    }

    async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> anyhow::Result<T> {
        self.client.send_json(Method::POST, path, body).await.map_err(told)
    }
}

/// What the command line would have told.
fn told(failure: Failure) -> anyhow::Error {
    match failure.hint {
        Some(hint) => anyhow!("{}; {hint}", failure.message),
        None => anyhow!(failure.message),
    }
}

impl VersionSums {
    fn of(minutes: &[Figures]) -> Self {
        let busiest = minutes.iter().max_by_key(|minute| minute.ok);
        let start =
            Self { latency_p50_ms: busiest.and_then(|minute| minute.latency_p50_ms), ..Self::default() };
        minutes.iter().fold(start, |sums, minute| Self {
            ok: sums.ok + minute.ok,
            failures: sums.failures + minute.failures,
            non_finite: sums.non_finite + minute.non_finite,
            labels_correct: sums.labels_correct + minute.labels_correct,
            labels_wrong: sums.labels_wrong + minute.labels_wrong,
            ..sums
        })
    }

    /// Labels that came back.
    #[must_use]
    pub fn labels(&self) -> u64 {
        self.labels_correct + self.labels_wrong
    }

    /// The share of right answers.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.labels() == 0 { 0.0 } else { self.labels_correct as f64 / self.labels() as f64 }
    }

    /// The share of right answers in words.
    #[must_use]
    pub fn accuracy(&self) -> String {
        percent(self.labels_correct, self.labels())
    }

    /// The median latency in words.
    #[must_use]
    pub fn latency(&self) -> String {
        self.latency_p50_ms.map_or_else(|| "–".to_owned(), |ms| format!("{:.0} µs", ms * 1_000.0))
    }
}
