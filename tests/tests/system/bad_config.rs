//! Files with mistakes and ports that are taken.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

use system_tests::{
    cli::{Answer, answer},
    device::{Device, DeviceOptions},
    fleet::Fleet,
    programs::muster,
    server::serve,
};

/// A program that must end by itself is ended here if it does not: exit code 124.
fn with_deadline(program: &Command) -> Answer {
    let mut command = Command::new("timeout");
    command.arg("20").arg(program.get_program()).args(program.get_args());
    answer(command)
}

fn run_agent(device: &Device) -> Answer {
    let mut command = device.agent();
    command.args(["run", "--config"]).arg(device.config());
    with_deadline(&command)
}

fn serve_with(config: &str) -> Answer {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("muster.toml");
    fs::write(&file, format!("data_dir = \"{}\"\n{config}", scratch.path().join("data").display())).unwrap();
    let answer = with_deadline(&serve(&file));
    assert!(!scratch.path().join("data/ca.pem").exists(), "a wrong configuration made something");
    answer
}

#[test]
fn a_typo_in_the_servers_file_is_shown_with_line_and_column() {
    let answer = serve_with("\n[http]\nlisten = \"127.0.0.1:0\"\n\n[mqtt]\nlisen = \"127.0.0.1:0\"\n");
    let _ = answer.fails().says(&["muster.toml:7:1", "lisen", "listen"]).is_clear();
}

#[test]
fn a_value_of_the_wrong_kind_is_shown_with_what_was_expected() {
    let answer = serve_with("\n[http]\nlisten = \"everywhere\"\n");
    let _ = answer.fails().says(&["muster.toml:4:10", "socket address"]).is_clear();
}

#[test]
fn config_check_finds_the_same_mistakes_without_a_server() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("muster.toml");
    let check = || {
        let mut command = Command::new(muster());
        command.args(["config", "check"]).arg(&file);
        answer(command)
    };
    fs::write(&file, "[limits]\nupload = 3\n").unwrap();
    let _ = check().fails().says(&["muster.toml:2:1", "upload_mib"]).is_clear();
    fs::write(&file, "[limits]\nupload_mib = 3\n").unwrap();
    let _ = check().ok();
}

#[test]
fn a_typo_in_the_agents_file_is_shown_with_line_and_column() {
    let device = Device::new("cam-1", DeviceOptions::default());
    fs::write(device.config(), "[serving]\nhtp = \"127.0.0.1:0\"\n").unwrap();
    let _ = run_agent(&device).fails().says(&["agent.toml", "line 2", "column 1", "htp", "http"]).is_clear();
}

#[test]
fn an_agent_serves_loopback_only() {
    let device = Device::new("cam-1", DeviceOptions::default());
    fs::write(device.config(), "[serving]\nhttp = \"0.0.0.0:0\"\n").unwrap();
    let _ = run_agent(&device).fails().says(&["serving.http", "loopback"]).is_clear();
}

#[test]
fn a_port_in_use_is_named_by_the_server() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    for section in ["http", "mqtt"] {
        let other = if section == "http" { "mqtt" } else { "http" };
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("muster.toml");
        let data = scratch.path().join("data");
        let text = format!(
            "data_dir = \"{}\"\n[{section}]\nlisten = \"127.0.0.1:{port}\"\n[{other}]\nlisten = \"127.0.0.1:0\"\n",
            data.display()
        );
        fs::write(&file, text).unwrap();
        let _ = with_deadline(&serve(&file)).fails().says(&[&port.to_string(), "in use"]).is_clear();
    }
}

#[test]
fn a_port_in_use_is_named_by_the_agent() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let fleet = Fleet::start(0);
    let device = Device::new("cam-1", DeviceOptions::default());
    let _ = device.enroll(&fleet.token()).ok();
    let text =
        format!("data_dir = \"{}\"\n[serving]\nhttp = \"127.0.0.1:{port}\"\n", device.data_dir().display());
    fs::write(device.config(), text).unwrap();
    let _ = run_agent(&device).fails().says(&[&port.to_string(), "in use"]).is_clear();
}

#[test]
fn two_servers_never_share_a_data_directory() {
    let fleet = Fleet::start(0);
    let _ = with_deadline(&serve(&fleet.server.config())).fails().says(&["another server"]).is_clear();
    assert_eq!(fleet.server.get("/healthz").status, 200);
}
