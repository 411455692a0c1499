//! Strings that do not enrol a device.

use system_tests::{
    cli::Exit,
    device::{Device, DeviceOptions},
    fleet::{Fleet, token},
    wait::{PATIENCE, until_true},
};

fn device(name: &str) -> Device {
    Device::new(name, DeviceOptions::default())
}

fn members(fleet: &Fleet) -> usize {
    fleet.cli().json(&["device", "list"]).to_string().matches("cam-").count()
}

#[test]
fn a_used_up_token_enrols_nobody_else() {
    let fleet = Fleet::start(0);
    let token = fleet.token();
    let _ = device("cam-1").enroll(&token).ok();
    let before = members(&fleet);
    let late = device("cam-2");
    let _ = late.enroll(&token).fails().says(&["token", "used"]).is_clear();
    assert_eq!(members(&fleet), before);
    assert!(!late.data_dir().join("identity/device.json").exists());
}

#[test]
fn an_expired_token_enrols_nobody() {
    let fleet = Fleet::start(0);
    let token = token(&fleet.cli(), 1_000, "1s").ok().stdout.trim().to_owned();
    let mut late = 0;
    // Until it expires it works; each attempt needs a device of its own.
    until_true("the token has expired", PATIENCE, || {
        late += 1;
        let answer = device(&format!("early-{late}")).enroll(&token);
        answer.code != Some(0) && answer.says(&["token", "expired"]).is_clear().code != Some(0)
    });
}

#[test]
fn garbage_is_not_a_token() {
    let fleet = Fleet::start(0);
    for garbage in ["garbage", "", "muster_enroll_AAAA"] {
        let _ = device("cam-1").enroll(garbage).fails().says(&["token"]).is_clear();
    }
    let cut = fleet.token();
    let _ = device("cam-1").enroll(&cut[..cut.len() - 9]).fails().says(&["token"]).is_clear();
    assert_eq!(members(&fleet), 0);
}

#[test]
fn a_name_is_given_once() {
    let fleet = Fleet::start(1);
    let _ = device("cam-1").enroll(&fleet.token()).fails().says(&["cam-1"]).is_clear();
    assert!(fleet.is_online("cam-1"));
}

#[test]
fn an_enrolled_device_is_not_enrolled_over() {
    let fleet = Fleet::start(0);
    let device = device("cam-1");
    let _ = device.enroll(&fleet.token()).ok();
    let _ = device.enroll(&fleet.token()).fails().says(&["already"]).is_clear();
}

#[test]
fn a_token_of_a_server_that_is_away_says_so() {
    let mut fleet = Fleet::start(0);
    let token = fleet.token();
    fleet.server.stop();
    let _ = device("cam-1").enroll(&token).fails().says(&["reach"]).is_clear();
    let _ = fleet.cli().run(["device", "list"]).exits(Exit::Unreachable).is_clear();
}

#[test]
fn a_device_that_never_enrolled_says_how_to() {
    let fleet = Fleet::start(0);
    drop(fleet);
    let mut device = device("cam-1");
    device.run();
    until_true("the agent gives up", PATIENCE, || device.ended().is_some());
    assert!(device.log_text().contains("muster-agent enroll"), "{}", device.log_text());
}

#[test]
fn a_label_that_is_none_is_a_usage_error() {
    let fleet = Fleet::start(0);
    let create = |label: &str| {
        fleet.cli().run(["enroll", "token", "create", "--label", label, "--uses", "1", "--expires", "1h"])
    };
    let _ = create("berlin").exits(Exit::Usage).says(&["site=berlin"]);
    let _ = create("=berlin").exits(Exit::Usage);
}
