//! An attacker with a stock MQTT client, and with a real device's certificate in hand.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use shared::{
    DeviceId,
    topic::{Down, Topic, Up, every_device_up},
};
use system_tests::{
    cli::{Answer, answer},
    device::{Device, DeviceOptions},
    fleet::Fleet,
    programs::from_debian,
};

/// `mosquitto_sub -W` ends with this when nothing was received in time: it was subscribed.
const LISTENED_IN_VAIN: i32 = 27;

/// What stops a subscription that was accepted and a connection that goes nowhere.
const GIVE_UP_SECS: &str = "3";

/// A client certificate with its key.
struct Stolen {
    certificate: PathBuf,
    key: PathBuf,
}

/// A fleet in which `cam-1` is at work, and the identity of `thief`, which is enrolled and not running.
struct Scene {
    fleet: Fleet,
    thief: Device,
}

impl Scene {
    fn set() -> Self {
        let fleet = Fleet::start(1);
        let thief = Device::new("thief", DeviceOptions::default());
        let _ = thief.enroll(&fleet.token()).ok();
        Self { fleet, thief }
    }

    fn stolen(&self) -> Stolen {
        let folder = self.thief.data_dir().join("identity");
        Stolen { certificate: folder.join("tls.pem"), key: folder.join("tls.pem") }
    }

    /// `program` as `client_id`, with any identity or none.
    fn client(&self, program: &str, client_id: &str, identity: Option<&Stolen>) -> Command {
        let mut command = Command::new("timeout");
        command.arg("20").arg(from_debian(program, "mosquitto-clients"));
        let port = self.fleet.server.mqtt().port().to_string();
        command.args(["-V", "mqttv5", "-h", "localhost", "-p", &port, "-i", client_id, "--cafile"]);
        command.arg(self.fleet.server.ca_file());
        if let Some(Stolen { certificate, key }) = identity {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command
    }

    fn subscribe(&self, client_id: &str, identity: Option<&Stolen>, topic: &str) -> Answer {
        let mut command = self.client("mosquitto_sub", client_id, identity);
        command.args(["-q", "1", "-t", topic, "-W", GIVE_UP_SECS]);
        answer(command)
    }

    fn publish(&self, client_id: &str, identity: Option<&Stolen>, topic: &str, message: &str) -> Answer {
        let mut command = self.client("mosquitto_pub", client_id, identity);
        command.args(["-q", "1", "-t", topic, "-m", message]);
        answer(command)
    }
}

fn up(device: &str, leaf: Up) -> String {
    Topic::up(DeviceId::new(device).unwrap(), leaf).to_string()
}

fn down(device: &str, leaf: Down) -> String {
    Topic::down(DeviceId::new(device).unwrap(), leaf).to_string()
}

#[track_caller]
fn assert_listens(answer: &Answer) {
    let heard = answer.code == Some(0) || answer.code == Some(LISTENED_IN_VAIN);
    assert!(heard && !answer.stderr.to_lowercase().contains("denied"), "expected a subscription of {answer}");
}

/// Refused, and nothing heard. `mosquitto_pub` says that it was not authorized, and ends with 0 all the same.
#[track_caller]
fn assert_refused(answer: &Answer) {
    let code = answer.code.unwrap_or(-1);
    let refused = code != 0 && code != LISTENED_IN_VAIN;
    let told = answer.stderr.to_lowercase();
    let denied = told.contains("denied") || told.contains("not authorized");
    assert!((refused || denied) && answer.stdout.is_empty(), "expected a refusal of {answer}");
}

#[test]
fn a_device_uses_its_own_topics_with_any_client() {
    let scene = Scene::set();
    let own = scene.stolen();
    assert_listens(&scene.subscribe("thief", Some(&own), &down("thief", Down::Desired)));
    let offline = r#"{"kind":"offline"}"#;
    let _ = scene.publish("thief", Some(&own), &up("thief", Up::State), offline).ok();
}

#[test]
fn a_device_hears_nothing_of_others() {
    let scene = Scene::set();
    let stolen = scene.stolen();
    for leaf in Down::ALL {
        assert_refused(&scene.subscribe("thief", Some(&stolen), &down("cam-1", leaf)));
    }
    for leaf in Up::ALL {
        assert_refused(&scene.subscribe("thief", Some(&stolen), &up("cam-1", leaf)));
    }
}

#[test]
fn wildcards_and_system_topics_are_refused() {
    let scene = Scene::set();
    let stolen = scene.stolen();
    let every_up = every_device_up();
    let shared_up = format!("$share/thieves/{every_up}");
    let filters = [
        "#",
        "+/#",
        "muster/#",
        "muster/1/d/thief/dn/#",
        "muster/1/d/thief/+/ds",
        "$SYS/#",
        &every_up,
        &shared_up,
    ];
    for filter in filters {
        assert_refused(&scene.subscribe("thief", Some(&stolen), filter));
    }
}

#[test]
fn a_device_cannot_speak_for_another_or_as_the_server() {
    let scene = Scene::set();
    let stolen = scene.stolen();
    let offline = r#"{"kind":"offline"}"#;
    assert_refused(&scene.publish("thief", Some(&stolen), &up("cam-1", Up::State), offline));
    assert!(scene.fleet.is_online("cam-1"), "a message of the thief was taken for one of cam-1");
    for device in ["cam-1", "thief"] {
        for leaf in Down::ALL {
            assert_refused(&scene.publish("thief", Some(&stolen), &down(device, leaf), "{}"));
        }
    }
    assert_refused(&scene.publish("thief", Some(&stolen), "anything/else", "{}"));
}

#[test]
fn a_certificate_does_not_fit_another_client_id() {
    let scene = Scene::set();
    let stolen = scene.stolen();
    assert_refused(&scene.subscribe("cam-1", Some(&stolen), &down("cam-1", Down::Desired)));
    assert_refused(&scene.subscribe("cam-1", Some(&stolen), &down("thief", Down::Desired)));
    assert!(scene.fleet.is_online("cam-1"), "the thief pushed cam-1 out");
}

#[test]
fn nobody_connects_without_a_certificate_or_with_one_of_another_ca() {
    let scene = Scene::set();
    assert_refused(&scene.subscribe("thief", None, &down("thief", Down::Desired)));
    let forged = forge(scene.fleet.server.scratch(), "thief");
    assert_refused(&scene.subscribe("thief", Some(&forged), &down("thief", Down::Desired)));
    assert_refused(&scene.publish("thief", Some(&forged), &up("thief", Up::State), "{}"));
}

#[test]
fn a_will_on_a_foreign_topic_is_refused() {
    let scene = Scene::set();
    let stolen = scene.stolen();
    let mut command = scene.client("mosquitto_sub", "thief", Some(&stolen));
    command.args(["-t", &down("thief", Down::Desired), "-W", GIVE_UP_SECS]);
    command.args(["--will-topic", &up("cam-1", Up::State), "--will-payload", r#"{"kind":"offline"}"#]);
    assert_refused(&answer(command));
    assert!(scene.fleet.is_online("cam-1"));
}

#[test]
fn http_is_not_spoken_where_mqtt_is_and_plain_text_nowhere() {
    let scene = Scene::set();
    for address in [scene.fleet.server.mqtt(), scene.fleet.server.http()] {
        let answer = system_tests::http::Target::Tcp(address).get("/healthz");
        assert!(
            answer.is_err() || answer.is_ok_and(|answer| answer.status >= 400),
            "plain text at {address}"
        );
    }
    let mut command = Command::new("timeout");
    command.arg("20").arg(from_debian("mosquitto_pub", "mosquitto-clients"));
    let port = scene.fleet.server.mqtt().port().to_string();
    command.args(["-V", "mqttv5", "-h", "localhost", "-p", &port, "-i", "thief", "-t", "x", "-m", "x"]);
    assert_refused(&answer(command));
}

/// A certificate for `name` by a CA that has the right name and the wrong key.
fn forge(folder: &Path, name: &str) -> Stolen {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Muster fleet CA");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let forged = Stolen { certificate: folder.join("forged.pem"), key: folder.join("forged.key.pem") };
    fs::write(&forged.certificate, certificate.pem()).unwrap();
    fs::write(&forged.key, key.serialize_pem()).unwrap();
    forged
}
