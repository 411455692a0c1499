//! Bad networks between a device and the broker: slow, late, cut, hanging, deaf in one direction, saying things twice.
//!
//! What must hold on each: the transfer completes, little is fetched twice, nothing is installed twice, and the server
//! counts every report and every window of figures once. Seeds are printed; `MUSTER_SEED` repeats one, and
//! `MUSTER_LONG=1` looks longer.

use std::time::Duration;

use serde_json::Value;
use shared::{
    BootId, Generation, Timestamp,
    message::Stream,
    report::{DeploymentEvent, Report},
    telemetry::{Delivery, DeviceHealth, Telemetry, VersionFigures},
};
use system_tests::{
    bare_device::BareDevice,
    cli::answer,
    device::{Device, DeviceOptions},
    digits::test_images,
    effort::{long, seed},
    fleet::Fleet,
    models::{Policy, Publication},
    proxy::{Fate, Proxy, Way, Weather, losses},
    random::Random,
    views,
    wait::{PATIENCE, until_true},
};

const MIB: u64 = 1_024 * 1_024;

/// Small enough to travel over a slow link, large enough to be hit.
const MODEL_BYTES: u64 = 6 * MIB;

/// Enough for many round trips.
const SLOW_MODEL_BYTES: u64 = 2 * MIB;

/// Protocol, TLS, metadata and the retries of a busy machine.
const OVERHEAD_BYTES: u64 = MIB;

/// Blocks in flight when a connection dies: the largest credit, and what sockets and the proxy hold.
const IN_FLIGHT_BYTES: u64 = MIB + MIB / 2;

/// The longest silence that a link takes for life: two intervals of its pings and the stall. Then it connects again.
const DEAF_FOR: Duration = Duration::from_secs(85);

/// A machine of two cores that runs other tests beside is slow.
const SLACK: Duration = Duration::from_secs(45);

/// A fleet of one device behind `proxy`, and a model that takes a moment.
fn fleet_with_model(proxy: &Proxy) -> (Fleet, String) {
    let fleet = Fleet::start_behind(proxy, 1);
    let release = fleet.publish(&Publication::big(fleet.server.scratch(), MODEL_BYTES as usize, 9));
    (fleet, release)
}

/// The model is here, it came once, and nothing was done or told twice.
fn assert_installed_once(fleet: &Fleet, rollout: &str) {
    let _ = fleet.watch(rollout).ok();
    fleet.devices[0].wait_for_version("1", &test_images()[0], PATIENCE);
    for end in ["staged", "self-test passed", "on probation", "committed"] {
        assert_eq!(told(&fleet.why("cam-1"), end), 1, "'{end}' in {:#}", fleet.why("cam-1"));
    }
    let models = status(&fleet.devices[0])["models"].clone();
    assert_eq!(models[0]["held"].as_array().unwrap().len(), 1, "{models:#}");
}

/// How often the server tells that the device reported this.
fn told(why: &Value, event: &str) -> usize {
    let words = format!(": {event}");
    let reasons = why["reasons"].as_array().unwrap().iter().filter_map(Value::as_str);
    reasons.filter(|text| text.contains("the device reported") && text.contains(&words)).count()
}

fn step(device: &Device) -> String {
    status(device)["models"][0]["step"].as_str().unwrap_or_default().to_owned()
}

fn status(device: &Device) -> Value {
    let mut command = device.agent();
    command.args(["status", "-o", "json", "--config"]).arg(device.config());
    answer(command).ok().json()
}

#[test]
fn a_slow_link_with_jitter_is_used_and_never_given_up() {
    let proxy = Proxy::start();
    let fleet = Fleet::start_behind(&proxy, 1);
    let release = fleet.publish(&Publication::big(fleet.server.scratch(), SLOW_MODEL_BYTES as usize, 9));
    let (latency, jitter) = (Duration::from_millis(250), Duration::from_millis(200));
    proxy.set_weather(Weather { latency, jitter, bytes_per_sec: Some(512 * 1_024), swallowed: None });
    let (start, connections) = (proxy.down_bytes(), proxy.connections());
    let rollout = fleet.start_rollout(&release);
    assert_installed_once(&fleet, &rollout);
    let sent = proxy.down_bytes() - start;
    assert_eq!(proxy.connections(), connections, "slow is not dead");
    assert!(sent < SLOW_MODEL_BYTES + OVERHEAD_BYTES, "{sent} bytes were sent for {SLOW_MODEL_BYTES}");
}

#[test]
fn a_transfer_that_is_cut_at_many_bytes_fetches_only_what_was_in_flight_again() {
    let mut random = Random::new(seed());
    let proxy = Proxy::start();
    let (fleet, release) = fleet_with_model(&proxy);
    let cuts = long(8, 40);
    // Past the handshake, so that each connection brings something: small numbers have a test of their own.
    let fates: Vec<Fate> =
        (0..cuts).map(|_| Fate::DiesAfter(MIB / 2 + random.below(MIB as usize) as u64)).collect();
    let (start, connections) = (proxy.down_bytes(), proxy.connections());
    proxy.deal(fates);
    proxy.cut();
    let rollout = fleet.start_rollout(&release);
    assert_installed_once(&fleet, &rollout);
    let (sent, died) = (proxy.down_bytes() - start, proxy.connections() - connections);
    eprintln!("{died} connections, {sent} bytes for {MODEL_BYTES}");
    assert!(died >= 4, "{died} connections");
    assert!(
        sent < MODEL_BYTES + OVERHEAD_BYTES + died * IN_FLIGHT_BYTES,
        "{sent} bytes in {died} connections"
    );
}

#[test]
fn a_device_whose_acknowledgements_are_lost_says_everything_again_and_is_counted_once() {
    let proxy = Proxy::start();
    let fleet = Fleet::start_behind(&proxy, 1);
    let policy = Policy { duration_secs: 3, ..Policy::QUICK };
    let release = fleet.publish(&Publication::digits(1).with_policy(policy));
    let rollout = fleet.start_rollout(&release);
    until_true("the model is here", PATIENCE, || {
        ["self_testing", "activating", "probation"].contains(&step(&fleet.devices[0]).as_str())
    });
    proxy.strike(Weather { swallowed: Some(Way::Down), ..Weather::default() });
    until_true("the server heard of the end", PATIENCE, || told(&fleet.why("cam-1"), "committed") == 1);
    let before = status(&fleet.devices[0])["waiting"]["reports"].as_u64().unwrap();
    assert!(before >= 1, "what was not acknowledged is kept");
    proxy.cut();
    until_true("everything is acknowledged", PATIENCE, || {
        status(&fleet.devices[0])["waiting"]["reports"] == 0
    });
    assert_installed_once(&fleet, &rollout);
}

#[test]
fn a_connection_that_hangs_half_open_is_replaced_and_the_transfer_goes_on() {
    let proxy = Proxy::start();
    let (fleet, release) = fleet_with_model(&proxy);
    let (start, connections) = (proxy.down_bytes(), proxy.connections());
    let rollout = fleet.start_rollout(&release);
    let deaf = |way| Weather { swallowed: Some(way), ..Weather::default() };
    let drip = Weather { bytes_per_sec: Some(1), ..Weather::default() };
    for (number, weather) in [deaf(Way::Down), deaf(Way::Up), drip].into_iter().take(long(1, 3)).enumerate() {
        let (part, before) = (MODEL_BYTES * (number as u64 + 1) / 5, proxy.connections());
        until_true("the transfer runs", PATIENCE, || proxy.down_bytes() - start > part);
        proxy.strike(weather);
        until_true("the link is replaced", DEAF_FOR + SLACK, || proxy.connections() > before);
    }
    assert_installed_once(&fleet, &rollout);
    let (sent, more) = (proxy.down_bytes() - start, proxy.connections() - connections);
    let bound = MODEL_BYTES + OVERHEAD_BYTES + more * IN_FLIGHT_BYTES;
    assert!(sent < bound, "{sent} bytes were sent for {MODEL_BYTES} over {more} more connections");
}

#[test]
fn figures_of_a_time_without_a_server_are_counted_once_and_none_is_lost() {
    let proxy = Proxy::start();
    let fleet = Fleet::start_behind(&proxy, 1);
    fleet.bring(&Publication::digits(2).with_policy(Policy::QUICK));
    let images = test_images();
    let offline = vec![Fate::DiesAfter(0); 1_000];
    proxy.deal(offline);
    proxy.cut();
    for digit in &images[..60] {
        fleet.devices[0].infer(digit).unwrap();
    }
    until_true("windows wait", PATIENCE, || {
        status(&fleet.devices[0])["waiting"]["telemetry"].as_u64() > Some(1)
    });
    proxy.forgive();
    let counted = || views::numbers(&fleet.device("cam-1"), "ok").into_iter().sum::<u64>();
    until_true("all of them are counted", PATIENCE * 2, || counted() >= 60);
    until_true("nothing waits", PATIENCE, || {
        status(&fleet.devices[0])["waiting"]["telemetry"].as_u64() <= Some(1)
    });
    assert_eq!(counted(), 60);
    assert_eq!(status(&fleet.devices[0])["waiting"]["telemetry_lost"], 0);
}

/// A fleet whose device `bare` is enrolled and not run, and a release that figures can be about.
fn fleet_with_bare_device(proxy: &Proxy) -> (Fleet, BareDevice, Device) {
    let fleet = Fleet::start_behind(proxy, 0);
    let _ = fleet.publish(&Publication::digits(1));
    let device = Device::new("bare", DeviceOptions::default());
    let _ = device.enroll(&fleet.token()).ok();
    let bare = BareDevice::of(&device);
    (fleet, bare, device)
}

/// A window in which `digits@1` answered once.
fn window(sequence: u64) -> Telemetry {
    let mut figures = VersionFigures::new("digits@1".parse().unwrap());
    figures.counts.ok = 1;
    let at = now();
    let (boot, health) = (BootId::new("net").unwrap(), DeviceHealth::default());
    Telemetry {
        boot,
        sequence,
        from: at,
        to: at,
        health,
        versions: vec![figures],
        challengers: Default::default(),
        drift_alarms: Vec::new(),
        delivery: Delivery::default(),
    }
}

fn now() -> Timestamp {
    Timestamp(0) + std::time::UNIX_EPOCH.elapsed().unwrap()
}

fn counted(fleet: &Fleet) -> u64 {
    views::numbers(&fleet.device("bare"), "ok").into_iter().sum()
}

#[test]
fn what_is_said_many_times_is_counted_once_and_acknowledged_every_time() {
    let proxy = Proxy::start();
    let (fleet, mut bare, _device) = fleet_with_bare_device(&proxy);
    let event = DeploymentEvent::Committed { inferences: 7, failures: 0 };
    let report = Report {
        device: bare.id().clone(),
        boot: BootId::new("net").unwrap(),
        sequence: 1,
        at: now(),
        generation: Generation(1),
        release: "digits@1".parse().unwrap(),
        event,
    };
    for _ in 0..3 {
        bare.say_report(&report);
        bare.say_telemetry(&window(1));
    }
    let answers: Vec<_> = (0..6).map(|_| bare.acknowledged()).collect();
    for stream in [Stream::Report, Stream::Telemetry] {
        assert_eq!(answers.iter().filter(|answer| **answer == (stream, 1)).count(), 3, "{answers:?}");
    }
    assert_eq!((counted(&fleet), told(&fleet.why("bare"), "committed after 7")), (1, 1));
    bare.finish();
}

#[test]
fn a_link_that_loses_99_of_100_connections_brings_every_message_and_each_counts_once() {
    let mut random = Random::new(seed());
    let proxy = Proxy::start();
    let (fleet, bare, _device) = fleet_with_bare_device(&proxy);
    let connections = proxy.connections();
    // Even a healthy one does not last: after what a few messages need it dies, too.
    let mortal = |fate: Fate| if fate == Fate::Healthy { Fate::DiesAfter(40_000) } else { fate };
    proxy.deal(losses(&mut random, long(600, 6_000), 99, 6_000).into_iter().map(mortal));
    proxy.cut();
    let messages = long(100, 1_000) as u64;
    (1..=messages).for_each(|sequence| bare.say_telemetry(&window(sequence)));
    until_true("every message is counted", PATIENCE * long(4, 40) as u32, || counted(&fleet) == messages);
    let made = proxy.connections() - connections;
    eprintln!("{messages} messages over {made} connections, {} fates left", proxy.fates_left());
    proxy.forgive();
    bare.finish();
    assert_eq!(counted(&fleet), messages, "what was repeated is not counted again");
}

#[test]
fn a_link_that_is_cut_at_every_early_byte_loses_and_doubles_nothing() {
    let seed = seed();
    let mut random = Random::new(seed);
    let proxy = Proxy::start();
    let (fleet, bare, _device) = fleet_with_bare_device(&proxy);
    // Handshake, CONNECT, SUBSCRIBE and the first messages lie below; the sweep begins at a random byte.
    let step = long(37, 7);
    let cuts: Vec<Fate> =
        (random.below(step)..9_000).step_by(step).map(|byte| Fate::DiesAfter(byte as u64)).collect();
    let (count, connections) = (cuts.len() as u64, proxy.connections());
    proxy.deal(cuts);
    proxy.cut();
    let mut said = 0;
    until_true("every cut was met", PATIENCE * 4, || {
        said += 1;
        bare.say_telemetry(&window(said));
        proxy.fates_left() == 0
    });
    bare.finish();
    eprintln!("{said} messages over {} connections", proxy.connections() - connections);
    assert!(proxy.connections() - connections >= count);
    until_true("every message is counted", PATIENCE, || counted(&fleet) == said);
}

#[test]
fn a_link_that_drips_a_byte_a_second_is_replaced() {
    let proxy = Proxy::start();
    let (fleet, bare, _device) = fleet_with_bare_device(&proxy);
    bare.say_telemetry(&window(1));
    until_true("the link works", PATIENCE, || counted(&fleet) == 1);
    let connections = proxy.connections();
    proxy.strike(Weather { bytes_per_sec: Some(1), ..Weather::default() });
    (2..=40).for_each(|sequence| bare.say_telemetry(&window(sequence)));
    until_true("the link is replaced", PATIENCE, || proxy.connections() > connections);
    bare.finish();
    until_true("every message is counted", PATIENCE, || counted(&fleet) == 40);
}
