//! Programs of other projects, unchanged.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use system_tests::{
    cli::answer,
    fleet::Fleet,
    http::Target,
    models::Publication,
    programs::{python, repository},
    server::Server,
};

fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/python").join(name));
    command
}

#[test]
fn the_stock_triton_client_works_against_a_device() {
    let python = script("triton_client.py");
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(2));
    let Target::Tcp(address) = fleet.devices[0].http() else { panic!("HTTP is TCP") };
    let mut command = python;
    command
        .arg(address.to_string())
        .arg("digits")
        .arg(repository().join("fleet-server/demo/digits-test.bin"));
    let answer = answer(command).ok().says(&["json", "binary", "accuracy"]);
    eprintln!("{}", answer.stdout);
}

#[test]
fn python_tuf_reads_what_the_server_signs() {
    let mut command = script("check_tuf.py");
    let fleet = Fleet::start(0);
    for number in 1..=2 {
        let _ = fleet.publish(&Publication::digits(number));
    }
    let folder = fleet.server.scratch().join("tuf");
    mirror(&fleet.server, &folder);
    command.arg(&folder);
    let _ = answer(command).ok().says(&["digits/1.json", "digits/2.json"]);
}

/// Fetches the repository as any TUF client would, into the layout that clients expect.
fn mirror(server: &Server, folder: &Path) {
    let metadata = folder.join("metadata");
    fs::create_dir_all(&metadata).unwrap();
    let fetch = |name: &str| {
        let answer = server.get(&format!("/api/v1/metadata/{name}"));
        (answer.status == 200).then_some(answer.body)
    };
    let keep = |name: &str| {
        let bytes = fetch(name).unwrap_or_else(|| panic!("the server has no {name}"));
        fs::write(metadata.join(name), &bytes).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    for name in (1..).map(|version| format!("{version}.root.json")).take_while(|name| fetch(name).is_some()) {
        keep(&name);
    }
    let timestamp = keep("timestamp.json");
    let snapshot = keep(&format!("{}.snapshot.json", version_of(&timestamp, "snapshot.json")));
    let targets = keep(&format!("{}.targets.json", version_of(&snapshot, "targets.json")));
    for (path, target) in targets["signed"]["targets"].as_object().unwrap() {
        let (model, file) = path.split_once('/').unwrap();
        let digest = target["hashes"]["sha256"].as_str().unwrap();
        let folder = folder.join("targets").join(model);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{digest}.{file}")), fetch(path).unwrap()).unwrap();
    }
}

fn version_of(metadata: &Value, file: &str) -> u64 {
    metadata["signed"]["meta"][file]["version"].as_u64().unwrap()
}
