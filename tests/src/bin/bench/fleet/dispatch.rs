//! A rollout in one wave to devices that are connected: how soon each hears what it shall run.

use std::time::Instant;

use anyhow::Context as _;
use shared::{
    BootId, Generation, Timestamp,
    device::Inventory,
    message::{DesiredMessage, Hello, StateMessage},
    topic::{Down, Up},
};
use tokio::task::JoinSet;

use super::{Place, speaker::Speaker};
use crate::report::{Row, progress};

/// Desired states a minute that a server must manage.
const BOUND_PER_MINUTE: f64 = 10_000.0;

/// Measures one database.
pub async fn run(place: &Place, speakers: Vec<Speaker>) -> anyhow::Result<Row> {
    progress(&format!("{}: a rollout to {} devices", place.name, speakers.len()));
    let count = speakers.len() as f64;
    let speakers = each(speakers, greet).await?;
    let began = Instant::now();
    let hearing = tokio::spawn(each(speakers, hear_of_release));
    let cli = place.server.cli();
    let start = || cli.run(["rollout", "start", "digits@1", "--to", "site=berlin"]).code;
    let code = tokio::task::block_in_place(start);
    anyhow::ensure!(code == Some(0), "the rollout did not start");
    hearing.await??;
    let per_minute = count / began.elapsed().as_secs_f64() * 60.0;
    let what = format!("desired states written and heard, {}", place.name);
    Ok(Row::beside(what, per_minute, "per min", "bound", BOUND_PER_MINUTE))
}

async fn each<F: Future<Output = anyhow::Result<Speaker>> + Send + 'static>(
    speakers: Vec<Speaker>,
    act: impl Fn(Speaker) -> F,
) -> anyhow::Result<Vec<Speaker>> {
    let mut acting = JoinSet::new();
    for speaker in speakers {
        acting.spawn(act(speaker));
    }
    let mut speakers = Vec::new();
    while let Some(speaker) = acting.join_next().await {
        speakers.push(speaker??);
    }
    Ok(speakers)
}

async fn greet(mut speaker: Speaker) -> anyhow::Result<Speaker> {
    let hello = Hello {
        boot: BootId::new("bench")?,
        at: Timestamp::default() + std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?,
        generation: Generation(0),
        inventory: Inventory { engines: vec!["tract-onnx 0.23.9".into()], ..Inventory::default() },
        models: Vec::new(),
        limits_revision: 0,
        challengers_revision: 0,
    };
    speaker.say(Up::State, &StateMessage::Hello(Box::new(hello))).await?;
    speaker.hear(Down::Desired).await?;
    Ok(speaker)
}

async fn hear_of_release(mut speaker: Speaker) -> anyhow::Result<Speaker> {
    loop {
        let payload = speaker.hear(Down::Desired).await?;
        let desired: DesiredMessage = serde_json::from_slice(&payload).context("a desired state")?;
        if desired.generation > Generation(0) {
            return Ok(speaker);
        }
    }
}
