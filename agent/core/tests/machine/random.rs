//! Any input in any order, lost, twice and late, by a clock that jumps: no panic, no spin, the committed version changes
//! only by a commit, and a recording of it all rebuilds every ledger and every effect. A failure prints the story that
//! leads to it and the seed that found it.

use std::time::Duration;

use crate::support::{agent, artifact, assignment, device_id, digest_of, director, manifest, verified};
use agent_core::{
    Agent, ChallengerEnd, Effect, Entry, Input, Ledger, Played, RECORDING_FORMAT, RecordedInput, Refusal,
    Replay, Settings, Start, Turn,
};
use proptest::prelude::*;
use shared::{
    BootId, Digest, Generation, ReleaseId, Timestamp,
    block::BlockMap,
    challenger::{Challenger, ChallengersDocument, ChallengersKind, Terms},
    maintenance::MaintenanceWindows,
    manifest::Manifest,
    message::{Assignment, Quarantine},
    report::{FailReason, RejectReason, TrialFigures},
    telemetry::Counts,
};

const MODELS: [&str; 2] = ["digits", "faces"];

fn release() -> impl Strategy<Value = ReleaseId> {
    (0_usize..2, 1_u32..4)
        .prop_map(|(model, version)| format!("{}@{version}", MODELS[model]).parse().unwrap())
}

fn packed() -> impl Strategy<Value = shared::artifact::Artifact> {
    (release(), any::<bool>()).prop_map(|(release, golden)| match golden {
        true => artifact(&format!("golden of {release}"), 1),
        false => artifact(&format!("model of {release}"), 20),
    })
}

fn desired() -> impl Strategy<Value = Input> {
    let one = (release(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    let orders = (prop::option::weighted(0.2, 0_usize..2), prop::bool::weighted(0.05));
    (0_u64..8, prop::collection::vec(one, 0..3), orders).prop_map(|(generation, wanted, orders)| {
        let (mut manifests, mut refused, mut all) = (vec![], vec![], vec![]);
        for (release, retry, good, pinned) in wanted {
            let manifest = manifest(&release.to_string());
            let named = Assignment { pinned, ..assignment(&manifest, retry) };
            all.push(named.clone());
            if good {
                manifests.push((named, digest_of(&manifest), verified(manifest)));
            } else {
                refused.push((named, RejectReason::Untrusted { detail: "x".into() }));
            }
        }
        let mut director = director(Generation(generation), all);
        director.maintenance = orders.0.map(window);
        director.quarantine = orders.1.then(|| Quarantine { reason: "x".into() });
        let director = verified(director);
        Input::DesiredVerified { director, manifests, refused }
    })
}

fn challengers() -> impl Strategy<Value = Input> {
    let one = (release(), 0_u64..8, prop::bool::weighted(0.8), prop::option::weighted(0.2, 1_000_u64..9_000));
    (0_u64..8, prop::collection::vec(one, 0..3)).prop_map(|(revision, wanted)| {
        let (mut manifests, mut refused, mut all) = (vec![], vec![], vec![]);
        for (release, order, good, until_secs) in wanted {
            let manifest = manifest(&release.to_string());
            let terms = Terms { until: until_secs.map(|secs| Timestamp(secs * 1_000)), ..Terms::default() };
            let manifest_digest = digest_of(&manifest);
            let named = Challenger { release, manifest_digest, manifest_size_bytes: 1, order, terms };
            all.push(named.clone());
            if good {
                manifests.push((named, manifest_digest, verified(manifest)));
            } else {
                refused.push((named, "x".into()));
            }
        }
        let document = ChallengersDocument {
            kind: ChallengersKind::Challengers,
            device: device_id(),
            revision,
            expires_at: Timestamp(u64::MAX),
            challengers: all,
        };
        Input::ChallengersVerified { document: verified(document), manifests, refused }
    })
}

fn window(which: usize) -> MaintenanceWindows {
    let window = ["Daily 00:00-00:30", "Thu 00:20-00:40"][which].parse().unwrap();
    MaintenanceWindows::new(vec![window]).unwrap()
}

fn staging() -> impl Strategy<Value = Input> {
    (packed(), 0_u8..9, 0_u32..22).prop_map(|(artifact, kind, index)| {
        let packed = artifact.packed.digest;
        match kind {
            0 => {
                let mut here = BlockMap::empty(artifact.packed.block_count());
                (0..index).for_each(|i| here.insert(i));
                Input::StagingOpened { packed, here }
            }
            1 => Input::AlreadyHere { packed },
            2 => Input::StagingFailed { packed, reason: FailReason::Storage { detail: "x".into() } },
            3 => Input::BlockRefused { packed, index },
            4 => Input::RetryAfter { packed, delay: Duration::from_secs(u64::from(index)) },
            5 => Input::ArtifactGone { packed },
            6 => Input::Unpacked { packed },
            7 => Input::UnpackFailed { packed, reason: RejectReason::BadArtifact { detail: "x".into() } },
            _ => Input::BlockStored { packed, index, bytes: 65_536 },
        }
    })
}

fn running() -> impl Strategy<Value = Input> {
    (release(), 0_u8..17, 0_u64..100, 0_u64..10).prop_map(|(release, kind, ok, bad)| match kind {
        13 => Input::ChallengerRuns { release },
        14 => Input::ChallengerEnded { release, end: crashed() },
        15 => Input::ChallengerEnded { release, end: ChallengerEnd::Damaged { detail: "x".into() } },
        16 => Input::ChallengerEnded { release, end: ChallengerEnd::Shortage { detail: "x".into() } },
        0 => Input::TrialPassed { release, figures: TrialFigures::default() },
        1 => Input::TrialFailed { release, reason: RejectReason::LoadFailed { detail: "x".into() } },
        2 => Input::RunnerReady,
        3 => Input::RunnerExited { detail: "x".into() },
        4 => Input::LoadFailed { release, detail: "x".into() },
        5 => Input::Switched { release },
        6 => Input::Loaded { release, load_ms: 1 },
        10 => Input::ArtifactDamaged { release, detail: "x".into() },
        7 => Input::MemoryExceeded { release, used_kib: ok, budget_kib: bad },
        11 => Input::Hung { release, threads: 2 },
        12 => Input::RunnerReplaced,
        8 => Input::OperatorRollback { model: release.model },
        _ => Input::Observed { release, counts: Counts { ok, engine_error: bad, ..Counts::default() } },
    })
}

fn plumbing() -> impl Strategy<Value = Input> {
    (0_u8..9, 0_u64..8).prop_map(|(kind, n)| match kind {
        7 => Input::ChallengersArrived { revision: n },
        8 => Input::ChallengersRefused { revision: n, detail: "x".into(), retry: n % 2 == 0 },
        6 => Input::LocalTime { utc_offset_secs: 600 * n as i32 },
        0 => Input::Connected,
        1 => Input::Disconnected,
        2 => Input::DesiredArrived { generation: Generation(n) },
        3 => Input::DesiredRefused { generation: Generation(n), detail: "x".into(), retry: n % 2 == 0 },
        4 => Input::ReportAcknowledged { boot: BootId::new("boot0").unwrap(), sequence: n },
        _ => Input::Tick,
    })
}

/// What happens next.
#[derive(Debug, Clone)]
enum Happening {
    Wild(Box<Input>),
    /// A fitting answer to what was asked first, or last; it may come once more later.
    Answer {
        well: bool,
        late: bool,
        twice: bool,
    },
    /// What was asked first is never answered.
    Loss,
    Traffic,
    PowerCut,
    /// The agent is stopped and started again.
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    let wild =
        prop_oneof![2 => desired(), 1 => challengers(), 4 => staging(), 4 => running(), 3 => plumbing()];
    prop_oneof![
        2 => wild.prop_map(|input| Happening::Wild(Box::new(input))),
        14 => (prop::bool::weighted(0.95), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(well, late, twice)| Happening::Answer { well, late, twice }),
        1 => Just(Happening::Loss),
        2 => Just(Happening::Traffic),
        1 => Just(Happening::PowerCut),
        1 => Just(Happening::Restart),
    ]
}

struct World {
    agent: Agent,
    now: Timestamp,
    pending: Vec<Effect>,
    boots: u32,
    /// What was written of this boot, and what it did.
    recording: Vec<String>,
    happened: Vec<(Played, Digest)>,
}

impl World {
    fn new() -> Self {
        let now = Timestamp(1_000_000);
        let agent = agent(Ledger::default(), vec![], 0, now);
        let (pending, recording, happened) = (vec![], vec![], vec![]);
        let mut world = Self { agent, now, pending, boots: 0, recording, happened };
        world.boot(Ledger::default());
        world
    }

    fn turn(&mut self, happening: Happening, wait_secs: i64) {
        let now_ms = self.now.as_millis().saturating_add_signed(wait_secs * 1_000);
        self.now = Timestamp(now_ms.max(1_000_000));
        match happening {
            Happening::Wild(input) => self.take(*input),
            Happening::Answer { well, late, twice } => match self.next_answer(well, late, twice) {
                Some(input) => self.take(input),
                None => self.wake(),
            },
            Happening::Loss if self.pending.is_empty() => {}
            Happening::Loss => drop(self.pending.remove(0)),
            Happening::Traffic => self.traffic(),
            Happening::PowerCut => self.power_cut(),
            Happening::Restart => {
                self.take(Input::Stopped);
                self.power_cut();
            }
        }
    }

    fn next_answer(&mut self, well: bool, late: bool, twice: bool) -> Option<Input> {
        let index = if late { self.pending.len().checked_sub(1)? } else { 0 };
        let effect = self.pending.get(index)?.clone();
        if !twice {
            self.pending.remove(index);
        }
        answer(effect, well)
    }

    fn wake(&mut self) {
        let Some((at, _)) = self.agent.poll_timeout() else { return };
        self.now = self.now.max(at);
        self.take(Input::Tick);
        let next = self.agent.poll_timeout();
        assert!(next.as_ref().is_none_or(|(next, _)| *next > self.now), "the agent spins: {next:?}");
    }

    fn take(&mut self, input: Input) {
        let may_forget = matches!(input, Input::DesiredVerified { .. });
        let recorded = RecordedInput::from(&input);
        let (before, revision) = (self.agent.ledger().clone(), self.agent.ledger_revision());
        let outcome = self.agent.handle(input, self.now);
        if outcome.is_err() || self.agent.ledger_revision() == revision {
            assert_eq!(self.agent.ledger(), &before, "a silent change");
        }
        self.check_committed(&before, may_forget);
        let changed = self.agent.ledger_revision() != revision;
        let ledger = changed.then(|| self.agent.ledger().digest());
        self.write(&Entry::Turn(Box::new(Turn { at: self.now, input: recorded, ledger })));
        self.collect(outcome.err());
    }

    fn collect(&mut self, refusal: Option<Refusal>) {
        let effects: Vec<Effect> = std::iter::from_fn(|| self.agent.poll_effect()).collect();
        self.pending.extend(effects.iter().filter(|effect| !matches!(effect, Effect::Note(_))).cloned());
        self.happened.push((Played { refusal, effects }, self.agent.ledger().digest()));
    }

    fn write(&mut self, entry: &Entry) {
        self.recording.push(serde_json::to_string(entry).unwrap());
    }

    /// What was written of this boot rebuilds every ledger and every effect of it.
    fn check_recording(&mut self) {
        let mut happened = std::mem::take(&mut self.happened).into_iter();
        let mut replay: Option<Replay> = None;
        for line in std::mem::take(&mut self.recording) {
            let (played, noted) = match (serde_json::from_str(&line).unwrap(), &mut replay) {
                (Entry::Start(start), _) => {
                    let (begun, played) = Replay::begin(*start);
                    replay = Some(begun);
                    (played, None)
                }
                (Entry::Turn(turn), Some(replay)) => (replay.turn(turn.at, turn.input), turn.ledger),
                (other, _) => panic!("{other:?}"),
            };
            let ledger = replay.as_ref().unwrap().agent().ledger().digest();
            assert!(noted.is_none_or(|noted| noted == ledger), "after {line}");
            assert_eq!(Some((played, ledger)), happened.next(), "after {line}");
        }
        let rebuilt = replay.unwrap();
        assert_eq!(rebuilt.agent().ledger(), self.agent.ledger());
        assert_eq!(rebuilt.agent().status(), self.agent.status());
        assert_eq!(rebuilt.agent().challenger_states(), self.agent.challenger_states());
        assert_eq!(rebuilt.agent().poll_timeout(), self.agent.poll_timeout());
        assert_eq!(rebuilt.agent().refusals(), self.agent.refusals());
    }

    /// A committed version is replaced by its candidate only, out of probation, or forgotten with its model.
    fn check_committed(&self, before: &Ledger, may_forget: bool) {
        for (name, old) in &before.models {
            let Some(new) = self.agent.ledger().models.get(name) else {
                assert!(may_forget, "{name} is forgotten");
                continue;
            };
            if old.committed != new.committed {
                let candidate = old.candidate.as_ref().expect("only a candidate is committed");
                assert!(matches!(candidate.phase, agent_core::Phase::Probation(_)), "{candidate:?}");
                assert_eq!(new.committed.as_ref(), Some(&candidate.installed));
                assert_eq!(new.candidate, None);
            }
        }
    }

    fn traffic(&mut self) {
        let counts = Counts { ok: 60, ..Counts::default() };
        for release in self.agent.model_states().into_iter().filter_map(|state| state.candidate) {
            self.take(Input::Observed { release, counts });
        }
    }

    fn power_cut(&mut self) {
        self.check_recording();
        let json = serde_json::to_vec(self.agent.ledger()).unwrap();
        let ledger: Ledger = serde_json::from_slice(&json).unwrap();
        assert_eq!(&ledger, self.agent.ledger());
        self.boots += 1;
        self.pending.clear();
        self.boot(ledger);
        self.take(Input::Tick);
    }

    fn boot(&mut self, ledger: Ledger) {
        let known: Vec<Manifest> = MODELS
            .iter()
            .flat_map(|model| (1..4).map(move |version| manifest(&format!("{model}@{version}"))))
            .collect();
        let manifests: Vec<_> = known.into_iter().map(|manifest| (digest_of(&manifest), manifest)).collect();
        let start = Start {
            format: RECORDING_FORMAT,
            device: device_id(),
            boot: BootId::new(format!("boot{}", self.boots)).unwrap(),
            at: self.now,
            settings: Settings { jitter_seed: 7, ..Settings::default() },
            ledger: ledger.clone(),
            manifests: manifests.clone(),
        };
        self.write(&Entry::Start(Box::new(start)));
        self.agent = agent(ledger, manifests, self.boots, self.now);
        self.collect(None);
    }
}

fn crashed() -> ChallengerEnd {
    ChallengerEnd::Crashed { detail: "x".into() }
}

/// What a working shell answers, or a failing one.
fn answer(effect: Effect, well: bool) -> Option<Input> {
    let bad = || RejectReason::BadArtifact { detail: "x".into() };
    Some(match effect {
        Effect::OpenStaging { artifact } if well => Input::AlreadyHere { packed: artifact.packed.digest },
        Effect::OpenStaging { artifact } => {
            let mut here = BlockMap::empty(artifact.packed.block_count());
            (1..20).for_each(|index| here.insert(index));
            Input::StagingOpened { packed: artifact.packed.digest, here }
        }
        Effect::Request { packed, .. } => Input::BlockStored { packed, index: 0, bytes: 65_536 },
        Effect::Unpack { artifact } if well => Input::Unpacked { packed: artifact.packed.digest },
        Effect::Unpack { artifact } => Input::UnpackFailed { packed: artifact.packed.digest, reason: bad() },
        Effect::RunTrial { release, .. } if well => {
            Input::TrialPassed { release, figures: TrialFigures::default() }
        }
        Effect::RunTrial { release, .. } => Input::TrialFailed { release, reason: bad() },
        Effect::EnsureRunner if well => Input::RunnerReady,
        Effect::EnsureRunner => Input::RunnerExited { detail: "x".into() },
        Effect::Load { release, .. } if well => Input::Loaded { release, load_ms: 1 },
        Effect::Load { release, .. } => Input::LoadFailed { release, detail: "x".into() },
        Effect::Switch { release } => Input::Switched { release },
        Effect::StartChallenger { release, .. } if well => Input::ChallengerRuns { release },
        Effect::StartChallenger { release, .. } => Input::ChallengerEnded { release, end: crashed() },
        Effect::Send { report } => Input::ReportAcknowledged { boot: report.boot, sequence: report.sequence },
        Effect::Verify { .. }
        | Effect::VerifyChallengers { .. }
        | Effect::CancelTrial { .. }
        | Effect::StopChallenger { .. }
        | Effect::StopRunner
        | Effect::Unload { .. }
        | Effect::CollectGarbage { .. }
        | Effect::Note(_) => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_committed_version_changes_only_by_a_commit_and_a_replay_agrees(
        story in prop::collection::vec((happening(), -100_i64..400), 1..200)
    ) {
        let mut world = World::new();
        for (happening, wait_secs) in story {
            world.turn(happening, wait_secs);
        }
        world.power_cut();
    }
}
