//! The program `muster` as people and scripts use it: what it says, where, and with which exit code.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use crate::server_world::World;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

fn muster() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    for variable in ["MUSTER_CONTEXT", "MUSTER_SERVER", "MUSTER_TOKEN", "MUSTER_CA"] {
        command.env_remove(variable);
    }
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").kill_on_drop(true);
    command
}

async fn run(context: &Path, line: &str) -> (i32, String, String) {
    said(muster().env("MUSTER_CONTEXT", context).args(line.split(' ')).output().await.unwrap())
}

/// The exit code and the talk of a command whose data nobody reads.
async fn without_reader(context: &Path, line: &str) -> (i32, String) {
    let mut command = muster();
    command
        .env("MUSTER_CONTEXT", context)
        .args(line.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let (code, _, err) = said(child.wait_with_output().await.unwrap());
    (code, err)
}

fn said(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn demo(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("demo").join(name).display().to_string()
}

fn publish(version: u32) -> String {
    let part = |name: &str| demo(&format!("digits-v{version}{name}"));
    format!(
        "model publish {} --name digits --lineage {} --golden {} --reference {} -o name",
        part(".onnx"),
        part("-lineage.toml"),
        part("-golden.npz"),
        demo("digits-reference.npz")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_published_and_rolled_out_from_the_command_line() {
    let world = World::start().await;
    let context = world.context();
    let (code, out, err) = run(&context, &publish(1)).await;
    assert_eq!((code, out.as_str()), (0, "digits@1\n"), "{err}");
    let (code, out, err) = run(&context, &publish(1)).await;
    assert_eq!((code, out.as_str()), (0, "digits@1\n"));
    assert!(err.contains("already"), "{err}");
    let (_, out, _) = run(&context, "model show digits@1").await;
    assert!(out.contains("input         image FP32"), "{out}");

    let (code, token, err) = run(&context, "enroll token create --label site=berlin --uses 2 -o name").await;
    assert_eq!((code, token.lines().count()), (0, 1), "{err}");
    world.enroll(&token.parse().unwrap(), Some("cam-7")).await;
    let (_, out, _) = run(&context, "device list -l site=berlin -o name").await;
    assert_eq!(out, "cam-7\n");
    let (_, out, _) = run(&context, "device label cam-7 env=lab site- -o json").await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["labels"], json!({"env": "lab"}));

    let (_, out, _) = run(&context, "rollout plan digits@1 --to env=lab --waves 1,all").await;
    assert!(out.contains("cam-7  from nothing") && out.contains("offline"), "{out}");
    let (code, id, err) = run(&context, "rollout start digits@1 --to env=lab -o name").await;
    assert_eq!(code, 0, "{err}");
    let id = id.trim();
    let (code, out, err) = run(&context, &format!("rollout status {id} --watch --timeout 0s")).await;
    assert_eq!(code, 4, "{err}");
    assert_eq!(out, "rollout running\nwave 1 updating\ncam-7  asked\n", "a line for each change");
    let (code, err) = without_reader(&context, &format!("rollout status {id} --watch")).await;
    assert_eq!((code, err.as_str()), (0, ""), "a reader that has gone wants no more, and that is no failure");
    let (_, out, _) = run(&context, &format!("rollout status {id} --watch --timeout 0s -o json")).await;
    let line: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((out.lines().count(), &line["status"]["state"]["kind"]), (1, &json!("running")), "{out}");
    let (code, _, _) = run(&context, &format!("rollout pause {id}")).await;
    assert_eq!(code, 0);
    let (code, _, err) = run(&context, &format!("rollout pause {id}")).await;
    assert_eq!(code, 6, "{err}");
    let (code, _, _) = run(&context, &format!("rollout halt {id} --reason enough")).await;
    assert_eq!(code, 0);
    let (code, out, err) = run(&context, &format!("rollout status {id} --watch")).await;
    assert_eq!(code, 3, "{err}");
    assert!(out.starts_with("rollout halted\nwhy: stopped by admin: enough\n"), "{out}");
    assert!(err.contains("stopped by admin: enough"), "{err}");
    let (_, out, _) = run(&context, "device why cam-7").await;
    assert!(out.contains(id) && out.contains("offline"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_scripts_what_happened() {
    let world = World::start().await;
    let context = world.context();
    let (code, _, err) = run(&context, "device show ghost").await;
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("there is no device ghost") && err.contains("try: "), "{err}");
    assert_eq!(run(&context, "device shwo ghost").await.0, 2);
    assert_eq!(run(&context, "rollout plan digits --to all").await.0, 2);

    let (_, viewer, _) = run(&context, "token create eve --role viewer -o name").await;
    let ca = world.folder.path().join("data/ca.pem");
    let as_viewer = |server: &str| {
        let mut command = muster();
        command.env("MUSTER_SERVER", server).env("MUSTER_TOKEN", viewer.trim()).env("MUSTER_CA", &ca);
        command
    };
    let url = world.server().endpoints().url.clone();
    let (code, out, _) = said(as_viewer(&url).args(["device", "list"]).output().await.unwrap());
    assert_eq!(code, 0, "{out}");
    let (code, _, err) = said(as_viewer(&url).args(["token", "list"]).output().await.unwrap());
    assert_eq!(code, 5, "{err}");
    let (code, _, err) =
        said(as_viewer("https://127.0.0.1:1").args(["device", "list"]).output().await.unwrap());
    assert_eq!(code, 8, "{err}");
    let (code, _, err) = said(muster().args(["device", "list"]).output().await.unwrap());
    assert_eq!(code, 2);
    assert!(err.contains("admin-context.toml"), "{err}");

    let (_, listed, _) = run(&context, "token list -o json").await;
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let eve = listed.iter().find(|token| token["name"] == "eve").unwrap();
    assert_eq!(run(&context, &format!("token revoke {}", eve["id"].as_str().unwrap())).await.0, 0);
    let (code, _, err) = said(as_viewer(&url).args(["device", "list"]).output().await.unwrap());
    assert_eq!(code, 5, "{err}");
}

#[tokio::test]
async fn a_mistake_in_the_configuration_is_placed_and_the_defaults_are_fine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("muster.toml");
    let check = || async { said(muster().arg("config").arg("check").arg(&file).output().await.unwrap()) };
    std::fs::write(&file, "[http]\nlisten = 7\n").unwrap();
    let (code, _, err) = check().await;
    assert_eq!(code, 2);
    assert!(err.contains("muster.toml:2:10"), "{err}");
    let (_, defaults, _) = said(muster().args(["config", "defaults"]).output().await.unwrap());
    std::fs::write(&file, defaults).unwrap();
    assert_eq!(check().await.0, 0);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut serve = serve(folder.path());
    serve.env("MUSTER__HTTP__LISTEN", taken.local_addr().unwrap().to_string());
    let (code, _, err) = said(serve.output().await.unwrap());
    assert_eq!(code, 1);
    assert!(err.contains("the port is in use") && err.contains("http.listen"), "{err}");
}

fn serve(folder: &Path) -> Command {
    let mut command = muster();
    command.arg("serve").arg("--data-dir").arg(folder.join("data"));
    command.env("MUSTER__HTTP__LISTEN", "127.0.0.1:0").env("MUSTER__MQTT__LISTEN", "127.0.0.1:0");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_shows_a_token_once_and_a_stop_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let first = start_and_stop(folder.path()).await;
    assert!(first.contains("muster_api_") && first.contains("export MUSTER_CONTEXT="), "{first}");
    let second = start_and_stop(folder.path()).await;
    assert!(!second.contains("muster_api_"), "{second}");
    assert!(second.contains("stopping") && !second.contains('\u{1b}'), "no colours in a file: {second}");
}

/// Runs the server until it is ready and the command line reaches it, then ends it as the system would.
async fn start_and_stop(folder: &Path) -> String {
    let mut server = serve(folder).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let mut talk = String::new();
    while !talk.contains("muster is ready") {
        talk.push_str(&lines.next_line().await.unwrap().expect("the server becomes ready"));
        talk.push('\n');
    }
    let (code, _, err) = run(&folder.join("data/admin-context.toml"), "device list").await;
    assert_eq!(code, 0, "{err}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        talk.push_str(&line);
        talk.push('\n');
    }
    assert!(server.wait().await.unwrap().success(), "{talk}");
    talk
}
