//! A server without the rates that it ships with.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use system_tests::{
    cli::{Answer, Cli},
    fleet::token,
    http::Target,
    models::Publication,
    process::Process,
    server::serve,
    wait::{PATIENCE, try_until},
};
use tempfile::TempDir;

use crate::subject::write_lineage;

/// More than any loopback carries.
const UNLIMITED_KIB_PER_SECOND: u32 = 64 * 1_024 * 1_024;

/// A running server.
pub struct Server {
    // Dropped first, so that the process ends before its folder.
    process: Process,
    http: SocketAddr,
    scratch: TempDir,
}

impl Server {
    /// Starts it on free ports.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_on(None)
    }

    /// The same with its tables in the database at this URL.
    pub fn start_on(database: Option<&str>) -> anyhow::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("muster-bench-").tempdir()?;
        let (config, data_dir) = (scratch.path().join("muster.toml"), scratch.path().join("data"));
        fs::write(&config, config_text(&data_dir, database))?;
        let process = Process::start("muster serve", serve(&config), &scratch.path().join("server.log"));
        let ready = try_until(PATIENCE, || {
            serde_json::from_slice::<Value>(&fs::read(data_dir.join("endpoints.json")).ok()?).ok()
        });
        let Some(endpoints) = ready else {
            bail!("the server did not get ready; it said:\n{}", process.tail())
        };
        let port = endpoints["http"]
            .as_str()
            .and_then(|url| url.trim_end_matches('/').rsplit(':').next()?.parse().ok());
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, port.context("endpoints.json names the API")?));
        Ok(Self { process, http, scratch })
    }

    /// Publishes version 1 of `name`.
    pub fn publish(&self, publication: &Publication, name: &str) -> anyhow::Result<()> {
        let lineage = write_lineage(self.scratch(), "fleet-server/demo/make_digits.py")?;
        let paths = [&publication.onnx, &publication.golden, &lineage].map(|path| path.display().to_string());
        let [onnx, golden, lineage] = &paths;
        let arguments = ["model", "publish", onnx, "--name", name, "--golden", golden, "--lineage", lineage];
        succeeded(self.cli().run(arguments)).map(drop)
    }

    /// An enrolment token for `uses` devices.
    pub fn token(&self, uses: usize) -> anyhow::Result<String> {
        let answer = succeeded(token(&self.cli(), u32::try_from(uses)?, "1h"))?;
        Ok(answer.stdout.trim().to_owned())
    }

    /// HTTPS to the API.
    pub fn https(&self) -> anyhow::Result<Target> {
        Ok(Target::tls(self.http, &fs::read(self.data_dir().join("ca.pem"))?))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A folder for files.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The command line with the rights of an administrator.
    pub fn cli(&self) -> Cli {
        Cli::new(&self.data_dir().join("admin-context.toml"))
    }

    /// Keys, database and artifacts.
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }
}

fn config_text(data_dir: &Path, database: Option<&str>) -> String {
    let database = database.map_or_else(String::new, |url| format!("\n[database]\nurl = \"{url}\"\n"));
    format!(
        "data_dir = \"{}\"\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n[mqtt]\nlisten = \"127.0.0.1:0\"\n\n[limits]\n\
         blocks_kib_per_second = {UNLIMITED_KIB_PER_SECOND}\ndevice_blocks_kib_per_second = {UNLIMITED_KIB_PER_SECOND}\n{database}",
        data_dir.display()
    )
}

fn succeeded(answer: Answer) -> anyhow::Result<Answer> {
    if answer.code == Some(0) { Ok(answer) } else { bail!("{answer}") }
}
