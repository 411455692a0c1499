//! The fleet on PostgreSQL: one server, and two of them.

use std::time::Duration;

use serde_json::Value;
use system_tests::{
    crew::Crew,
    database::Database,
    device::{Device, DeviceOptions},
    fleet::{Fleet, publish_on, token},
    models::Publication,
    oracle::assert_rolled_out_once,
    proxy::Proxy,
    server::Server,
    views,
    wait::{PATIENCE, until_true},
};

/// Devices of each of two servers.
const CREW: usize = 4;

/// A server is given up after five seconds without a sign of it; what waited for it goes on then.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_rollout_on_postgresql_reaches_devices_and_a_restarted_server_knows_and_goes_on() {
    let (database, proxy) = (Database::postgres(), Proxy::start());
    let mut fleet = Fleet::start_on(Server::start_on(&database, &proxy), 2);
    let first = fleet.bring(&Publication::digits(1));
    fleet.server.kill();
    fleet.server.run();
    fleet.wait_until_online();
    assert_eq!(views::texts(&fleet.device("cam-2"), "committed"), [first]);
    let _ = fleet.bring(&Publication::digits(2));
    assert!(is_audit_intact(&fleet.server));
    // Nothing of it lies in the file of a server that is alone.
    assert!(!fleet.server.data_dir().join("muster.db").exists());
    assert_eq!(database.numbers("SELECT COUNT(*) FROM rollouts WHERE phase = 'completed'"), [2]);
}

#[test]
fn of_two_servers_one_is_killed_in_a_rollout_and_every_device_was_asked_once() {
    let database = Database::postgres();
    let proxies = [Proxy::start(), Proxy::start()];
    let mut killed = Server::start_on(&database, &proxies[0]);
    let other = Server::start_beside(&killed, &database, &proxies[1]);
    let devices = [enrolled(&killed, "a"), enrolled(&other, "b")];
    let devices: Vec<Device> = devices.into_iter().flatten().collect();
    let release = publish(&killed);
    let crew = Crew::of(&devices);
    until_true("every device is seen by the other server", PATIENCE, || online(&other) == 2 * CREW);

    // Waves of two devices, of both servers by chance, each watched for a second: time must be told to the machine.
    let start = ["rollout", "start", &release, "--to", "site=berlin", "--waves", "2,2,2,all", "--bake", "1s"];
    let rollout = views::text(&killed.cli().json(&start), "id");
    until_true("the second wave is asked", PATIENCE, || told(&crew) > 2);
    killed.kill();
    proxies[0].lead_to(other.mqtt());

    let finished = || other.cli().json(&["rollout", "status", &rollout])["finished"] == Value::Bool(true);
    until_true("the rollout is finished", TAKEN_OVER_WITHIN + PATIENCE, finished);
    let view = other.cli().json(&["rollout", "status", &rollout]);
    assert_eq!(view["status"]["state"]["kind"], "completed", "{view:#}");
    until_true("every report is acknowledged", PATIENCE, || crew.is_acknowledged());
    assert_rolled_out_once(&database, &crew, 4);
    assert!(is_audit_intact(&other));
    assert_eq!(database.numbers("SELECT COUNT(*) FROM audit WHERE action = 'rollout.complete'"), [1]);
}

#[test]
fn what_one_server_is_told_counts_on_the_other() {
    let database = Database::postgres();
    let proxies = [Proxy::start(), Proxy::start()];
    let one = Server::start_on(&database, &proxies[0]);
    let mut other = Server::start_beside(&one, &database, &proxies[1]);
    let devices = enrolled(&other, "b");
    let crew = Crew::of(&devices);
    until_true("its devices are seen", PATIENCE, || online(&one) == CREW);

    // Published on the first a moment ago, and asked of devices of the second: within its next look at the database.
    let release = publish(&one);
    // The bake is long enough for the pause to find the first wave in it on a busy machine.
    let start = ["rollout", "start", &release, "--to", "site=berlin", "--waves", "1,all", "--bake", "5s"];
    let rollout = views::text(&one.cli().json(&start), "id");
    until_true("the canary is asked", Duration::from_secs(5), || told(&crew) >= 1);
    let _ = other.cli().run(["rollout", "pause", &rollout]).ok();
    let _ = one.cli().run(["rollout", "resume", &rollout]).ok();
    let _ = other.cli().run(["rollout", "status", &rollout, "--watch", "--timeout", "60s"]).ok();
    until_true("every report is acknowledged", PATIENCE, || crew.is_acknowledged());
    assert_rolled_out_once(&database, &crew, 2);

    // Locked out on one, cut off on the other, which it is connected to.
    assert_eq!(one.post("/api/v1/devices/b-1/revoke").status, 204);
    let here = "SELECT COUNT(*) FROM devices WHERE id = 'b-1' AND server IS NOT NULL";
    until_true("the device is cut off", Duration::from_secs(10), || database.numbers(here) == [0]);

    // A copied name would make two servers believe that they are one.
    let name = "server.id";
    other.stop();
    std::fs::copy(one.data_dir().join(name), other.data_dir().join(name)).unwrap();
    other.run();
    let mut servers = [one, other];
    until_true("one of the two gives up", PATIENCE, || {
        servers.iter_mut().any(|server| server.ended().is_some())
    });
    let [mut one, _other] = servers;
    assert!(one.ended().is_some_and(|status| !status.success()));
    assert!(std::fs::read_to_string(one.log()).unwrap().contains("remove server.id from the copy"));
}

/// Devices of `server`, enrolled and not run.
fn enrolled(server: &Server, prefix: &str) -> Vec<Device> {
    let names = (1..=CREW).map(|number| format!("{prefix}-{number}"));
    let enroll = |name: String| {
        let device = Device::new(&name, DeviceOptions::default());
        let token = token(&server.cli(), 1, "1h").ok().stdout;
        let _ = device.enroll(token.trim()).ok();
        device
    };
    names.map(enroll).collect()
}

fn publish(server: &Server) -> String {
    publish_on(server, "digits", &Publication::digits(1))
}

fn told(crew: &Crew) -> usize {
    crew.diaries().values().filter(|diary| diary.told.iter().any(|(_, named)| !named.is_empty())).count()
}

fn online(server: &Server) -> usize {
    let devices = server.cli().json(&["device", "list"]);
    views::all(&devices, "connected").into_iter().filter(|online| **online == Value::Bool(true)).count()
}

fn is_audit_intact(server: &Server) -> bool {
    server.get("/api/v1/audit").json()["intact"] == Value::Bool(true)
}
