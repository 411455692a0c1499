//! `muster sim`: thousands of virtual devices before a real server.
//!
//! The server, its broker, its database and the API are real, and so is the way to them: enrolment with own keys, mutual
//! TLS, MQTT 5, signed reports, blocks by digest. A device is the machine of the agent (`agent-core`) in the shell of
//! `muster-sim`: no process, no disk, no engine; what its models do is decided by the story. `docs/simulation.md` says what
//! follows from that and what does not.
//!
//! ```text
//! story ─▶ server ─▶ releases published ─▶ devices enrolled ─▶ connected ─▶ prelude ─▶ acts ─▶ summary
//! ```

mod bounds;
mod identity;
mod life;
mod people;
mod population;
mod server;
mod session;
mod stage;
mod summary;
mod teller;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use muster_sim::{Crowd, LiveAct, LiveStory, read_live_story};
use shared::ReleaseId;

pub use bounds::Memory;
pub use summary::{ClassSummary, Links, RolloutSummary, Seconds, Summary, WaveSummary};

use people::{People, Run, names_devices};
use population::Population;
use server::Server;
use stage::Stage;
use summary::Finished;
use teller::Teller;

use crate::{
    cli::{Context, Exit, Failure},
    demo::Signals,
};

/// Most bytes of a story: thousands of lines.
const MAX_STORY_BYTES: u64 = 1_024 * 1_024;

/// What a run is asked for.
#[derive(Debug, Clone, Args)]
pub struct SimOptions {
    /// The story: devices, releases, what happens and what is expected (TOML).
    #[arg(long, value_name = "FILE")]
    pub scenario: PathBuf,
    /// How many devices, in the proportions of the story; as many as it says when absent.
    #[arg(long, value_name = "NUMBER")]
    pub devices: Option<u32>,
    /// Drive the server at this address, with the token and the CA of the context, instead of one that the run starts.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Write everything that happens into this file.
    #[arg(long, value_name = "FILE")]
    pub transcript: Option<PathBuf>,
    /// Folder for everything the started server writes, which is kept then; a temporary folder otherwise.
    #[arg(long, value_name = "FOLDER", conflicts_with = "server")]
    pub dir: Option<PathBuf>,
}

/// Tells the story and says what came of it. A server that the run has started ends with it.
///
/// # Errors
/// With what stood in the way of the story. What it expected in vain is in the summary.
pub async fn run(
    options: SimOptions,
    context: impl FnOnce() -> Result<Context, Failure>,
) -> Result<Summary, Failure> {
    let story = read(&options.scenario)?;
    let run = if options.server.is_some() { Run::among_others() } else { Run::default() };
    let crowd = Crowd::of(&story, options.devices, &run.suffix())
        .map_err(|why| Failure::usage(format!("{}: {why}", options.scenario.display())))?;
    check_place(&story, options.server.is_some())?;
    bounds::allow_files(crowd.len())?;
    let context = match &options.server {
        Some(url) => Some(Context { server: url.clone(), ..context()? }),
        None => None,
    };
    let mut signals = Signals::listen().map_err(|error| failure(&error.into()))?;
    let teller = Teller::new(&story.title, options.transcript.as_deref()).map_err(|error| failure(&error))?;
    let telling = tell(&options, story, crowd, run, context, teller);
    tokio::select! {
        told = Box::pin(telling) => told.map_err(|error| failure(&error)),
        () = signals.any() => Err(Failure::new(Exit::Failed, "interrupted before the story was over")),
    }
}

async fn tell(
    options: &SimOptions,
    story: LiveStory,
    crowd: Crowd,
    run: Run,
    context: Option<Context>,
    mut teller: Teller,
) -> anyhow::Result<Summary> {
    let mut server = match context {
        Some(context) => Server::named(context),
        None => Server::start(crowd.len(), story.look_secs, options.dir.as_deref()).await?,
    };
    teller.milestone(&format!("the server is {}", server.context.server));
    let people = People::new(&server.context, run.clone()).map_err(stage::told)?;
    for release in in_order(&story) {
        people.publish(release).await.map_err(stage::told)?;
        teller.milestone(&format!("{} is published", release.release));
    }
    let before = Memory::now(server.pid());
    let began = Instant::now();
    let population = Population::enrol(&story, &crowd, &people, &run, &server.context.ca).await?;
    let enrolling = began.elapsed().as_secs_f64();
    teller.milestone(&format!("{} devices are enrolled", crowd.len()));
    population.connected(crowd.len(), &mut server).await?;
    let connecting = began.elapsed().as_secs_f64() - enrolling;
    let connected = Memory::now(server.pid());
    teller.milestone(&format!("{} devices are connected", crowd.len()));

    let began = Instant::now();
    let finished = perform(&story, &crowd, &people, &mut server, &mut teller, &population).await?;
    let seconds = Seconds { enrolling, connecting, story: began.elapsed().as_secs_f64() };
    let memory = [before, connected, Memory::now(server.pid())];
    let links = Links::of(population.counters());
    let ended = population.end().await?;
    let summary = Summary {
        title: story.title.clone(),
        server: server.context.server.clone(),
        devices: crowd.len(),
        seconds,
        rollouts: finished.iter().map(|it| RolloutSummary::of(it, &run)).collect(),
        classes: summary::classes(&crowd, &ended, &finished, &run),
        links,
        memory,
        missed: summary::missed(&story, &finished, &ended, &run),
    };
    server.stop().await;
    teller.finish()?;
    Ok(summary)
}

async fn perform(
    story: &LiveStory,
    crowd: &Crowd,
    people: &People,
    server: &mut Server,
    teller: &mut Teller,
    population: &Population,
) -> anyhow::Result<Vec<Finished>> {
    let devices = population.orders();
    let mut stage = Stage { story, crowd, people, server, teller, devices, rollouts: vec![] };
    stage.prelude().await?;
    stage.tell().await
}

fn read(path: &Path) -> Result<LiveStory, Failure> {
    let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let size = fs::metadata(path).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if size > MAX_STORY_BYTES {
        return Err(wrong(format!("{size} bytes are no story; the longest has {MAX_STORY_BYTES}")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    read_live_story(&text)
        .map_err(|error| wrong(error.to_string()).hint("docs/simulation.md says what a live story may say"))
}

/// What the server of the run decides about the story.
fn check_place(story: &LiveStory, among_others: bool) -> Result<(), Failure> {
    if !among_others {
        return Ok(());
    }
    if story.look_secs.is_some() {
        let message = "look_secs is a setting of the server, and this one is not started by the run";
        return Err(
            Failure::usage(message).hint("take look_secs out, and set rollouts.look_secs of the server")
        );
    }
    let names = |act: &LiveAct| matches!(act, LiveAct::Start { devices, .. } if names_devices(devices));
    match story.acts.iter().find(|timed| names(&timed.act)) {
        None => Ok(()),
        Some(timed) => {
            let message = format!(
                "the start at {} selects by id, and devices have other ids on a server of others",
                timed.at
            );
            Err(Failure::usage(message).hint("select by label: class=NAME, or a label of your own"))
        }
    }
}

/// Releases as a server numbers them.
fn in_order(story: &LiveStory) -> Vec<&muster_sim::LiveRelease> {
    let mut releases: Vec<_> = story.releases.iter().collect();
    let key = |release: &ReleaseId| (release.model.clone(), release.version);
    releases.sort_by_key(|it| key(&it.release));
    releases
}

fn failure(error: &anyhow::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the story could not be told: {error:#}"))
}
