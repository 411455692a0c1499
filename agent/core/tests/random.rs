//! Any input in any order: no panic, no spin, and the committed version changes only by a commit.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

mod support;

use std::time::Duration;

use agent_core::{Agent, Effect, Input, Ledger};
use proptest::prelude::*;
use shared::{
    BootId, Generation, ReleaseId, Timestamp,
    block::BlockMap,
    manifest::Manifest,
    report::{FailReason, RejectReason, TrialFigures},
    telemetry::Counts,
};
use support::{agent, artifact, assignment, digest_of, director, manifest, verified};

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
    let one = (release(), any::<bool>(), any::<bool>());
    (0_u64..8, prop::collection::vec(one, 0..3)).prop_map(|(generation, wanted)| {
        let (mut manifests, mut refused, mut all) = (vec![], vec![], vec![]);
        for (release, retry, good) in wanted {
            let manifest = manifest(&release.to_string());
            let named = assignment(&manifest, retry);
            all.push(named.clone());
            if good {
                manifests.push((named, digest_of(&manifest), verified(manifest)));
            } else {
                refused.push((named, RejectReason::Untrusted { detail: "x".into() }));
            }
        }
        let director = verified(director(Generation(generation), all));
        Input::DesiredVerified { director, manifests, refused }
    })
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
    (release(), 0_u8..11, 0_u64..100, 0_u64..10).prop_map(|(release, kind, ok, bad)| match kind {
        0 => Input::TrialPassed { release, figures: TrialFigures::default() },
        1 => Input::TrialFailed { release, reason: RejectReason::LoadFailed { detail: "x".into() } },
        2 => Input::RunnerReady,
        3 => Input::RunnerExited { detail: "x".into() },
        4 => Input::LoadFailed { release, detail: "x".into() },
        5 => Input::Switched { release },
        6 => Input::Loaded { release, load_ms: 1 },
        10 => Input::ArtifactDamaged { release, detail: "x".into() },
        7 => Input::MemoryExceeded { release, used_kib: ok, budget_kib: bad },
        8 => Input::OperatorRollback { model: release.model },
        _ => Input::Observed { release, counts: Counts { ok, engine_error: bad, ..Counts::default() } },
    })
}

fn plumbing() -> impl Strategy<Value = Input> {
    (0_u8..6, 0_u64..8).prop_map(|(kind, n)| match kind {
        0 => Input::Connected,
        1 => Input::Disconnected,
        2 => Input::DesiredArrived { generation: Generation(n) },
        3 => Input::DesiredRefused { generation: Generation(n), detail: "x".into(), retry: n % 2 == 0 },
        4 => Input::ReportAcknowledged { boot: BootId::new("boot0").unwrap(), sequence: n },
        _ => Input::Tick,
    })
}

/// What happens next: a wild input, a fitting answer to what was asked first, good inferences, or a power cut.
#[derive(Debug, Clone)]
enum Happening {
    Wild(Box<Input>),
    Answer { well: bool },
    Traffic,
    PowerCut,
}

fn happening() -> impl Strategy<Value = Happening> {
    let wild = prop_oneof![2 => desired(), 4 => staging(), 4 => running(), 3 => plumbing()];
    prop_oneof![
        2 => wild.prop_map(|input| Happening::Wild(Box::new(input))),
        14 => prop::bool::weighted(0.95).prop_map(|well| Happening::Answer { well }),
        2 => Just(Happening::Traffic),
        1 => Just(Happening::PowerCut),
    ]
}

struct World {
    agent: Agent,
    now: Timestamp,
    pending: Vec<Effect>,
    boots: u32,
}

impl World {
    fn turn(&mut self, happening: Happening, wait: Duration) {
        self.now = self.now + wait;
        match happening {
            Happening::Wild(input) => self.take(*input),
            Happening::Answer { well } => {
                if let Some(input) =
                    (!self.pending.is_empty()).then(|| self.pending.remove(0)).and_then(|e| answer(e, well))
                {
                    self.take(input);
                } else if let Some((at, _)) = self.agent.poll_timeout() {
                    self.now = self.now.max(at);
                    self.take(Input::Tick);
                    let next = self.agent.poll_timeout();
                    assert!(
                        next.as_ref().is_none_or(|(next, _)| *next > self.now),
                        "the agent spins: {next:?}"
                    );
                }
            }
            Happening::Traffic => self.traffic(),
            Happening::PowerCut => self.power_cut(),
        }
    }

    fn take(&mut self, input: Input) {
        let may_forget = matches!(input, Input::DesiredVerified { .. });
        let (before, revision) = (self.agent.ledger().clone(), self.agent.ledger_revision());
        let outcome = self.agent.handle(input, self.now);
        if outcome.is_err() || self.agent.ledger_revision() == revision {
            assert_eq!(self.agent.ledger(), &before, "a silent change");
        }
        self.check_committed(&before, may_forget);
        while let Some(effect) = self.agent.poll_effect() {
            self.pending.push(effect);
        }
        self.pending.retain(|effect| !matches!(effect, Effect::Note(_)));
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
        let json = serde_json::to_vec(self.agent.ledger()).unwrap();
        let ledger: Ledger = serde_json::from_slice(&json).unwrap();
        assert_eq!(&ledger, self.agent.ledger());
        let known: Vec<Manifest> = MODELS
            .iter()
            .flat_map(|model| (1..4).map(move |version| manifest(&format!("{model}@{version}"))))
            .collect();
        let held = known.into_iter().map(|manifest| (digest_of(&manifest), manifest)).collect();
        self.boots += 1;
        self.pending.clear();
        self.agent = agent(ledger, held, self.boots, self.now);
        self.take(Input::Tick);
    }
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
        Effect::Send { report } => Input::ReportAcknowledged { boot: report.boot, sequence: report.sequence },
        Effect::Verify { .. }
        | Effect::CancelTrial { .. }
        | Effect::StopRunner
        | Effect::Unload { .. }
        | Effect::CollectGarbage { .. }
        | Effect::Note(_) => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_committed_version_changes_only_by_a_commit(
        story in prop::collection::vec((happening(), 0_u64..400), 1..200)
    ) {
        let now = Timestamp(1_000_000);
        let mut world = World { agent: agent(Ledger::default(), vec![], 0, now), now, pending: vec![], boots: 0 };
        for (happening, wait_secs) in story {
            world.turn(happening, Duration::from_secs(wait_secs));
        }
        world.power_cut();
    }
}
