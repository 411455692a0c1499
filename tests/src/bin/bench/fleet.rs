//! What a server can take: telemetry of many devices into each database while people ask the API, a plan for a large
//! fleet, and desired states to many devices at once.
//!
//! Server, database and devices share the cores of this machine, so every figure is that of all of them together. The
//! devices are sessions of the agents' own link: mutual TLS, MQTT, one report at a time each, the next one after the
//! server's acknowledgement. A report that was acknowledged and is not in the database afterwards
//! ends the bench.

mod cpu;
mod dispatch;
mod ingest;
mod peer;
mod planning;
mod postmaster;
mod probe;
mod speaker;

use std::env;

use shared::topic::Down;
use system_tests::{
    database::{Database, POSTGRES},
    models::Publication,
};

use crate::{
    delivery::{enrolment, server::Server},
    measure::cpu_seconds,
    report::{Row, progress},
};
use cpu::Cpu;
use postmaster::Postmaster;
use speaker::Speaker;

/// Devices that are connected. Each speaks only after the acknowledgement of what it said before, so they are what
/// fills a batch.
const DEVICES: usize = 1_000;

/// A database and the server on it.
pub struct Place {
    /// What it is called in the table.
    name: &'static str,
    server: Server,
    database: Database,
    /// Of a database that is a program of its own, on this machine.
    postmaster: Option<Postmaster>,
    /// What a report may cost server and database: two cores for 10,000 a second with SQLite, for 5,000 with PostgreSQL.
    cpu_bound_us: f64,
}

impl Place {
    /// What server and database spent on processors so far.
    fn cpu_seconds(&self) -> anyhow::Result<Cpu> {
        let database = self.postmaster.as_ref().map_or(Ok(0.0), Postmaster::cpu_seconds)?;
        Ok(Cpu { server: cpu_seconds(self.server.pid())?, database })
    }
}

/// Measures on SQLite, and on PostgreSQL where there is one.
pub fn run() -> anyhow::Result<Vec<Row>> {
    let mut places = vec![sqlite()?];
    if env::var_os(POSTGRES).is_some() {
        places.push(postgres()?);
    } else {
        progress(&format!("no PostgreSQL: {POSTGRES} is not set"));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rows = Vec::new();
    for place in &places {
        rows.extend(runtime.block_on(measure(place))?);
    }
    Ok(rows)
}

async fn measure(place: &Place) -> anyhow::Result<Vec<Row>> {
    progress(&format!("{}: publishing, and enrolling {DEVICES} devices", place.name));
    place.server.publish(&Publication::digits(1), "digits")?;
    let mut speakers = Vec::new();
    for identity in enrolment::enrol(&place.server, DEVICES)? {
        speakers.push(Speaker::connect(identity, &[Down::Acknowledgement, Down::Desired]).await?);
    }
    let (mut rows, speakers) = ingest::run(place, speakers).await?;
    rows.push(dispatch::run(place, speakers).await?);
    rows.extend(planning::run(place).await?);
    Ok(rows)
}

fn sqlite() -> anyhow::Result<Place> {
    let server = Server::start()?;
    let url = format!("sqlite://{}", server.data_dir().join("muster.db").display());
    Ok(Place { name: "SQLite", server, database: Database::at(&url), postmaster: None, cpu_bound_us: 200.0 })
}

fn postgres() -> anyhow::Result<Place> {
    let database = Database::postgres();
    let server = Server::start_on(Some(database.url()))?;
    let postmaster = Some(Postmaster::of(&database)?);
    Ok(Place { name: "PostgreSQL", server, database, postmaster, cpu_bound_us: 400.0 })
}
