//! Numbers for the monitoring, in the text format of OpenMetrics.

mod fleet;

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

pub use fleet::{FleetFigures, MAX_RELEASES};

/// Every name begins with it.
const PREFIX: &str = "muster";

/// One counter for each class of HTTP answers, so that a path made up by a client makes no new series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Class {
    /// `2xx`, `4xx`, …
    pub class: &'static str,
}

/// What happened to a message of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Fate {
    /// `report`, `telemetry`, …
    pub stream: &'static str,
    /// `stored`, `refused`.
    pub fate: &'static str,
}

/// What became of a delivery to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Delivered {
    /// `delivered`, `refused`, `unreachable`, `timed_out`, `gone`.
    pub outcome: &'static str,
}

/// What drift was not looked for in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeftOut {
    /// `stratum`, `release`, `device`, `group`, `finding`.
    pub what: &'static str,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// Answers of the HTTP API.
    pub http: Family<Class, Counter>,
    /// Messages of devices.
    pub messages: Family<Fate, Counter>,
    /// Bytes of blocks sent to devices.
    pub block_bytes: Counter,
    /// Requests for blocks that were told to come later.
    pub blocks_deferred: Counter,
    /// Devices that hold a connection.
    pub connected: Gauge<i64>,
    /// Effects of rollouts that were carried out.
    pub effects: Counter<u64, AtomicU64>,
    /// Deliveries to webhooks.
    pub webhooks: Family<Delivered, Counter>,
    /// Checks for drift that were finished.
    pub drift_checks: Counter,
    /// Alarms of drift that were opened.
    pub drift_alarms: Counter,
    left_out: Family<LeftOut, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            http: Family::default(),
            messages: Family::default(),
            block_bytes: Counter::default(),
            blocks_deferred: Counter::default(),
            connected: Gauge::default(),
            effects: Counter::default(),
            webhooks: Family::default(),
            drift_checks: Counter::default(),
            drift_alarms: Counter::default(),
            left_out: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("http_answers", "Answers of the HTTP API", metrics.http.clone());
        registry.register(
            "device_messages",
            "Messages of devices by what became of them",
            metrics.messages.clone(),
        );
        registry.register("block_bytes", "Bytes of blocks sent to devices", metrics.block_bytes.clone());
        registry.register(
            "blocks_deferred",
            "Requests for blocks told to come later",
            metrics.blocks_deferred.clone(),
        );
        registry.register("devices_connected", "Devices that hold a connection", metrics.connected.clone());
        registry.register("rollout_effects", "Effects of rollouts carried out", metrics.effects.clone());
        registry.register(
            "webhook_deliveries",
            "Deliveries to webhooks by what became of them",
            metrics.webhooks.clone(),
        );
        registry.register(
            "drift_checks",
            "Checks for drift that were finished",
            metrics.drift_checks.clone(),
        );
        registry.register("drift_alarms", "Alarms of drift that were opened", metrics.drift_alarms.clone());
        registry.register(
            "drift_left_out",
            "What came for drift and was beyond a bound",
            metrics.left_out.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Counts an HTTP answer.
    pub fn answered(&self, status: u16) {
        let class = match status / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.http.get_or_create(&Class { class }).inc();
    }

    /// Counts a message of a device.
    pub fn message(&self, stream: &'static str, fate: &'static str) {
        self.messages.get_or_create(&Fate { stream, fate }).inc();
    }

    /// Counts a delivery to a webhook.
    pub fn webhook(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&Delivered { outcome }).inc();
    }

    /// Counts what was beyond a bound of drift.
    pub fn drift_left_out(&self, what: &'static str, count: u64) {
        if count > 0 {
            self.left_out.get_or_create(&LeftOut { what }).inc_by(count);
        }
    }

    /// Everything as text: what was counted here, and what the database knows of the fleet.
    #[must_use]
    pub fn text(&self, fleet: FleetFigures) -> String {
        let mut fleet_registry = Registry::with_prefix(PREFIX);
        fleet_registry.register_collector(Box::new(fleet));
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &fleet_registry))
            .and_then(|()| encode_eof(&mut text));
        written.expect("a String takes every text");
        text
    }
}
