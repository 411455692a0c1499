//! Webhooks of real servers: killed between a delivery and its writing down, and two on one database. What they deliver is
//! checked by the reference libraries.

use std::{fs, process::Command, time::Duration};

use serde_json::Value;
use system_tests::{
    cli::{Cli, answer},
    database::Database,
    device::{Device, DeviceOptions},
    fleet::{publish_on, token},
    models::Publication,
    programs::{python, repository},
    proxy::Proxy,
    receiver::{self, Delivery, Receiver, Reply},
    server::Server,
    wait::{PATIENCE, never, until_true},
};

/// Adds a webhook for what happens in rollouts; returns its id and its secret.
fn add(cli: &Cli, url: &str) -> (String, String) {
    let added = cli.json(&["webhook", "add", url, "--events", "rollout"]);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&added["webhook"]["id"]), text(&added["secret"]))
}

/// A rollout to a device that is never there, so that only orders make it tell anything.
fn rollout(server: &Server) -> String {
    let device = Device::new("cam-1", DeviceOptions::default());
    let _ = device.enroll(token(&server.cli(), 1, "1h").ok().stdout.trim()).ok();
    let release = publish_on(server, "digits", &Publication::digits(1));
    let started = server.cli().json(&["rollout", "start", &release, "--to", "all"]);
    started["status"]["id"].as_str().expect("an id").to_owned()
}

/// Pauses and resumes: two events.
fn pause_and_resume(cli: &Cli, rollout: &str) {
    for order in ["pause", "resume"] {
        let _ = cli.run(["rollout", order, rollout]).ok();
    }
}

fn types(deliveries: &[Delivery]) -> Vec<String> {
    let of = |delivery: &Delivery| delivery.event()["type"].as_str().expect("a type").to_owned();
    deliveries.iter().map(of).collect()
}

/// Lets the reference libraries check deliveries.
fn check(server: &Server, secret: &str, deliveries: &[Delivery]) -> String {
    let folder = server.scratch().join("deliveries");
    receiver::write(&folder, secret, deliveries);
    let mut command = Command::new(python());
    command.arg(repository().join("tests/python/check_webhooks.py")).arg(&folder);
    answer(command).ok().stdout
}

#[test]
fn a_server_killed_between_a_delivery_and_its_writing_down_delivers_it_again_under_the_same_id() {
    let mut server = Server::start();
    let receiver = Receiver::start();
    let rollout = rollout(&server);
    let (_, secret) = add(&server.cli(), &receiver.url());
    pause_and_resume(&server.cli(), &rollout);
    assert_eq!(types(&receiver.until(2)), ["dev.muster.rollout.paused", "dev.muster.rollout.resumed"]);
    // The third one arrives, and the server dies before it hears so.
    receiver.replies(Reply::Never);
    pause_and_resume(&server.cli(), &rollout);
    let _ = receiver.until(3);
    server.kill();
    receiver.replies(Reply::Status(200));
    server.run();
    let all = receiver.until(5);
    assert_eq!(
        types(&all[2..]),
        ["dev.muster.rollout.paused", "dev.muster.rollout.paused", "dev.muster.rollout.resumed"]
    );
    assert_eq!((all[2].id(), &all[2].body), (all[3].id(), &all[3].body), "receivers drop it by its id");
    assert_ne!(all[3].id(), all[4].id());
    let checked = check(&server, &secret, &all);
    assert_eq!(checked.lines().count(), 5, "{checked}");
    assert!(checked.contains(&format!("dev.muster.rollout.paused {rollout}")), "{checked}");
}

#[test]
fn of_two_servers_one_delivers_and_the_other_takes_over_when_it_dies() {
    let database = Database::postgres();
    let proxies = [Proxy::start(), Proxy::start()];
    let mut first = Server::start_on(&database, &proxies[0]);
    let mut other = Server::start_beside(&first, &database, &proxies[1]);
    let receiver = Receiver::start();
    let rollout = rollout(&first);
    let (id, secret) = add(&other.cli(), &receiver.url());
    for cli in [first.cli(), other.cli(), first.cli(), other.cli()] {
        pause_and_resume(&cli, &rollout);
    }
    let _ = receiver.until(8);
    never("somebody delivers twice", Duration::from_secs(3), || receiver.seen().len() > 8);
    // Whoever holds the lease dies, in the middle of a delivery.
    receiver.replies(Reply::Never);
    pause_and_resume(&other.cli(), &rollout);
    let _ = receiver.until(9);
    let holder = if holds_lease(&database, &first) { &mut first } else { &mut other };
    holder.kill();
    receiver.replies(Reply::Status(200));
    let all = receiver.until(11);
    assert_eq!(
        (all[8].id(), &all[8].body),
        (all[9].id(), &all[9].body),
        "another server says the same of an event"
    );
    let ids: Vec<_> = all.iter().map(Delivery::id).collect();
    let mut once = ids.clone();
    once.dedup();
    assert_eq!(once.len(), 10, "{ids:?}");
    let left = if first.runs() { &first } else { &other };
    until_true("it is written down", PATIENCE, || {
        let listed = left.cli().json(&["webhook", "list"]);
        listed[0]["id"] == id.as_str() && listed[0]["state"] == "active" && listed[0]["failures"] == 0
    });
    let checked = check(left, &secret, &all);
    assert_eq!(checked.lines().count(), 11, "{checked}");
}

/// Whether this server moves things on with time.
fn holds_lease(database: &Database, server: &Server) -> bool {
    let name = fs::read_to_string(server.data_dir().join("server.id")).expect("a server that ran");
    database.texts("SELECT holder FROM leases") == [name.trim()]
}
