//! Fleets whose figures the server compares: every device reports a window, then the server takes a look.

use std::time::{Duration, Instant};

use muster::{config::Config, store::Store};
use shared::telemetry::{Delivery, DeviceHealth, Telemetry, VersionFigures};

use super::{
    DEADLINE, World,
    device::{Device, boot, now},
};

/// Looks that a judge learns from, and some more: a device's first figures are where counting begins.
pub const HISTORY: u64 = 15;

/// Looks that [`add_earlier_looks`] adds: more than two pages.
pub const EARLIER_LOOKS: u64 = 150;

/// A look every second.
pub fn every_second(config: &mut Config) {
    config.rollouts.look_secs = 1;
}

impl World {
    /// Publishes two versions of the digits.
    pub async fn publish_two(&self) {
        self.publish("digits", 1).await;
        self.publish("digits", 2).await;
    }

    /// Devices `cam-0` and on, connected and introduced.
    pub async fn join(&self, count: usize) -> Vec<Device> {
        let mut devices = Vec::new();
        for n in 0..count {
            let mut device = Device::join(self, &format!("cam-{n}")).await;
            device.hello().await;
            devices.push(device);
        }
        devices
    }

    /// The number of the newest look.
    pub async fn newest_look(&self) -> Option<u64> {
        let mut tx = self.server().app().store.begin().await.unwrap();
        Store::newest_tally(&mut tx).await.unwrap()
    }

    /// Waits for a look after `before`, which was the newest before devices reported: it may have counted the first of them.
    pub async fn until_look_after(&self, before: Option<u64>) {
        let deadline = Instant::now() + DEADLINE;
        while self.newest_look().await == before {
            assert!(Instant::now() < deadline, "no look was taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Adds looks that saw nobody before the first one of `table`, to whatever `column` names there; nobody learns anything from them.
pub async fn add_earlier_looks(world: &World, table: &str, column: &str) {
    let wave = if column == "rollout" { "wave, " } else { "" };
    let insert = format!(
        "INSERT INTO {table} ({column}, {wave}number, at, document) \
         SELECT {column}, {wave}$1, at, $2 FROM {table} ORDER BY number LIMIT 1"
    );
    let mut tx = world.server().app().store.begin().await.unwrap();
    // Backwards: each is the first one, and what is copied of it is the same.
    for number in (1..=EARLIER_LOOKS).rev() {
        let look = format!(r#"{{"number":{number},"devices":{{}}}}"#);
        let number = i64::try_from(number).unwrap();
        let insert = sqlx::query(sqlx::AssertSqlSafe(insert.clone())).bind(number).bind(look);
        insert.execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Records 40 answers of device number `n` in a round, `factor` times as slow as usual: devices differ, and each differs
/// a little from round to round.
pub fn answer_40(figures: &mut VersionFigures, n: usize, round: u64, factor: f64) {
    figures.counts.ok = 40;
    for inference in 0..40 {
        let wobble = 1.0 + 0.02 * ((round * 7 + n as u64 * 3 + inference) % 11) as f64;
        figures.latency_ms.record(((2.0 + n as f64) * wobble * factor) as f32);
    }
}

/// One window of one version.
pub fn telemetry(sequence: u64, figures: VersionFigures) -> Telemetry {
    Telemetry {
        boot: boot(),
        sequence,
        from: now(),
        to: now(),
        health: DeviceHealth::default(),
        challengers: Default::default(),
        drift_alarms: Vec::new(),
        delivery: Delivery::default(),
        versions: vec![figures],
    }
}
