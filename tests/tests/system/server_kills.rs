//! The server is killed between any two of its writes, in the middle of a rollout, and started again.
//!
//! A run without a blow says which writes there are; then one run for each of some of them, evenly over the rollout,
//! begins from the same folder and is killed in its place. `MUSTER_LONG=1` strikes many more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use system_tests::{
    crew::Crew,
    database::Database,
    device::{Device, DeviceOptions},
    effort,
    fleet::{publish_on, token},
    models::Publication,
    oracle::assert_rolled_out_once,
    programs,
    random::Random,
    server::Server,
    strace::{self, Blow, Call},
    wait::{PATIENCE, try_until, until_true},
};

/// How a database of SQLite reaches the disk: every commit writes some pages to the log and syncs it.
const WRITES: &[&str] = &["pwrite64", "fdatasync"];

/// The canary is watched for a second, so that time is told to the machine; the other waves follow at once.
const STRATEGY: &str =
    r#"{"waves":[{"share":{"count":1},"bake_time_secs":1},{"share":{"count":1}},{"share":"all"}]}"#;

/// Waves of [`STRATEGY`].
const WAVES: usize = 3;

/// Devices of the fleet.
const CREW: usize = 4;

/// Longest wait for the blow; a rollout takes two seconds, and its program is traced.
const STRUCK_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_server_killed_at_any_write_of_a_rollout_loses_nothing_and_doubles_nothing() {
    let mut place = Place::prepare();
    let mut random = Random::new(effort::seed());
    let calls = place.writes();
    assert!(calls.len() > 50, "a rollout writes more than {calls:?}");
    let mut struck = 0;
    let chosen = strace::spread(&calls, effort::long(16, 200), &mut random);
    for call in &chosen {
        struck += usize::from(place.survives(call));
    }
    eprintln!("{struck} of {} runs were struck, of {} writes", chosen.len(), calls.len());
    // Threads take turns, so some run may make fewer writes than the first one.
    assert!(struck * 2 > chosen.len(), "only {struck} of {} runs were struck", chosen.len());
}

/// A server with devices and a release, and its folder as it was before the rollout.
struct Place {
    server: Server,
    devices: Vec<Device>,
    before: PathBuf,
    log: PathBuf,
    release: String,
}

impl Place {
    fn prepare() -> Self {
        let mut server = Server::start();
        let devices = (1..=CREW).map(|number| {
            let device = Device::new(&format!("cam-{number}"), DeviceOptions::default());
            let token = token(&server.cli(), 1, "1h").ok().stdout;
            let _ = device.enroll(token.trim()).ok();
            device
        });
        let devices = devices.collect();
        let release = publish_on(&server, "digits", &Publication::digits(1));
        fs::write(server.scratch().join("strategy.json"), STRATEGY).unwrap();
        assert!(server.stop().success());
        let (before, log) = (server.scratch().join("before"), server.scratch().join("calls"));
        let place = Self { server, devices, before, log, release };
        copy(&place.server.data_dir(), &place.before);
        place
    }

    fn put_back(&self) {
        let data = self.server.data_dir();
        fs::remove_dir_all(&data).unwrap();
        copy(&self.before, &data);
        let _ = fs::remove_file(&self.log);
    }

    /// The writes of an undisturbed rollout, without those of the start.
    fn writes(&mut self) -> Vec<Call> {
        self.put_back();
        self.server.run_by(strace::watch(&programs::muster(), WRITES, &self.log));
        let at_start = self.calls().len();
        let crew = Crew::of(&self.devices);
        self.start_rollout();
        self.finish(&crew, "an undisturbed rollout");
        assert!(self.server.stop().success());
        self.calls().split_off(at_start)
    }

    fn calls(&self) -> Vec<Call> {
        let calls = strace::calls_in(&self.log, &self.server.data_dir()).into_iter();
        calls.filter(|call| call.file.as_ref().is_some_and(|file| file.ends_with("muster.db-wal"))).collect()
    }

    /// Runs the rollout with a kill in place of `call`; false when there was no such call this time.
    fn survives(&mut self, call: &Call) -> bool {
        self.put_back();
        let folder = self.server.data_dir();
        self.server.run_by(strace::strike(&programs::muster(), &folder, call, Blow::Kill, &self.log));
        let crew = Crew::of(&self.devices);
        self.start_rollout();
        let mut finished = false;
        try_until(STRUCK_WITHIN, || {
            finished = is_finished(&self.server);
            (finished || self.server.ended().is_some()).then_some(())
        });
        let struck = self.server.ended().is_some();
        if struck {
            self.server.kill();
            self.server.run();
            // Whoever got no answer looks before he asks again.
            if rollouts(&self.server).is_empty() {
                self.start_rollout();
            }
        }
        self.finish(&crew, &format!("{call} was struck"));
        drop(crew);
        self.server.kill();
        struck
    }

    /// Asks for the rollout; the server may be killed before it answers.
    fn start_rollout(&self) {
        let strategy = self.server.scratch().join("strategy.json");
        let arguments = ["rollout", "start", &self.release, "--to", "site=berlin", "--strategy"];
        let arguments = arguments.map(Into::into).into_iter().chain([strategy.into_os_string()]);
        let _ = self.server.cli().run(arguments);
    }

    fn finish(&self, crew: &Crew, what: &str) {
        until_true(&format!("the rollout is finished: {what}"), PATIENCE, || is_finished(&self.server));
        until_true(&format!("every report is acknowledged: {what}"), PATIENCE, || crew.is_acknowledged());
        assert_eq!(self.server.get("/api/v1/audit").json()["intact"], Value::Bool(true), "{what}");
        let database = self.server.data_dir().join("muster.db");
        let database = Database::at(&format!("sqlite://{}?mode=ro", database.display()));
        assert_rolled_out_once(&database, crew, WAVES);
    }
}

/// What the server says; nothing while it does not answer.
fn rollouts(server: &Server) -> Vec<Value> {
    let answer = server.cli().run(["rollout", "list", "-o", "json"]);
    let list = serde_json::from_str::<Value>(&answer.stdout).unwrap_or_default();
    list["rollouts"].as_array().or(list.as_array()).cloned().unwrap_or_default()
}

fn is_finished(server: &Server) -> bool {
    rollouts(server).iter().any(|rollout| rollout["finished"] == Value::Bool(true))
}

/// With modes, because the server refuses keys that others may read.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot copy {}", from.display());
}
