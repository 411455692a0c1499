//! A real `muster serve` with its own data directory.

use std::{
    fs::{self, DirBuilder},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::Cli,
    database::Database,
    http::{Request, Response, Target},
    process::Process,
    programs,
    proxy::Proxy,
    wait::{PATIENCE, until},
};

/// The administrator's context, as the first start writes it.
const ADMIN_CONTEXT: &str = "admin-context.toml";

/// Starts every API token.
const TOKEN_PREFIX: &str = "muster_api_";

/// A server that can be stopped, killed and started again on the same ports.
#[derive(Debug)]
pub struct Server {
    /// Dropped before the folder that holds its log.
    process: Option<Process>,
    scratch: TempDir,
    /// Where the HTTP API listens, once it did.
    http: SocketAddr,
    /// Where the broker listens, once it did.
    mqtt: SocketAddr,
    /// `host:port` that devices are told, where it is not the broker's own.
    advertised: Option<String>,
    /// Life of the devices' certificates, where it is not the usual one.
    device_life_secs: Option<u64>,
    /// URL of a database that is not its own file.
    database: Option<String>,
    /// Sections of the configuration that a test sets.
    sections: String,
}

impl Server {
    /// Starts a server on free ports.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None, None)
    }

    /// Starts a server with more sections in its configuration.
    #[must_use]
    pub fn start_with_sections(sections: &str) -> Self {
        let mut server = Self::prepared(None, None);
        sections.clone_into(&mut server.sections);
        server.run();
        server
    }

    /// Starts a server that tells its devices to connect through `proxy`.
    #[must_use]
    pub fn start_behind(proxy: &Proxy) -> Self {
        let server = Self::start_with(Some(format!("localhost:{}", proxy.port())), None);
        proxy.lead_to(server.mqtt);
        server
    }

    /// Starts a server whose devices get certificates of a short life.
    #[must_use]
    pub fn start_with_device_life(life: Duration) -> Self {
        Self::start_with(None, Some(life.as_secs()))
    }

    fn start_with(advertised: Option<String>, device_life_secs: Option<u64>) -> Self {
        let mut server = Self::prepared(advertised, device_life_secs);
        server.run();
        server
    }

    fn prepared(advertised: Option<String>, device_life_secs: Option<u64>) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let scratch = tempfile::Builder::new().prefix("muster-server-").tempdir().expect("a scratch folder");
        Self {
            scratch,
            http: any_port,
            mqtt: any_port,
            advertised,
            device_life_secs,
            database: None,
            sections: String::new(),
            process: None,
        }
    }

    /// Starts a server whose tables are in `database`. It tells its devices to connect through `proxy`.
    #[must_use]
    pub fn start_on(database: &Database, proxy: &Proxy) -> Self {
        let mut server = Self::prepare(database, proxy);
        server.run();
        proxy.lead_to(server.mqtt);
        server
    }

    /// Starts a second server on the database of `first`, with its keys, as its operator does.
    #[must_use]
    pub fn start_beside(first: &Self, database: &Database, proxy: &Proxy) -> Self {
        let mut server = Self::prepare(database, proxy);
        DirBuilder::new().mode(0o700).create(server.data_dir()).expect("the scratch folder is writable");
        for name in
            fs::read_dir(first.data_dir()).expect("a server that ran").map(|entry| entry.unwrap().path())
        {
            let is_shared =
                ["key", "pem"].iter().any(|ending| name.extension().is_some_and(|is| is == *ending));
            let name = name.file_name().expect("an entry has a name").to_owned();
            if is_shared || name == ADMIN_CONTEXT {
                fs::copy(first.data_dir().join(&name), server.data_dir().join(&name)).expect("readable");
            }
        }
        server.run();
        proxy.lead_to(server.mqtt);
        server
    }

    fn prepare(database: &Database, proxy: &Proxy) -> Self {
        let database = Some(database.url().to_owned());
        Self { database, ..Self::prepared(Some(format!("localhost:{}", proxy.port())), None) }
    }

    /// Starts it again, on the ports it had.
    pub fn run(&mut self) {
        self.run_by(Command::new(programs::muster()));
    }

    /// The same by a command that lacks its arguments: its program, or one that watches it.
    pub fn run_by(&mut self, command: Command) {
        assert!(self.process.is_none(), "the server runs already");
        fs::write(self.config(), self.config_text()).expect("the scratch folder is writable");
        // Left over from the last run, they would be taken for the next one's.
        let _ = fs::remove_file(self.endpoints_file());
        let command = with_arguments(command, &self.config());
        self.process = Some(Process::start("muster serve", command, &self.log()));
        let endpoints = self.wait_for_endpoints();
        self.http = loopback(&endpoints, "http");
        self.mqtt = loopback(&endpoints, "mqtt");
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process.take().expect("the server runs").kill();
    }

    /// Ends it as an operator would.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("the server runs").stop()
    }

    /// How it ended by itself, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// True while it was not ended by the test.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The command line with the rights of an administrator.
    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::new(&self.data_dir().join(ADMIN_CONTEXT))
    }

    /// Asks the HTTP API with the rights of an administrator.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Response {
        self.ask("GET", path)
    }

    /// Tells the HTTP API something without a body, with the rights of an administrator.
    #[track_caller]
    #[must_use]
    pub fn post(&self, path: &str) -> Response {
        self.ask("POST", path)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str) -> Response {
        let headers = vec![("authorization", format!("Bearer {}", self.admin_token()))];
        let answer =
            self.https().send(&Request { method: Some(method), path, headers, ..Request::default() });
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// HTTPS to the API, without any rights.
    #[must_use]
    pub fn https(&self) -> Target {
        Target::tls(self.http, &fs::read(self.ca_file()).expect("a server that ran has a CA"))
    }

    /// Where the broker listens.
    #[must_use]
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// Where the HTTP API listens.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The fleet's CA certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.data_dir().join("ca.pem")
    }

    /// Keys, database and artifacts.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.scratch.path().join("muster.toml")
    }

    /// A folder for files of the test.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// What it says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("server.log")
    }

    fn admin_token(&self) -> String {
        let context = fs::read_to_string(self.data_dir().join(ADMIN_CONTEXT)).expect("an administrator");
        let start = context.find(TOKEN_PREFIX).expect("the context holds a token");
        context[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect()
    }

    fn config_text(&self) -> String {
        let advertised = match &self.advertised {
            Some(address) => format!("public_address = \"{address}\"\n"),
            None => String::new(),
        };
        let certificates = match self.device_life_secs {
            Some(secs) => format!("\n[certificates]\ndevice_life_secs = {secs}\n"),
            None => String::new(),
        };
        let database = match &self.database {
            Some(url) => format!("\n[database]\nurl = \"{url}\"\n"),
            None => String::new(),
        };
        format!(
            "data_dir = \"{}\"\n\n[http]\nlisten = \"{}\"\n\n[mqtt]\nlisten = \"{}\"\n{advertised}{certificates}{database}\n{}",
            self.data_dir().display(),
            self.http,
            self.mqtt,
            self.sections
        )
    }

    fn endpoints_file(&self) -> PathBuf {
        self.data_dir().join("endpoints.json")
    }

    fn wait_for_endpoints(&mut self) -> Value {
        let file = self.endpoints_file();
        let process = self.process.as_mut().expect("just started");
        until("the server is ready", PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("the server ended with {status} instead of getting ready");
            }
            serde_json::from_slice(&fs::read(&file).ok()?).ok()
        })
    }
}

/// `muster serve` with a configuration file.
#[must_use]
pub fn serve(config: &Path) -> Command {
    with_arguments(Command::new(programs::muster()), config)
}

fn with_arguments(mut command: Command, config: &Path) -> Command {
    command.args(["serve", "--config"]).arg(config).env("NO_COLOR", "1");
    command
}

/// The port of an endpoint, on this machine: what is written may be a URL, and may name this machine in any way.
fn loopback(endpoints: &Value, name: &str) -> SocketAddr {
    let text = endpoints[name].as_str().unwrap_or_else(|| panic!("no endpoint '{name}' in {endpoints}"));
    let port = text.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or_else(|| panic!("no port in {text}"))))
}
