//! Small fleets for tests.

use shared::{DeviceId, Generation, ReleaseId, RolloutId, Timestamp, device::Inventory};

use crate::{DeviceFacts, Plan, ReleaseNeeds, Rollout, RolloutSpec, Selector, Strategy, plan};

pub(crate) fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(crate) fn release(text: &str) -> ReleaseId {
    text.parse().unwrap()
}

/// A connected device that runs `digits@1`.
pub(crate) fn device(name: &str, site: &str) -> DeviceFacts {
    DeviceFacts {
        id: id(name),
        labels: [("site".to_owned(), site.to_owned())].into(),
        connected: true,
        last_seen: None,
        inventory: Inventory {
            memory_mib: 512,
            engines: vec!["tract-onnx 0.23.9".into()],
            ..Inventory::default()
        },
        desired: vec![release("digits@1")],
        committed: vec![release("digits@1")],
        generation: Generation(1),
        quarantined: false,
        pins: Default::default(),
    }
}

/// `count` devices `d0`, `d1`, …
pub(crate) fn fleet(count: usize) -> Vec<DeviceFacts> {
    (0..count).map(|n| device(&format!("d{n}"), if n % 2 == 0 { "berlin" } else { "paris" })).collect()
}

pub(crate) fn spec(selector: &str, strategy: Strategy) -> RolloutSpec {
    RolloutSpec {
        id: RolloutId::new("r1").unwrap(),
        release: release("digits@2"),
        selector: Selector::parse(selector).unwrap(),
        strategy,
        author: "ada".into(),
        created_at: Timestamp(1_000),
    }
}

pub(crate) fn needs() -> ReleaseNeeds {
    ReleaseNeeds { size_bytes: 100, memory_mib: 64, engine: Some("onnx".into()), probation_secs: 60 }
}

pub(crate) fn planned(strategy: Strategy, fleet: &[DeviceFacts]) -> Plan {
    plan(&spec("all", strategy), &needs(), fleet, &[], Timestamp(1_000)).unwrap()
}

pub(crate) fn started(strategy: Strategy, fleet: &[DeviceFacts]) -> Rollout {
    Rollout::start(spec("all", strategy.clone()), planned(strategy, fleet), Timestamp(1_000))
}
