//! `muster-agent replay`: tells a core again what was recorded, and prints what it made of that.
//!
//! Nothing is performed: the effects are words. Each turn shows the input, why it was refused or what followed, and where
//! each model then stands. At the end the digest of the ledger is compared with what the recording noted at the same place.

mod lines;

use std::{fmt::Display, io::Write, path::Path};

use agent_core::{End, Entry, ModelStatus, Played, RECORDING_FORMAT, Replay, Start, Turn};
use anyhow::{Context, bail};
use serde::Serialize;
use shared::{Digest, Timestamp};

use crate::{cli::Format, recording::Reader};
use lines::{Agreement, Beginning, Conclusion, Followed, Step, Stop};

/// Prints the transcript of the recording at `path`: lines for people, or one JSON object a line, the beginning, each
/// turn, the stop if there was one, and the conclusion.
///
/// # Errors
/// When the recording is damaged, cut or without an end, after what came before was printed; when the ledgers differ;
/// and when `out` does not take it.
pub fn replay(path: &Path, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    let mut reader = Reader::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let Some(Entry::Start(start)) = reader.next_entry()? else {
        bail!("{} does not begin like a recording", path.display());
    };
    let mut transcript = Transcript::begin(*start, format, out)?;
    let ended = loop {
        match reader.next_entry() {
            Ok(Some(Entry::Turn(turn))) => transcript.turn(*turn)?,
            Ok(Some(Entry::End(end))) => break Ok(end),
            Ok(Some(Entry::Start(_)) | None) => bail!("a second start after turn {}", transcript.turns),
            Err(error) => break Err(error),
        }
    };
    match ended {
        Ok(end) => transcript.end(&end),
        Err(error) => {
            transcript.conclude()?;
            Err(error.into())
        }
    }
}

struct Transcript<'a, W> {
    format: Format,
    out: &'a mut W,
    replay: Replay,
    turns: u64,
    began: Timestamp,
    /// What the recording noted last, and after which turn a rebuilt ledger first was another.
    noted: Option<Digest>,
    differs: Option<u64>,
}

impl<'a, W: Write> Transcript<'a, W> {
    fn begin(start: Start, format: Format, out: &'a mut W) -> anyhow::Result<Self> {
        if start.format != RECORDING_FORMAT {
            bail!("recording format {}; this agent reads format {RECORDING_FORMAT}", start.format);
        }
        let (device, boot, at) = (start.device.clone(), start.boot.clone(), start.at);
        let (generation, models, ledger) =
            (start.ledger.generation, start.ledger.models.len(), start.ledger.digest());
        let (replay, played) = Replay::begin(start);
        let mut transcript = Self { format, out, replay, turns: 0, began: at, noted: None, differs: None };
        let followed = transcript.followed(&played);
        transcript.say(&Beginning { device, boot, at, generation, models, ledger, followed })?;
        Ok(transcript)
    }

    fn turn(&mut self, turn: Turn) -> anyhow::Result<()> {
        self.turns += 1;
        let after_ms = turn.at.since(self.began).as_millis();
        let input = turn.input.to_string();
        let played = self.replay.turn(turn.at, turn.input);
        let followed = self.followed(&played);
        let differs_here = turn.ledger.is_some_and(|noted| self.differs_first(noted));
        self.say(&Step { turn: self.turns, after_ms, input, followed, differs_here })
    }

    fn followed(&self, played: &Played) -> Followed {
        Followed {
            refused: played.refusal.as_ref().map(ToString::to_string),
            effects: played.effects.iter().map(ToString::to_string).collect(),
            models: self.replay.agent().status().iter().map(standing).collect(),
        }
    }

    /// True when the rebuilt ledger is another than the one that was noted, for the first time.
    fn differs_first(&mut self, noted: Digest) -> bool {
        self.noted = Some(noted);
        let first = self.replay.agent().ledger().digest() != noted && self.differs.is_none();
        if first {
            self.differs = Some(self.turns);
        }
        first
    }

    fn end(mut self, end: &End) -> anyhow::Result<()> {
        let differs_here = self.differs_first(end.ledger);
        self.say(&Stop { why: end.why, differs_here })?;
        self.conclude()?;
        match self.differs {
            None => Ok(()),
            Some(turn) => bail!("the ledger differs from the recording since turn {turn}"),
        }
    }

    /// The last words: the digest, and whether it is the one that the recording noted.
    fn conclude(&mut self) -> anyhow::Result<()> {
        let agreement = match (self.differs, self.noted) {
            (None, Some(_)) => Agreement::Equal,
            (None, None) => Agreement::Unknown,
            (Some(_), _) => Agreement::Different,
        };
        self.say(&Conclusion { turns: self.turns, ledger: self.replay.agent().ledger().digest(), agreement })
    }

    fn say(&mut self, line: &(impl Display + Serialize)) -> anyhow::Result<()> {
        match self.format {
            Format::Table => write!(self.out, "{line}")?,
            Format::Json => writeln!(self.out, "{}", serde_json::to_string(line)?)?,
        }
        Ok(())
    }
}

fn standing(status: &ModelStatus) -> String {
    let release = |release: &Option<shared::ReleaseId>| release.as_ref().map(ToString::to_string);
    let (committed, candidate) = (release(&status.state.committed), release(&status.state.candidate));
    let step = &status.state.step;
    match (committed, candidate) {
        (Some(committed), Some(candidate)) => format!("{committed}, {candidate} {step}"),
        (Some(committed), None) => format!("{committed} {step}"),
        (None, Some(candidate)) => format!("{candidate} {step}"),
        (None, None) => format!("{} {step}", status.state.model),
    }
}
