//! Rollouts of several waves over real agents: a canary that fails at work while connections die again and again, and people
//! who agree, wait and go on, with a server that ends in between.

use std::{
    fs,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use system_tests::{
    cli::{Answer, Cli, Exit},
    digits::{images_with_ink_in_margin, test_images},
    effort::seed,
    fleet::{Fleet, SITE},
    models::{Policy, Publication},
    proxy::{Fate, Proxy},
    random::Random,
    traffic::{Totals, Traffic},
    views,
    wait::{PATIENCE, never, until_true},
};

/// Many connections die on the way.
const ON_A_BAD_NETWORK: &str = "120s";

/// Travels over several connections, of which each dies after a part of it.
const MODEL_BYTES: usize = 3 * 1_024 * 1_024;
const LEAST_PART: usize = 512 * 1_024;
const MORE_OF_A_PART: usize = 512 * 1_024;

/// More connections than the devices need to bring the model home.
const SHORT_LIVES: usize = 24;

/// Long enough for a device to be asked that must not be.
const ASKED_WITHIN: Duration = Duration::from_secs(3);

/// A wave of one that waits for a second person and is watched longer than any test runs, and then everybody.
const GUARDED: &str = "[[waves]]\nshare = { count = 1 }\napprove = true\nbake_time_secs = 86400\n\n\
                       [[waves]]\nshare = \"all\"\n";

fn start(fleet: &Fleet, release: &str, how: &[&str]) -> String {
    let words: Vec<&str> = ["rollout", "start", release, "--to", SITE].iter().chain(how).copied().collect();
    views::text(&fleet.cli().json(&words), "id")
}

fn state(fleet: &Fleet, rollout: &str) -> Value {
    fleet.rollout(rollout)["status"]["state"]["kind"].clone()
}

/// True when version 2 was ever asked there.
fn met_version_2(totals: &Totals) -> bool {
    totals.of("2").count > 0 || totals.non_finite > 0
}

#[test]
fn a_canary_that_fails_at_work_goes_back_alone_while_connections_die_again_and_again() {
    let mut random = Random::new(seed());
    let proxy = Proxy::start();
    let fleet = Fleet::start_behind(&proxy, 3);
    fleet.bring(&Publication::digits(1));
    let bad = Publication::digits(3).with_policy(Policy::WATCHFUL);
    let bad = fleet.publish(&bad.padded(fleet.server.scratch(), MODEL_BYTES, 3));
    let at_work =
        |device: &system_tests::device::Device| Traffic::start(device.http(), "digits", test_images());
    let traffic: Vec<Traffic> = fleet.devices.iter().map(at_work).collect();

    let part = |random: &mut Random| (LEAST_PART + random.below(MORE_OF_A_PART)) as u64;
    proxy.deal((0..SHORT_LIVES).map(|_| Fate::DiesAfter(part(&mut random))));
    let before = proxy.connections();
    proxy.cut();
    let rollout = start(&fleet, &bad, &["--waves", "1,all"]);
    until_true("the canary answers with version 2", PATIENCE * 4, || {
        traffic.iter().any(|traffic| met_version_2(&traffic.so_far()))
    });
    // Also while it goes back and tells why.
    proxy.cut();
    let watch = ["rollout", "status", &rollout, "--watch", "--timeout", ON_A_BAD_NETWORK];
    let _ = fleet.cli().run(watch).exits(Exit::RolloutFailed).says(&["finite"]);
    let connections = proxy.connections() - before;
    eprintln!("{connections} connections");
    assert!(connections > 5, "the network was too good: {connections} connections of 3 devices");
    proxy.forgive();

    let digit = &images_with_ink_in_margin()[0];
    for device in &fleet.devices {
        device.wait_for_version("1", digit, PATIENCE);
    }
    assert_eq!(state(&fleet, &rollout), "rolled_back");
    let totals: Vec<Totals> = traffic.into_iter().map(Traffic::stop).collect();
    assert_eq!(totals.iter().filter(|totals| met_version_2(totals)).count(), 1, "{totals:?}");
    assert!(totals.iter().all(|totals| totals.failed.is_empty()), "only version 2 may fail: {totals:?}");
    fleet.wait_until_online();
    for device in &fleet.devices {
        assert_eq!(fleet.device(device.name())["desired"], json!(["digits@1"]), "of {}", device.name());
    }
}

#[test]
fn a_rollout_waits_for_a_second_person_and_stays_paused_over_the_end_of_its_server_and_so_does_who_watches_it()
 {
    let mut fleet = Fleet::start(2);
    fleet.bring(&Publication::digits(1));
    let next = fleet.publish(&Publication::digits(2));
    let strategy = fleet.server.scratch().join("guarded.toml");
    fs::write(&strategy, GUARDED).unwrap();
    let rollout = start(&fleet, &next, &["--strategy", &strategy.display().to_string()]);
    let digit = &test_images()[0];
    let moved =
        |fleet: &Fleet| fleet.devices.iter().filter(|d| d.infer(digit).unwrap().version == "2").count();

    let _ = fleet.cli().run(["rollout", "approve", &rollout]).exits(Exit::Conflict).says(&["somebody else"]);
    never("asked without approval", ASKED_WITHIN, || moved(&fleet) > 0);
    let colleague = colleague(&fleet);
    let _ = colleague.run(["rollout", "approve", &rollout]).ok();
    until_true("the canary moved", PATIENCE, || moved(&fleet) == 1);

    let _ = fleet.cli().run(["rollout", "pause", &rollout]).ok();
    let watching = watch_meanwhile(&fleet, &rollout);
    fleet.server.kill();
    fleet.server.run();
    fleet.wait_until_online();
    assert_eq!(state(&fleet, &rollout), "paused");
    let _ =
        fleet.cli().run(["rollout", "promote", &rollout]).exits(Exit::Conflict).says(&["paused"]).is_clear();
    never("asked during a pause", ASKED_WITHIN, || moved(&fleet) > 1);

    let _ = fleet.cli().run(["rollout", "resume", &rollout]).ok();
    assert_eq!((state(&fleet, &rollout), moved(&fleet)), ("running".into(), 1));
    let _ = fleet.cli().run(["rollout", "promote", &rollout]).ok();
    let watched = watching.join().unwrap().ok();
    let changes: Vec<&str> = watched.stdout.lines().filter(|line| line.starts_with("rollout ")).collect();
    assert_eq!(changes, ["rollout paused", "rollout running", "rollout completed"], "{watched}");
    assert!(watched.stderr.contains("asking again"), "{watched}");
    assert_eq!(moved(&fleet), 2);
}

/// Watches a rollout from now on, one line per change.
fn watch_meanwhile(fleet: &Fleet, rollout: &str) -> JoinHandle<Answer> {
    let (cli, rollout) = (fleet.cli(), rollout.to_owned());
    let seen = fleet.server.scratch().join("watched");
    let log = fs::File::create(&seen).unwrap();
    let watching = thread::spawn(move || cli.tee(["rollout", "status", &rollout, "--watch"], log));
    until_true("the state is told", PATIENCE, || {
        fs::read_to_string(&seen).unwrap().contains("rollout paused")
    });
    watching
}

/// The command line of somebody else, who may approve.
fn colleague(fleet: &Fleet) -> Cli {
    let token = fleet.cli().run(["token", "create", "colleague", "--role", "approver"]).ok().stdout;
    let context = fs::read_to_string(fleet.server.data_dir().join("admin-context.toml")).unwrap();
    let with_token = |line: &str| match line.split_once(" = ") {
        Some(("token", _)) => format!("token = \"{}\"", token.trim()),
        _ => line.to_owned(),
    };
    let text: Vec<String> = context.lines().map(with_token).collect();
    let file: PathBuf = fleet.server.scratch().join("colleague.toml");
    fs::write(&file, text.join("\n")).unwrap();
    Cli::new(&file)
}
