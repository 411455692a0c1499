//! What people do in a story, by the API of the server and with their rights.

use fleet_core::{Event, Selector, State, Strategy};
use muster_sim::LiveRelease;
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde::Deserialize;
use shared::{ModelName, ReleaseId, Timestamp, device::Labels};

use crate::{
    api::{
        CreateEnrollToken, CreatedEnrollToken, Order, OrderBody, Published, RolloutSummaryView, RolloutView,
        StartRollout,
    },
    cli::{Client, Context, Exit, Failure},
    demo::assets::{V1, V2, V3, VersionFiles},
};

/// An enrolment token of a run is used at once, if by many.
const TOKEN_LIFE_SECS: u64 = 3_600;

/// Label by which the devices of a run on somebody's server are told from all others.
const RUN_LABEL: &str = "sim";

/// A person with a token.
pub(super) struct People {
    client: Client,
    run: Run,
}

/// How a run is told from everything else on the server: not at all on one of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    name: Option<String>,
}

/// An event of a rollout.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) document: Event,
}

impl Run {
    /// A run on a server where others live.
    pub(super) fn among_others() -> Self {
        Self { name: Some(uuid::Uuid::new_v4().simple().to_string()[..6].to_owned()) }
    }

    /// What ends the names of its devices and models.
    pub(super) fn suffix(&self) -> String {
        self.name.as_ref().map_or_else(String::new, |name| format!("-{name}"))
    }

    /// A release of the story as the server knows it.
    pub(super) fn published(&self, release: &ReleaseId) -> ReleaseId {
        let model = ModelName::new(format!("{}{}", release.model, self.suffix()));
        // A name of the story that is too long with the suffix was refused when it was published.
        ReleaseId { model: model.unwrap_or_else(|_| release.model.clone()), version: release.version }
    }

    /// A release of the server as the story knows it.
    pub(super) fn in_story(&self, release: &ReleaseId) -> ReleaseId {
        let model =
            release.model.as_str().strip_suffix(&self.suffix()).and_then(|name| ModelName::new(name).ok());
        ReleaseId { model: model.unwrap_or_else(|| release.model.clone()), version: release.version }
    }

    fn labels(&self, class: &str, labels: &Labels) -> Labels {
        let own = self.name.iter().map(|name| (RUN_LABEL.to_owned(), name.clone()));
        let class = [("class".to_owned(), class.to_owned())];
        labels.clone().into_iter().chain(class).chain(own).collect()
    }

    /// A selector that reaches no device of anybody else.
    fn selector(&self, selector: &Selector) -> String {
        match (&self.name, selector.to_string().as_str()) {
            (None, selector) => selector.to_owned(),
            (Some(name), "all") => format!("{RUN_LABEL}={name}"),
            (Some(name), selector) => format!("{selector},{RUN_LABEL}={name}"),
        }
    }
}

impl People {
    pub(super) fn new(context: &Context, run: Run) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(context)?, run })
    }

    /// An enrolment token for a class of devices.
    pub(super) async fn token(
        &self,
        class: &str,
        labels: &Labels,
        devices: usize,
    ) -> Result<String, Failure> {
        let wanted = CreateEnrollToken {
            labels: self.run.labels(class, labels),
            uses: u32::try_from(devices).unwrap_or(u32::MAX),
            expires_secs: TOKEN_LIFE_SECS,
        };
        let created: CreatedEnrollToken =
            self.client.send_json(Method::POST, "/enroll-tokens", &wanted).await?;
        Ok(created.token)
    }

    /// Publishes a release: one of the demo's models, with the policy of the story. The lineage names the version, so that
    /// no two are the same publication.
    pub(super) async fn publish(&self, release: &LiveRelease) -> Result<(), Failure> {
        let files = files_of(release.release.version.get());
        let published = self.run.published(&release.release);
        let lineage = format!("training_script = \"a story, as {}\"\n", release.release);
        let policy = format!(
            "[probation]\nduration_secs = {}\nmin_inferences = {}\n",
            release.probation_secs, release.min_inferences
        );
        let form = Form::new()
            .part("model", Part::bytes(files.onnx))
            .part("golden", Part::bytes(files.golden))
            .part("lineage", Part::bytes(lineage.into_bytes()))
            .part("policy", Part::bytes(policy.into_bytes()));
        let path = format!("/models/{}/versions", published.model);
        let answer: Published = self.client.send_form(&path, form).await?;
        if answer.release == published.to_string() {
            return Ok(());
        }
        let message = format!("the server published {} as {}", release.release, answer.release);
        Err(Failure::new(Exit::Conflict, message)
            .hint("start again; a run on a server of others takes new names"))
    }

    /// Starts a rollout and gives its id.
    pub(super) async fn start(
        &self,
        release: &ReleaseId,
        devices: &Selector,
        strategy: Strategy,
    ) -> Result<String, Failure> {
        let (release, selector) = (self.run.published(release).to_string(), self.run.selector(devices));
        let wanted = StartRollout { release, selector, strategy };
        let view: RolloutView = self.client.send_json(Method::POST, "/rollouts", &wanted).await?;
        Ok(view.status.id.to_string())
    }

    /// Gives an order; one to promote names the wave that is under way now.
    pub(super) async fn order(&self, id: &str, order: Order) -> Result<(), Failure> {
        let wave = match (order, self.rollout(id).await?.status.state) {
            (Order::Promote, State::Running { wave } | State::Paused { wave, .. }) => Some(wave),
            (Order::Promote, _) => Some(0),
            _ => None,
        };
        let body = OrderBody { order, reason: Some("the story says so".into()), wave };
        let path = format!("/rollouts/{id}/orders");
        self.client.send_json::<_, RolloutView>(Method::POST, &path, &body).await.map(|_| ())
    }

    /// A rollout at this moment.
    pub(super) async fn rollout(&self, id: &str) -> Result<RolloutView, Failure> {
        self.client.get(&format!("/rollouts/{id}"), &[]).await
    }

    /// Every rollout in a word.
    pub(super) async fn rollouts(&self) -> Result<Vec<RolloutSummaryView>, Failure> {
        self.client.get("/rollouts", &[]).await
    }

    /// What happened in a rollout after an event: a page, empty when there is nothing yet.
    pub(super) async fn events(&self, id: &str, after: u64) -> Result<Vec<Told>, Failure> {
        self.client.get(&format!("/rollouts/{id}/events"), &[("after", after.to_string())]).await
    }
}

/// Three real models serve for any number of versions; their behaviour is the story's business.
fn files_of(version: u32) -> &'static VersionFiles {
    match version % 3 {
        1 => &V1,
        2 => &V2,
        _ => &V3,
    }
}

/// True when a selector names devices, which have other names on a server of others.
pub(super) fn names_devices(selector: &Selector) -> bool {
    let text = selector.to_string();
    let subject =
        |clause: &str| clause.strip_prefix("id").is_some_and(|rest| rest.starts_with(['=', '!', ' ']));
    text.split(',').any(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_server_of_others_nobody_else_is_reached() {
        let run = Run { name: Some("a1b2c3".into()) };
        let selector = |text: &str| run.selector(&Selector::parse(text).unwrap());
        assert_eq!(selector("all"), "sim=a1b2c3");
        assert_eq!(selector("class in (cam,old)"), "class in (cam,old),sim=a1b2c3");
        assert_eq!(Run::default().selector(&Selector::all()), "all");
        let release: ReleaseId = "digits@2".parse().unwrap();
        assert_eq!(run.published(&release).to_string(), "digits-a1b2c3@2");
        assert_eq!(run.in_story(&run.published(&release)), release);
    }

    #[test]
    fn selectors_that_name_devices_are_told_from_those_that_do_not() {
        let names = |text: &str| names_devices(&Selector::parse(text).unwrap());
        assert!(names("id=cam-1") && names("site=a,id in (cam-1,cam-2)") && names("id!=cam-1"));
        assert!(!names("all") && !names("class in (id,idle)") && !names("idle=yes"));
    }
}
