//! A thousand changes of the version that answers, under a client that does not pause.

use std::time::Instant;

use muster_agent::runner::Event;
use system_tests::{
    device::Device,
    digits::test_images,
    fleet::Fleet,
    hammer::Hammer,
    http::Target,
    models::{Policy, Publication},
    process::resident_kib,
    rig::Rig,
    smuggle::BUDGETS,
    wait::PATIENCE,
};

/// Swaps before memory is looked at first: arenas of the allocator reach their size, and the requests under way meanwhile
/// fill what a runner remembers of the last 4,096. A client gets four in while a quick machine makes one swap.
const WARM_UP: u32 = 1_500;

/// Swaps under load.
const SWAPS: u32 = 1_000;

/// Swaps by rollouts through server, broker and agent.
const ROLLOUTS: u32 = 24;

/// Growth of resident memory over all swaps, in percent of what there was after warming up.
const MAX_GROWTH_PERCENT: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_under_load_fail_no_request_and_leave_memory_flat() {
    let models = [2, 1].map(|number| std::fs::read(Publication::digits(number).onnx).unwrap());
    let mut rig = Rig::start(BUDGETS).await;
    let first = rig.load(1, &models[1]).await;
    assert!(matches!(first, Event::Loaded { .. }), "{first:?}");
    rig.switch(1).await;
    let mut hammer = Hammer::start(rig.address(), "digits");

    let model_of = |version: u32| &models[version as usize % 2];
    for version in 2..WARM_UP + 2 {
        rig.swap_to(version, model_of(version)).await;
    }
    let before_kib = resident_kib(rig.pid()).unwrap();
    hammer.begin("swaps");
    let since = Instant::now();
    for version in WARM_UP + 2..WARM_UP + 2 + SWAPS {
        rig.swap_to(version, model_of(version)).await;
    }
    let taken = since.elapsed();
    let after_kib = resident_kib(rig.pid()).unwrap();
    let swaps = hammer.end().remove("swaps").expect("the client asked");

    eprintln!("{SWAPS} swaps in {taken:?}, {before_kib} KiB before, {after_kib} KiB after: {swaps:?}");
    assert!(swaps.failed.is_empty(), "{swaps:?}");
    assert!(swaps.requests > u64::from(SWAPS), "{} requests are no load", swaps.requests);
    assert!(
        after_kib <= before_kib * (100 + MAX_GROWTH_PERCENT) / 100,
        "resident memory went from {before_kib} KiB to {after_kib} KiB"
    );
}

#[test]
fn swaps_by_rollouts_under_a_stock_client_fail_no_request() {
    let fleet = Fleet::start(1);
    let releases = [1, 2].map(|number| {
        let policy = Policy { duration_secs: 0, ..Policy::QUICK };
        fleet.bring(&Publication::digits(number).with_policy(policy))
    });
    let mut hammer = Hammer::start(address(&fleet.devices[0]), "digits");
    hammer.begin("rollouts");
    for number in 0..ROLLOUTS {
        let release = &releases[number as usize % 2];
        let _ = fleet.watch(&fleet.start_rollout(release)).ok();
        let version = release.rsplit('@').next().unwrap();
        fleet.devices[0].wait_for_version(version, &test_images()[0], PATIENCE);
    }
    let phase = hammer.end().remove("rollouts").expect("the client asked");
    eprintln!("{ROLLOUTS} rollouts: {phase:?}");
    assert!(phase.failed.is_empty() && phase.requests > 100, "{phase:?}");
}

fn address(device: &Device) -> std::net::SocketAddr {
    let Target::Tcp(address) = device.http() else { panic!("HTTP is TCP") };
    address
}
