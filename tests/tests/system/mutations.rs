//! Damaged models through the real trial process, and what passes it through the real runner.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use muster_agent::runner::Event;
use shared::manifest::Budgets;
use system_tests::{
    digits::test_images,
    hostile::{attacks, longest_chain, right_golden},
    http::Target,
    inference::infer,
    memory::Watch,
    models::Publication,
    mutate::mutant,
    rig::{Rig, Tried, try_model, word},
    smuggle::BUDGETS,
};

/// Mutants of a normal run, and with `MUSTER_LONG=1`.
const MUTANTS: (u64, u64) = (2_000, 100_000);

/// Seed of the first mutant; the others follow.
const FIRST_SEED: u64 = 20_261_125;

/// Trials at a time: one for each core of a small machine.
const TRIALS: usize = 2;

/// A trial that is ended from outside may need this long to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// Resident memory of a trial before it has a model: the program's own.
const OWN_MEMORY_MIB: u64 = 48;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_model_is_refused_by_its_trial_with_the_reason_it_deserves() {
    let watch = Watch::over_children("trial");
    let attacks = attacks().into_iter().chain([longest_chain()]).filter(|attack| attack.packed.is_none());
    let mut wrong = Vec::new();
    for attack in attacks {
        let (tried, taken, limit) = try_model(&attack.model, &attack.golden, BUDGETS).await;
        eprintln!("{:>26}: {:>6.0} ms, {}", attack.name, taken.as_secs_f64() * 1_000.0, told(&tried));
        assert!(taken < limit + KILLED_WITHIN, "{} took {taken:?}", attack.name);
        if word(&tried) != attack.expects {
            wrong.push(format!("{}: expected {}, was {}", attack.name, attack.expects, told(&tried)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_memory_was_bounded(watch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutant_of_a_model_hangs_or_outgrows_its_trial_or_takes_more_than_a_runner_down() {
    let count = if std::env::var_os("MUSTER_LONG").is_some() { MUTANTS.1 } else { MUTANTS.0 };
    let watch = Watch::over_children("trial");
    let models = [1, 2].map(|number| std::fs::read(Publication::digits(number).onnx).unwrap());
    let hall = Arc::new(Hall {
        models: models.into(),
        golden: right_golden(),
        next: AtomicU64::new(0),
        count,
        seen: Mutex::default(),
    });
    let since = Instant::now();
    let trials: Vec<_> = (0..TRIALS).map(|_| tokio::spawn(Arc::clone(&hall).try_all())).collect();
    for trial in trials {
        trial.await.unwrap();
    }
    let seen = hall.seen.lock().unwrap().clone();
    eprintln!("{count} mutants in {:?}: {seen:?}", since.elapsed());
    assert_eq!(seen.values().sum::<u64>(), count);
    assert!(
        seen.contains_key("passed") && seen.len() > 3,
        "mutants that are all alike prove nothing: {seen:?}"
    );
    assert_memory_was_bounded(watch);
}

/// What the trials share.
struct Hall {
    models: Vec<Vec<u8>>,
    golden: Vec<u8>,
    next: AtomicU64,
    count: u64,
    seen: Mutex<BTreeMap<String, u64>>,
}

impl Hall {
    async fn try_all(self: Arc<Self>) {
        let mut rig = Rig::start(BUDGETS).await;
        let mut version = 1;
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            if number >= self.count {
                return;
            }
            let seed = FIRST_SEED + number;
            let model = mutant(seed, &self.models);
            let (tried, taken, limit) = try_model(&model, &self.golden, BUDGETS).await;
            assert!(taken < limit + KILLED_WITHIN, "mutant {seed} took {taken:?}: {}", told(&tried));
            if tried.is_ok() {
                version += 1;
                serve(&mut rig, version, &model, seed).await;
            }
            *self.seen.lock().unwrap().entry(word(&tried)).or_default() += 1;
        }
    }
}

/// A runner with the mutant answers, or refuses, or dies and is followed by another; it does not stay silent.
async fn serve(rig: &mut Rig, version: u32, model: &[u8], seed: u64) {
    match rig.load(version, model).await {
        Event::Loaded { .. } => {}
        Event::LoadFailed { .. } => return,
        Event::Exited(exit) => {
            eprintln!("mutant {seed} ended the runner: {}", exit.detail);
            return rig.restart().await;
        }
        other => panic!("mutant {seed}: {other:?}"),
    }
    rig.switch(version).await;
    let target = Target::Tcp(rig.address());
    let digit = test_images()[usize::try_from(seed).unwrap() % 597].clone();
    let answer =
        tokio::task::spawn_blocking(move || infer(&target, "digits", &digit).map_err(|e| e.to_string()));
    if let Err(refused) = answer.await.unwrap() {
        eprintln!("mutant {seed} passed its trial and then: {refused}");
    }
    rig.unload(version).await;
}

fn told(tried: &Tried) -> String {
    match tried {
        Ok(figures) => format!("passed: {figures}"),
        Err(reason) => reason.to_string(),
    }
}

fn assert_memory_was_bounded(watch: Watch) {
    let peak_mib = watch.end() / 1_024;
    let Budgets { memory_mib, .. } = BUDGETS;
    eprintln!("the largest trial was seen with {peak_mib} MiB");
    assert!(peak_mib > 0, "no trial was seen at all");
    assert!(
        peak_mib <= u64::from(memory_mib) + OWN_MEMORY_MIB,
        "{peak_mib} MiB; the budget is {memory_mib} MiB"
    );
}
