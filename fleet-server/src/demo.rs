//! `muster demo`: a fleet in a box, and one model's way through it.
//!
//! Everything is real: the server is a child that runs `muster serve`, every device is a `muster-agent` with its own
//! folder, identity and sockets, and the demo asks the server by its API and the devices by the Open Inference
//! Protocol, as anybody would. What it tells it has checked; with `--once` the exit code says whether all of it
//! happened. No network beyond loopback, no root, nothing left behind.

pub(crate) mod assets;
mod fleet;
mod inference;
mod narrate;
pub(crate) mod process;
pub(crate) mod scene;
mod stay;
mod story;
mod traffic;

use std::{io, path::PathBuf};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use narrate::{Narrator, Tone};
use scene::{Missed, Scene};
use story::{Story, Told};

use crate::cli::{Exit, Failure};

/// More devices than this only slow the machine down; the story stays the same.
const MAX_DEVICES: u8 = 20;

/// What the demo is asked for.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// End after the story; the exit code is 0 only if all of it happened.
    #[arg(long)]
    pub once: bool,
    /// How many devices take part.
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_DEVICES)))]
    pub devices: u8,
    /// Folder for everything the demo writes, which is kept then; a temporary folder otherwise.
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
}

/// Runs the demo. Whatever happens, no child outlives it.
///
/// # Errors
/// With what did not happen.
pub async fn run(options: DemoOptions) -> Result<(), Failure> {
    let narrator = Narrator::start();
    narrator.text("Muster demo: a server, some devices, one model, three versions.");
    let mut signals = Signals::listen().map_err(|error| failure(&error.into(), true))?;
    let scene = Scene::open(options.dir.as_deref()).map_err(|error| failure(&error, true))?;
    let mut story = Story { narrator, scene };
    let count = usize::from(options.devices);
    let told = tokio::select! {
        told = Box::pin(story.tell(count)) => Some(told),
        () = signals.any() => None,
    };
    match told {
        Some(Ok(told)) => {
            let secs = narrator.elapsed_secs();
            narrator.line("demo", &format!("all of it happened, in {secs:.1} s"), Tone::Good);
            if !options.once {
                stay(&story, &told, &mut signals).await;
            }
        }
        Some(Err(error)) => {
            // Told before the scene ends, because the logs may end with it.
            show_log(&story, &error);
            let kept = story.scene.folder.is_kept();
            story.scene.stop().await;
            return Err(failure(&error, kept));
        }
        None => {
            narrator.line("demo", "interrupted; stopping", Tone::Warning);
            story.scene.stop().await;
            return Err(Failure::new(Exit::Failed, "interrupted before the story was over"));
        }
    }
    let folder = story.scene.stop().await;
    let text = if folder.is_kept() { "stopped; everything it wrote is in" } else { "stopped; removed" };
    narrator.line("demo", &format!("{text} {}", folder.path().display()), Tone::Plain);
    Ok(())
}

async fn stay(story: &Story, told: &Told, signals: &mut Signals) {
    stay::explain(&story.narrator, told, &story.scene);
    told.traffic.set_pace(traffic::GENTLE);
    signals.any().await;
    story.narrator.line("demo", "stopping", Tone::Plain);
}

/// Everything by which a person or a system ends a program.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Starts to listen.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the first of them.
    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Shows the log that may say why something did not happen: the one that the error names, or the server's.
fn show_log(story: &Story, error: &anyhow::Error) {
    let missed = error.chain().find_map(|cause| cause.downcast_ref::<Missed>());
    let log = missed.map_or_else(|| story.scene.log("server"), |missed| missed.log.clone());
    story.narrator.text(&format!("\nThe end of {}:\n{}\n", log.display(), process::tail(&log)));
}

fn failure(error: &anyhow::Error, logs_are_kept: bool) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("this did not happen: {error:#}"));
    if logs_are_kept { failure } else { failure.hint("run it again with --dir FOLDER to keep every log") }
}
