//! A real `muster serve` with its own data directory.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::Cli,
    http::{Request, Response, Target},
    process::Process,
    programs,
    proxy::Proxy,
    wait::{PATIENCE, until},
};

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
}

impl Server {
    /// Starts a server on free ports.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None, None)
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
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let scratch = tempfile::Builder::new().prefix("muster-server-").tempdir().expect("a scratch folder");
        let mut server =
            Self { scratch, http: any_port, mqtt: any_port, advertised, device_life_secs, process: None };
        server.run();
        server
    }

    /// Starts it again, on the ports it had.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        fs::write(self.config(), self.config_text()).expect("the scratch folder is writable");
        // Left over from the last run, they would be taken for the next one's.
        let _ = fs::remove_file(self.endpoints_file());
        self.process = Some(Process::start("muster serve", serve(&self.config()), &self.log()));
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

    /// True while it was not ended by the test.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The command line with the rights of an administrator.
    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::new(&self.data_dir().join("admin-context.toml"))
    }

    /// Asks the HTTP API with the rights of an administrator.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Response {
        let headers = vec![("authorization", format!("Bearer {}", self.admin_token()))];
        let answer = self.https().send(&Request { path, headers, ..Request::default() });
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}"))
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
        let context =
            fs::read_to_string(self.data_dir().join("admin-context.toml")).expect("an administrator");
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
        format!(
            "data_dir = \"{}\"\n\n[http]\nlisten = \"{}\"\n\n[mqtt]\nlisten = \"{}\"\n{advertised}{certificates}",
            self.data_dir().display(),
            self.http,
            self.mqtt
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
    let mut command = Command::new(programs::muster());
    command.args(["serve", "--config"]).arg(config).env("NO_COLOR", "1");
    command
}

/// The port of an endpoint, on this machine: what is written may be a URL, and may name this machine in any way.
fn loopback(endpoints: &Value, name: &str) -> SocketAddr {
    let text = endpoints[name].as_str().unwrap_or_else(|| panic!("no endpoint '{name}' in {endpoints}"));
    let port = text.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or_else(|| panic!("no port in {text}"))))
}
