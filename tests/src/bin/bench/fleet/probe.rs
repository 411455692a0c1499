//! Somebody who asks the API all the time, over one connection that stays open.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use system_tests::http::Target;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::delivery::server::Server;

/// Between an answer and the next question: a person with a live page, and no load of its own.
const PAUSE: Duration = Duration::from_millis(20);

/// What is asked: a device, a list with a word about each device of a page, the rollouts.
const QUESTIONS: [&str; 3] = ["/api/v1/devices/bench-7", "/api/v1/devices", "/api/v1/rollouts"];

/// A client with the rights of an administrator.
pub struct Probe {
    client: reqwest::Client,
    url: String,
    token: String,
}

/// A probe at work.
pub struct Asking {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<Vec<Duration>>>,
}

/// How long answers took.
pub struct Latencies(Vec<Duration>);

impl Probe {
    /// Asks `server`.
    pub fn of(server: &Server) -> anyhow::Result<Self> {
        let context = fs::read_to_string(server.data_dir().join("admin-context.toml"))?;
        let field = |name: &str| {
            let line = context.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
            anyhow::Ok(
                line.with_context(|| format!("the context names no {name}"))?
                    .trim()
                    .trim_matches('"')
                    .to_owned(),
            )
        };
        let Target::Tls(_, tls) = server.https()? else { bail!("the API is served over TLS") };
        let client = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).build()?;
        Ok(Self { client, url: field("server")?, token: field("token")? })
    }

    /// Starts to ask.
    pub fn ask(self) -> Asking {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut latencies = Vec::new();
            for question in QUESTIONS.iter().cycle() {
                let began = Instant::now();
                self.answer(question).await.with_context(|| format!("{question} was not answered"))?;
                latencies.push(began.elapsed());
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = &mut stopped => break,
                }
            }
            Ok(latencies)
        });
        Asking { stop, task }
    }

    /// Posts `body` and gives the length of the answer.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<usize> {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body);
        Ok(request.send().await?.error_for_status()?.bytes().await?.len())
    }

    async fn answer(&self, path: &str) -> anyhow::Result<()> {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        request.send().await?.error_for_status()?.bytes().await?;
        Ok(())
    }
}

impl Asking {
    /// Stops and tells how long answers took. One that failed is no latency but an error.
    pub async fn stop(self) -> anyhow::Result<Latencies> {
        // Gone only when it has ended by itself, and then it says why.
        let _ = self.stop.send(());
        Ok(Latencies(self.task.await??))
    }
}

impl Latencies {
    /// 99 of 100 answers were not slower.
    pub fn p99_ms(mut self) -> f64 {
        self.0.sort();
        let place = (self.0.len() * 99).div_ceil(100).saturating_sub(1);
        self.0.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}
