//! The story as typed steps: `serve → enrol → publish → roll out → measure`, each needing what the one before gave.
//!
//! Every step tells what it sees and checks it. What must be true is written down in [`check`]; a check that fails
//! ends the story with the sentence that was not true.

mod check;
mod drift;
mod rollout;
mod summary;

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use shared::device::Labels;

use super::{
    assets::{V1, V2, V3, VersionFiles},
    fleet::{Fleet, VersionSums},
    narrate::{Narrator, Tone, bytes, percent},
    scene::{DeviceEndpoints, Scene, ServerEndpoints, read_json},
    traffic::Traffic,
};
use check::Quiet;
use rollout::{Ending, Passage};
use summary::Summary;

/// A process that needs longer to be ready than this will not be.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Telemetry comes every second; this many windows must be enough for the last figure to arrive.
const FIGURES_PATIENCE: Duration = Duration::from_secs(10);

/// Where most of the devices are.
const FIRST_SITE: &str = "berlin";

/// Where the others are.
const SECOND_SITE: &str = "paris";

/// Everything that the story is about.
pub struct Story {
    /// Who tells it.
    pub narrator: Narrator,
    /// The processes.
    pub scene: Scene,
}

/// A fleet at work, when the story is over.
pub struct Told {
    /// Where the server can be reached.
    pub server: ServerEndpoints,
    /// The devices.
    pub devices: Vec<Device>,
    /// The images that flow.
    pub traffic: Traffic,
}

/// A device at work.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Where applications reach it.
    pub endpoints: DeviceEndpoints,
}

/// A version that was brought to the devices.
struct Brought {
    release: String,
    passage: Passage,
}

impl Story {
    /// Tells the whole story to `count` devices.
    ///
    /// # Errors
    /// With the first thing that did not happen.
    pub async fn tell(&mut self, count: usize) -> anyhow::Result<Told> {
        self.narrator.chapter("A server");
        let (fleet, server) = self.serve().await?;
        self.narrator.chapter("Devices join");
        let devices = self.enrol(&fleet, count).await?;
        let sockets =
            devices.iter().map(|device| (device.name.clone(), device.endpoints.unix_socket.clone()));
        let traffic = Traffic::start(&sockets.collect::<Vec<(String, PathBuf)>>());

        self.narrator.chapter("Version 1, the first model");
        let first = self.bring(&fleet, &traffic, &V1, Ending::Committed).await?;
        let sums_1 = self.accuracy(&fleet, &traffic, &first.release).await?;
        check::answered(&sums_1, &first.release)?;

        self.narrator.chapter("Version 2, a better one, under traffic");
        let quiet = Quiet::start(&traffic);
        let second = self.bring(&fleet, &traffic, &V2, Ending::Committed).await?;
        let requests = quiet.nothing_failed(&traffic)?;
        self.say("traffic", &format!("{requests} requests during the swap, 0 failed"), Tone::Good);
        let sums_2 = self.accuracy(&fleet, &traffic, &second.release).await?;
        check::rises(&sums_1, &sums_2)?;
        let rise = format!("accuracy {} → {}", sums_1.accuracy(), sums_2.accuracy());
        self.say("fleet", &rise, Tone::Good);

        self.narrator.chapter("Version 3 passes every check before it is activated");
        let third = self.bring(&fleet, &traffic, &V3, Ending::RolledBack).await?;
        self.back_on(&traffic, 2).await?;
        let sums_3 = self.failures(&fleet, &traffic, &third.release).await?;
        check::failed_on_numbers(&sums_3, &third.release)?;
        check::nothing_else_failed(&traffic, &third.release)?;

        self.narrator.chapter("Cameras that see something else");
        self.drift(&fleet, &traffic, &devices, &second.release).await?;

        self.narrator.chapter("What happened");
        let summary = Summary {
            devices: &devices,
            tallies: traffic.tallies(),
            passages: [&first.passage, &second.passage, &third.passage],
        };
        summary.tell(&self.narrator, &[sums_1, sums_2, sums_3]);
        Ok(Told { server, devices, traffic })
    }

    async fn serve(&mut self) -> anyhow::Result<(Fleet, ServerEndpoints)> {
        self.scene.start_server()?;
        let endpoints_file = self.scene.server_dir().join("endpoints.json");
        let context_file = self.scene.context_file();
        let server: ServerEndpoints = self
            .scene
            .until(("the server says where it listens", "server"), START_PATIENCE, async || {
                Ok(read_json(&endpoints_file).filter(|_| context_file.is_file()))
            })
            .await?;
        let fleet = Fleet::connect(&context_file)?;
        self.scene
            .until(("the server is ready", "server"), START_PATIENCE, async || {
                Ok(fleet.is_ready().await.then_some(()))
            })
            .await?;
        self.say(
            "server",
            &format!("API {}, broker mqtts://{}", server.url, server.mqtt_address),
            Tone::Plain,
        );
        let made = "made its keys, its CA and an administrator's token";
        self.say("server", &format!("{made} in {}", self.scene.server_dir().display()), Tone::Plain);
        Ok((fleet, server))
    }

    async fn enrol(&mut self, fleet: &Fleet, count: usize) -> anyhow::Result<Vec<Device>> {
        let mut names = Vec::new();
        for number in 1..=count {
            let (name, site) = (format!("cam-{number}"), site(number, count));
            let token = fleet.enrolment_token(Labels::from([("site".to_owned(), site.to_owned())])).await?;
            self.scene.enrol(&name, &token).await?;
            self.scene.start_device(&name)?;
            let text = format!("site={site}, made its own keys, got its certificate");
            self.say(&name, &text, Tone::Plain);
            names.push(name);
        }
        let mut devices = Vec::new();
        for name in names {
            let endpoints = self.connected(fleet, &name).await?;
            devices.push(Device { name, endpoints });
        }
        let text = format!("{count} devices connected over mutual TLS");
        self.say("server", &text, Tone::Good);
        Ok(devices)
    }

    async fn connected(&mut self, fleet: &Fleet, name: &str) -> anyhow::Result<DeviceEndpoints> {
        let file = self.scene.device_dir(name).join("endpoints.json");
        let what = format!("{name} is connected and serves");
        let look = async || {
            let Some(endpoints) = read_json(&file) else { return Ok(None) };
            Ok(fleet.device(name).await?.connected.then_some(endpoints))
        };
        self.scene.until((&what, name), START_PATIENCE, look).await
    }

    async fn bring(
        &mut self,
        fleet: &Fleet,
        traffic: &Traffic,
        files: &VersionFiles,
        ending: Ending,
    ) -> anyhow::Result<Brought> {
        let release = self.publish(fleet, files).await?;
        let passage = rollout::run(self, fleet, traffic, &release, ending).await?;
        Ok(Brought { release, passage })
    }

    async fn publish(&mut self, fleet: &Fleet, files: &VersionFiles) -> anyhow::Result<String> {
        let published = fleet.publish(files).await.context("the version was not published")?;
        let (release, gate) = (published.release, &published.gate);
        self.say("publish", &format!("{release}: {}", files.what), Tone::Plain);
        let operators: Vec<&str> =
            gate.operators.iter().map(|name| name.rsplit('.').next().unwrap_or(name)).collect();
        self.say("gate", &format!("operators all known: {}", operators.join(" ")), Tone::Plain);
        let figures = format!(
            "{} golden cases match; load {} ms, median {} µs, peak memory {} MiB",
            gate.cases,
            gate.load_ms,
            gate.latency_p50_us,
            gate.peak_memory_kib / 1_024
        );
        self.say("gate", &figures, Tone::Plain);
        let size = files.onnx.len() + files.golden.len();
        let text = format!(
            "model and golden vectors of {} packed into {}, signed",
            bytes(size as u64),
            bytes(published.transfer_bytes)
        );
        self.say("publish", &text, Tone::Plain);
        Ok(release)
    }

    /// What the server knows of a version, once everything that the devices did until now has arrived.
    async fn accuracy(
        &mut self,
        fleet: &Fleet,
        traffic: &Traffic,
        release: &str,
    ) -> anyhow::Result<VersionSums> {
        let sent = answered_by(traffic, release);
        let what = format!("the server has the figures of {sent} answers of {release}");
        let look = async || {
            let sums = fleet.sums(release).await?;
            Ok((sums.ok >= sent && sums.labels() >= sent).then_some(sums))
        };
        let sums = self.scene.until((&what, "server"), FIGURES_PATIENCE, look).await?;
        let text = format!(
            "{release}: {} right of {} labels = {}, median latency {}",
            sums.labels_correct,
            sums.labels(),
            percent(sums.labels_correct, sums.labels()),
            sums.latency()
        );
        self.say("telemetry", &text, Tone::Plain);
        Ok(sums)
    }

    /// What the server knows of a version that went back, once every failure that the applications saw has arrived.
    async fn failures(
        &mut self,
        fleet: &Fleet,
        traffic: &Traffic,
        release: &str,
    ) -> anyhow::Result<VersionSums> {
        let seen = failed_by(traffic, release);
        let what = format!("the server has the figures of {seen} failures of {release}");
        let look = async || Ok(Some(fleet.sums(release).await?).filter(|sums| sums.failures >= seen));
        let sums = self.scene.until((&what, "server"), FIGURES_PATIENCE, look).await?;
        let text = format!(
            "{release}: {} of {} inferences failed, {} with outputs that are no numbers",
            sums.failures,
            sums.ok + sums.failures,
            sums.non_finite
        );
        self.say("telemetry", &text, Tone::Plain);
        Ok(sums)
    }

    /// Waits until every device answers with `version`, many times in a row.
    async fn back_on(&mut self, traffic: &Traffic, version: u32) -> anyhow::Result<()> {
        let what = format!("every device answers with version {version} again");
        let look = async || Ok(check::all_answer_with(traffic, version).then_some(()));
        self.scene.until((&what, "cam-1"), FIGURES_PATIENCE, look).await?;
        self.say("fleet", &what, Tone::Good);
        Ok(())
    }

    fn say(&self, who: &str, text: &str, tone: Tone) {
        self.narrator.line(who, text, tone);
    }
}

/// Three of five devices are in the first city.
fn site(number: usize, count: usize) -> &'static str {
    if number <= (count * 3).div_ceil(5) { FIRST_SITE } else { SECOND_SITE }
}

/// The number in `name@number`.
fn version_of(release: &str) -> u32 {
    release.rsplit('@').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Requests that `release` answered, as the applications saw it.
fn answered_by(traffic: &Traffic, release: &str) -> u64 {
    let version = version_of(release);
    traffic
        .tallies()
        .values()
        .filter_map(|tally| tally.by_version.get(&version))
        .map(|answers| answers.answered)
        .sum()
}

/// Requests that `release` failed, as the applications saw it.
fn failed_by(traffic: &Traffic, release: &str) -> u64 {
    let version = version_of(release);
    traffic.tallies().values().filter_map(|tally| tally.failed.get(&version)).sum()
}
