//! `muster-agent replay`: tells a core again what was recorded, and prints what it made of that.
//!
//! Nothing is performed: the effects are words. Each turn shows the input, why it was refused or what followed, and where
//! each model then stands. At the end the digest of the ledger is compared with what the recording noted at the same place.

use std::{io::Write, path::Path};

use agent_core::{End, Ending, Entry, ModelStatus, Played, RECORDING_FORMAT, Replay, Start, Turn};
use anyhow::{Context, bail};
use shared::{Digest, Timestamp};

use crate::recording::Reader;

/// Prints the transcript of the recording at `path`.
///
/// # Errors
/// When the recording is damaged, cut or without an end, after what came before was printed; when the ledgers differ;
/// and when `out` does not take it.
pub fn replay(path: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let mut reader = Reader::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let Some(Entry::Start(start)) = reader.next_entry()? else {
        bail!("{} does not begin like a recording", path.display());
    };
    let mut transcript = Transcript::begin(*start, out)?;
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
    out: &'a mut W,
    replay: Replay,
    turns: u64,
    began: Timestamp,
    /// What the recording noted last, and after which turn a rebuilt ledger first was another.
    noted: Option<Digest>,
    differs: Option<u64>,
}

impl<'a, W: Write> Transcript<'a, W> {
    fn begin(start: Start, out: &'a mut W) -> anyhow::Result<Self> {
        if start.format != RECORDING_FORMAT {
            bail!("recording format {}; this agent reads format {RECORDING_FORMAT}", start.format);
        }
        let began = start.at;
        writeln!(out, "device {}, boot {}, at {}", start.device, start.boot, moment(began))?;
        writeln!(
            out,
            "  starts from generation {} with {} models and ledger {}",
            start.ledger.generation,
            start.ledger.models.len(),
            start.ledger.digest()
        )?;
        let (replay, played) = Replay::begin(start);
        let mut transcript = Self { out, replay, turns: 0, began, noted: None, differs: None };
        transcript.played(&played)?;
        Ok(transcript)
    }

    fn turn(&mut self, turn: Turn) -> anyhow::Result<()> {
        self.turns += 1;
        let after_ms = turn.at.since(self.began).as_millis();
        writeln!(self.out, "{} +{after_ms} ms  {}", self.turns, turn.input)?;
        let played = self.replay.turn(turn.at, turn.input);
        self.played(&played)?;
        if let Some(noted) = turn.ledger {
            self.compare(noted)?;
        }
        Ok(())
    }

    fn played(&mut self, played: &Played) -> anyhow::Result<()> {
        if let Some(refusal) = &played.refusal {
            writeln!(self.out, "  refused: {refusal}")?;
        }
        for effect in &played.effects {
            writeln!(self.out, "  -> {effect}")?;
        }
        let models: Vec<String> = self.replay.agent().status().iter().map(standing).collect();
        if !models.is_empty() {
            writeln!(self.out, "  == {}", models.join("; "))?;
        }
        Ok(())
    }

    fn compare(&mut self, noted: Digest) -> anyhow::Result<()> {
        self.noted = Some(noted);
        if self.replay.agent().ledger().digest() != noted && self.differs.is_none() {
            self.differs = Some(self.turns);
            writeln!(self.out, "  the ledger is another than the one that was noted here")?;
        }
        Ok(())
    }

    fn end(mut self, end: &End) -> anyhow::Result<()> {
        match end.why {
            Ending::Stopped => writeln!(self.out, "the agent was stopped")?,
            Ending::Full => writeln!(self.out, "the recording is full; the agent went on")?,
        }
        self.compare(end.ledger)?;
        self.conclude()?;
        match self.differs {
            None => Ok(()),
            Some(turn) => bail!("the ledger differs from the recording since turn {turn}"),
        }
    }

    /// The last words: the digest, and whether it is the one that the recording noted.
    fn conclude(&mut self) -> anyhow::Result<()> {
        let digest = self.replay.agent().ledger().digest();
        let verdict = match (self.differs, self.noted) {
            (None, Some(_)) => "equal to what was recorded",
            (None, None) => "the recording noted none",
            (Some(_), _) => "NOT what was recorded",
        };
        writeln!(self.out, "{} turns, ledger {digest}: {verdict}", self.turns)?;
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

fn moment(at: Timestamp) -> String {
    let moment = i64::try_from(at.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| at.to_string(), |moment| moment.to_string())
}
