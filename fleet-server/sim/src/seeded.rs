//! Stories that a seed makes up.

use fleet_core::{
    MaxFailed, MetricGate, OnAlarm, Ramp, Retries, Selector, StopAction, Strategy, WaveShare, WaveSpec,
    verdict::VerdictPolicy,
};
use muster_sketch::detector::Scope;
use shared::{DeviceId, ModelName, ReleaseId, RolloutId, maintenance::MaintenanceWindows};

use crate::{
    nature::Nature,
    random::Random,
    story::{Act, Character, DeviceStory, Moment, Network, ReleaseStory, Story, Timed, five_minutes, twenty},
};

/// When faults cease.
const CALM_SECS: u64 = 4 * 3_600;

/// What rollouts may take after that: four waves with the longest patience, probation and bake time, a rollback, and room.
const PATIENCE_SECS: u64 = 10 * 3_600;

/// Makes up a story.
#[must_use]
pub fn made_up(seed: u64) -> Story {
    let mut random = Random::new(seed ^ 0x6d75_7374_6572);
    let random = &mut random;
    let devices: Vec<DeviceStory> = (0..random.between(1, 9)).map(|n| device(random, n)).collect();
    let names: Vec<DeviceId> =
        devices.iter().filter_map(|device| DeviceId::new(device.name.clone()).ok()).collect();
    let releases = releases(random, &names);
    let mut acts = vec![];
    for n in 1..=random.between(1, 3) {
        rollout(random, n, &mut acts);
    }
    for _ in 0..random.below(12) {
        acts.push(Timed { at: any_time(random), act: fault(random, &names) });
    }
    let network = network(random);
    drift(random, &mut acts);
    Story {
        title: format!("seed {seed}"),
        why: String::new(),
        seed,
        devices,
        releases,
        drift: false,
        tells_secs: twenty(),
        look_secs: five_minutes(),
        network,
        acts,
        calm: Some(Moment::of_secs(CALM_SECS)),
        end: Moment::of_secs(CALM_SECS + PATIENCE_SECS),
    }
}

fn any_time(random: &mut Random) -> Moment {
    Moment::of_secs(random.between(60, CALM_SECS))
}

fn device(random: &mut Random, n: u64) -> DeviceStory {
    let site = ["berlin", "paris"][usize::from(random.chance(400_000))];
    let character = match random.below(100) {
        0..=6 => Character::Mute,
        7..=14 => Character::Liar,
        _ => Character::Honest,
    };
    DeviceStory {
        name: format!("d{n}"),
        count: None,
        labels: [("site".to_owned(), site.to_owned())].into(),
        runs: random.chance(800_000).then(|| release(1)),
        traffic: if random.chance(100_000) {
            0
        } else {
            u32::try_from(random.between(10, 600)).unwrap_or(10)
        },
        memory_mib: if random.chance(50_000) { 64 } else { 1_024 },
        link_kib: random.between(8, 2_048),
        on: if random.chance(100_000) { any_time(random) } else { Moment::default() },
        character,
        clock_secs: if random.chance(100_000) { clock(random) } else { 0 },
        maintenance: None,
        utc_offset_secs: if random.chance(300_000) { offset(random) } else { 0 },
    }
}

/// Up to six hours before or after UTC, in steps of half an hour.
fn offset(random: &mut Random) -> i32 {
    i32::try_from(random.below(25)).unwrap_or(12) * 1_800 - 6 * 3_600
}

/// A clock is wrong by minutes, or by a battery that is dead: decades.
fn clock(random: &mut Random) -> i64 {
    let secs = match random.below(3) {
        0 => random.between(1, 600),
        1 => random.between(3_600, 100_000),
        _ => 40 * 365 * 86_400,
    };
    let secs = i64::try_from(secs).unwrap_or(0);
    if random.chance(500_000) { secs } else { -secs }
}

fn release(version: u32) -> ReleaseId {
    named("digits", version)
}

fn named(model: &str, version: u32) -> ReleaseId {
    format!("{model}@{version}").parse().expect("a name and a number")
}

fn releases(random: &mut Random, names: &[DeviceId]) -> Vec<ReleaseStory> {
    let versions = (1..=4).map(|version| ("digits", version)).chain([("faces", 1), ("faces", 2)]);
    versions
        .map(|(model, version)| {
            let first = (model, version) == ("digits", 1);
            let good = first || random.chance(550_000);
            let mut except = std::collections::BTreeMap::new();
            if good && !first && random.chance(300_000) {
                let odd = random.pick(names).cloned();
                except.extend(odd.map(|odd| (odd, bad(random))));
            }
            ReleaseStory {
                release: named(model, version),
                nature: match good {
                    true if !first && random.chance(100_000) => Nature::Slower(50),
                    true => Nature::Good,
                    false => bad(random),
                },
                except,
                blocks: u32::try_from(random.between(1, 8)).unwrap_or(1),
                size_mib: if random.chance(100_000) { 100 } else { 0 },
                probation_secs: u32::try_from(random.between(60, 900)).unwrap_or(60),
                min_inferences: u32::try_from(random.between(1, 100)).unwrap_or(1),
            }
        })
        .collect()
}

fn bad(random: &mut Random) -> Nature {
    let natures = [
        Nature::UnpacksWrong,
        Nature::FailsTrial,
        Nature::HangsTrial,
        Nature::FailsToLoad,
        Nature::KillsRunner,
        Nature::FailsInferences(60),
        Nature::Slow,
        Nature::EatsMemory,
        Nature::FillsDisk,
    ];
    random.pick(&natures).copied().unwrap_or(Nature::FailsTrial)
}

fn network(random: &mut Random) -> Network {
    let mut up_to = |ppm: u64| u32::try_from(random.below(ppm)).unwrap_or(0);
    Network {
        loss_ppm: up_to(40_000),
        twice_ppm: up_to(100_000),
        late_ppm: up_to(30_000),
        damage_ppm: up_to(20_000),
        jitter_ms: u64::from(up_to(2_000)),
    }
}

/// A rollout, and what people do to it.
fn rollout(random: &mut Random, n: u64, acts: &mut Vec<Timed>) {
    let Ok(id) = RolloutId::new(format!("r{n}")) else { return };
    let release = match random.below(5) {
        0 => named("faces", u32::try_from(random.between(1, 2)).unwrap_or(1)),
        _ => release(u32::try_from(random.between(2, 4)).unwrap_or(2)),
    };
    let devices = if random.chance(200_000) {
        Selector::parse("site=berlin").unwrap_or_default()
    } else {
        Selector::all()
    };
    let strategy = Box::new(strategy(random));
    let start = if n == 1 { Moment::of_secs(random.between(60, 600)) } else { any_time(random) };
    acts.push(Timed { at: start, act: Act::Start { rollout: id.clone(), release, devices, strategy } });
    for _ in 0..random.below(6) {
        let rollout = id.clone();
        let act = match random.below(12) {
            6 | 7 => Act::Approve { rollout, by: if random.chance(700_000) { "bob" } else { "ada" }.into() },
            8 => Act::Promote { rollout },
            9 | 10 => Act::Retry { rollout },
            11 => {
                let until = Moment::of_secs(random.between(600, CALM_SECS));
                Act::Freeze { devices: None, until, reason: "a fair".into() }
            }
            0 => Act::Halt { rollout },
            1 => Act::RollBack { rollout },
            2 | 3 => Act::Pause { rollout },
            _ => Act::Resume { rollout },
        };
        acts.push(Timed { at: any_time(random), act });
    }
    // Most pauses end, or most stories would.
    if random.chance(800_000) {
        acts.push(Timed { at: Moment::of_secs(CALM_SECS + 60), act: Act::Resume { rollout: id } });
    }
}

fn strategy(random: &mut Random) -> Strategy {
    let mut waves: Vec<WaveSpec> = (0..random.below(3)).map(|_| wave(random)).collect();
    waves.push(WaveSpec { share: WaveShare::All, ..wave(random) });
    let metrics = random.chance(120_000).then(|| metrics(random));
    let holds_back = metrics.is_some() || random.chance(200_000);
    let control_percent = if holds_back { small(random, 10, 40) } else { 0 };
    Strategy {
        waves,
        control_percent,
        ramp: random.chance(250_000).then(|| ramp(random)),
        windows: random.chance(150_000).then(|| windows(random)),
        metrics,
        max_failed: MaxFailed { percent: 5, absolute: small(random, 0, 2) },
        silent_after_secs: random.between(1_200, 5_400),
        max_silent_percent: small(random, 0, 60),
        quorum_percent: small(random, 0, 60),
        retries: Retries { max: small(random, 0, 2), after_secs: random.between(60, 600) },
        on_halt: if random.chance(700_000) { StopAction::Rollback } else { StopAction::Halt },
        priority: u8::from(random.chance(100_000)),
        continuous: random.chance(200_000),
        seed: random.draw(),
        retry: random.chance(300_000),
        ..Strategy::default()
    }
}

/// Drift alarms, and what rollouts make of them. Drawn after everything else, so that stories from before there were any are
/// told as they were.
fn drift(random: &mut Random, acts: &mut Vec<Timed>) {
    if !random.chance(250_000) {
        return;
    }
    let mut released = vec![];
    for timed in acts.iter_mut() {
        if let Act::Start { release, strategy, .. } = &mut timed.act {
            released.push(release.clone());
            let choices = [OnAlarm::Rollback, OnAlarm::Hold, OnAlarm::Hold, OnAlarm::Ignore];
            strategy.drift.on_alarm = random.pick(&choices).copied().unwrap_or_default();
        }
    }
    for _ in 0..random.between(1, 3) {
        let Some(release) = random.pick(&released).cloned() else { return };
        let scope = match random.below(4) {
            0 => Scope::World,
            1 => Scope::Stratum { key: "site".into(), value: "berlin".into() },
            _ => Scope::Model,
        };
        let others = if random.chance(500_000) { 10 } else { 0 };
        let act = Act::DriftAlarm { release, feature: "brightness".into(), scope, others };
        acts.push(Timed { at: any_time(random), act });
    }
}

fn small(random: &mut Random, low: u64, high: u64) -> u32 {
    u32::try_from(random.between(low, high)).unwrap_or(0)
}

/// One or two windows on the day of the story, the second one after calm for most devices.
fn windows(random: &mut Random) -> MaintenanceWindows {
    let from = random.below(5);
    let mut text = vec![format!("Mon 0{from}:00-0{}:{}0", from + 1, random.below(6))];
    if random.chance(600_000) {
        text.push("Mon 05:00-09:00".into());
    }
    let windows = text.iter().map(|text| text.parse().expect("a day and two times")).collect();
    MaintenanceWindows::new(windows).expect("there are one or two")
}

/// Rules under which a fleet of a seed is large enough to be judged, and short enough to end.
fn metrics(random: &mut Random) -> MetricGate {
    let policy = VerdictPolicy {
        min_canaries: small(random, 1, 3),
        min_controls: small(random, 1, 3),
        min_looks: random.between(1, 6),
        ..VerdictPolicy::default()
    };
    MetricGate { policy, max_bake_secs: random.between(600, 3_600), ..MetricGate::default() }
}

fn ramp(random: &mut Random) -> Ramp {
    Ramp {
        per_minute: small(random, 1, 6),
        factor: small(random, 1, 3),
        after: small(random, 1, 4),
        max_per_minute: 30,
    }
}

fn wave(random: &mut Random) -> WaveSpec {
    let share = match random.below(5) {
        0 => WaveShare::Selector(Selector::parse("site=paris").unwrap_or_default()),
        1 | 2 => WaveShare::Count(small(random, 1, 3)),
        _ => WaveShare::Percent(small(random, 1, 60)),
    };
    WaveSpec { share, bake_time_secs: random.below(1_800), approve: random.chance(100_000) }
}

fn fault(random: &mut Random, names: &[DeviceId]) -> Act {
    let devices: Vec<DeviceId> = names.iter().filter(|_| random.chance(300_000)).cloned().collect();
    match random.below(21) {
        0 | 1 => Act::Cut { devices },
        2 => Act::Reconnect { devices },
        3..=5 => {
            let after_effects = u32::try_from(random.below(12)).unwrap_or(0);
            Act::PowerCut { devices, after_effects }
        }
        6 => Act::Restart { devices },
        7 => Act::Die { devices: devices.into_iter().take(1).collect() },
        8 => Act::Clock { devices, ahead_secs: clock(random) },
        9 => Act::Traffic { devices, per_minute: u32::try_from(random.below(300)).unwrap_or(0) },
        10 => Act::StopServer { for_secs: random.between(10, 1_800) },
        11 => Act::KillServer { stored: random.chance(500_000) },
        16 | 17 | 19 | 20 => {
            let model =
                ModelName::new(if random.chance(700_000) { "digits" } else { "faces" }).expect("a name");
            Act::Pin { devices, model, lifted: random.chance(300_000) }
        }
        18 => Act::LocalTime { devices, utc_offset_secs: offset(random) },
        14 => Act::KillRunner { devices },
        15 => Act::DamageDisk { devices },
        12 => Act::ServerClock { ahead_secs: i64::try_from(random.below(1_200)).unwrap_or(0) - 600 },
        _ => Act::Quarantine { devices, lifted: random.chance(500_000) },
    }
}
