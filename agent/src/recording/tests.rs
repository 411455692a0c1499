use std::{fs, path::PathBuf};

use agent_core::{Agent, Ending, Input, RECORDING_FORMAT, RecordedInput, Settings, Start};
use shared::{BootId, DeviceId, Generation, Timestamp};

use super::*;
use crate::{cli::Format, replay::replay};

/// A device that is told things and records them.
struct Recorded {
    dir: tempfile::TempDir,
    core: Agent,
    recorder: Recorder,
}

impl Recorded {
    fn within(max_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let start = Start {
            format: RECORDING_FORMAT,
            device: DeviceId::new("cam-1").unwrap(),
            boot: BootId::new("boot").unwrap(),
            at: Timestamp(1_700_000_000_000),
            settings: Settings::default(),
            ledger: Default::default(),
            manifests: Vec::new(),
        };
        let recorder = Recorder::begin_within(&dir.path().join("rec"), start.clone(), max_bytes).unwrap();
        let core =
            Agent::new(start.device, start.boot, start.ledger, start.manifests, start.settings, start.at);
        Self { dir, core, recorder }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rec")
    }

    fn tell(&mut self, input: Input) {
        let (at, recorded) = (Timestamp(1_700_000_001_000), RecordedInput::from(&input));
        let _ = self.core.handle(input, at);
        self.recorder.note(at, recorded, &self.core);
    }

    /// A short story, with an input that is refused.
    fn live(&mut self) {
        self.tell(Input::Connected);
        self.tell(Input::DesiredArrived { generation: Generation(3) });
        self.tell(Input::DesiredRefused { generation: Generation(3), detail: "expired".into(), retry: true });
        self.tell(Input::RunnerReady);
        self.tell(Input::Stopped);
        self.recorder.end(Ending::Stopped, &self.core);
    }
}

fn told(path: &std::path::Path) -> (String, Result<(), String>) {
    let mut out = Vec::new();
    let ended = replay(path, Format::Table, &mut out).map_err(|error| format!("{error:#}"));
    (String::from_utf8(out).unwrap(), ended)
}

#[test]
fn a_recording_is_told_again_to_its_end_with_the_same_ledger() {
    let mut recorded = Recorded::within(MAX_RECORDING_BYTES);
    recorded.live();
    let (transcript, ended) = told(&recorded.path());
    ended.unwrap();
    for words in [
        "device cam-1, boot boot, at 2023-11-14T22:13:20Z",
        "2 +1000 ms  desired state 3 arrived",
        "  -> verify desired state 3",
        "  refused: the runner was not asked for readiness",
        "the agent was stopped",
    ] {
        assert!(transcript.contains(words), "{words} in {transcript}");
    }
    let last = format!("5 turns, ledger {}: equal to what was recorded", recorded.core.ledger().digest());
    assert_eq!(transcript.lines().last(), Some(last.as_str()));
}

#[test]
fn a_program_reads_the_same_story_one_object_a_line() {
    let mut recorded = Recorded::within(MAX_RECORDING_BYTES);
    recorded.live();
    let mut out = Vec::new();
    replay(&recorded.path(), Format::Json, &mut out).unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [beginning, turns @ .., stop, conclusion] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(beginning["device"], "cam-1");
    assert_eq!(turns.len(), 5);
    assert_eq!(turns[1]["followed"]["effects"][0], "verify desired state 3");
    assert_eq!(turns[3]["followed"]["refused"], "the runner was not asked for readiness");
    assert_eq!((&stop["why"], &conclusion["agreement"]), (&"stopped".into(), &"equal".into()));
}

#[test]
fn a_recording_cut_anywhere_tells_what_came_before_and_where_it_ends() {
    let mut recorded = Recorded::within(MAX_RECORDING_BYTES);
    recorded.live();
    let whole = fs::read(recorded.path()).unwrap();
    let (transcript, _) = told(&recorded.path());
    for cut in 0..whole.len() {
        fs::write(recorded.path(), &whole[..cut]).unwrap();
        let (part, ended) = told(&recorded.path());
        let error = ended.unwrap_err();
        let lines = whole[..cut].iter().filter(|&&b| b == b'\n').count();
        let where_it_ends = if whole[..cut].ends_with(b"\n") {
            format!("after entry {}", lines - 1)
        } else {
            format!("in entry {lines}")
        };
        assert!(error.contains(&where_it_ends), "cut at {cut}: {error}");
        // All but its last line, which gives the digest at the cut.
        let before: Vec<&str> = part.lines().collect();
        let before = before[..before.len().saturating_sub(1)].join("\n");
        assert!(transcript.starts_with(&before), "cut at {cut}: {part}");
    }
}

#[test]
fn a_changed_byte_anywhere_is_noticed_in_its_entry() {
    let mut recorded = Recorded::within(MAX_RECORDING_BYTES);
    recorded.live();
    let whole = fs::read(recorded.path()).unwrap();
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 1;
        fs::write(recorded.path(), &damaged).unwrap();
        let error = told(&recorded.path()).1.unwrap_err();
        let entry = whole[..position].iter().filter(|&&b| b == b'\n').count();
        assert!(error.contains(&format!("entry {entry}")), "byte {position}: {error}");
    }
}

#[test]
fn a_missing_entry_is_noticed_although_every_line_is_whole() {
    let mut recorded = Recorded::within(MAX_RECORDING_BYTES);
    recorded.live();
    let text = fs::read_to_string(recorded.path()).unwrap();
    let without: String =
        text.split_inclusive('\n').enumerate().filter(|(i, _)| *i != 2).map(|(_, line)| line).collect();
    fs::write(recorded.path(), without).unwrap();
    let error = told(&recorded.path()).1.unwrap_err();
    assert!(error.contains("entry 2 is damaged, or one before it is missing"), "{error}");
}

#[test]
fn a_full_recording_says_so_and_the_agent_goes_on() {
    let mut recorded = Recorded::within(1_500);
    for _ in 0..100 {
        recorded.tell(Input::Tick);
    }
    let (transcript, ended) = told(&recorded.path());
    ended.unwrap();
    assert!(transcript.contains("the recording is full; the agent went on"), "{transcript}");
    assert!(fs::metadata(recorded.path()).unwrap().len() < 2_000);
}

#[test]
fn the_recording_of_an_agent_that_died_is_kept_beside_the_next() {
    let recorded = Recorded::within(MAX_RECORDING_BYTES);
    let first = fs::read(recorded.path()).unwrap();
    let json = serde_json::from_slice(&first[CHECKSUM_DIGITS + 1..]).unwrap();
    let agent_core::Entry::Start(start) = json else { panic!("{json:?}") };
    Recorder::begin(&recorded.path(), *start).unwrap();
    assert_eq!(fs::read(recorded.dir.path().join("rec.1")).unwrap(), first);
}

#[test]
fn another_ledger_than_the_recorded_one_is_said() {
    let mut recorded = Recorded::within(MAX_RECORDING_BYTES);
    let other = Agent::new(
        DeviceId::new("cam-2").unwrap(),
        BootId::new("other").unwrap(),
        Default::default(),
        Vec::new(),
        Settings::default(),
        Timestamp(1),
    );
    recorded.recorder.end(Ending::Stopped, &other);
    let (transcript, ended) = told(&recorded.path());
    assert!(transcript.contains("NOT what was recorded") && ended.unwrap_err().contains("differs"));
}
