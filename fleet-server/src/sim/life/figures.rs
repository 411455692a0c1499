//! Telemetry of a virtual device: made-up inferences of the versions that it serves, in the form of an agent's.
//!
//! A report that meets no session is gone; an agent keeps it on its disk. So sums over an outage are smaller here than
//! those of a real fleet, and nothing else follows from it.

use std::time::Duration;

use muster_sim::{Nature, Random, VirtualDevice};
use shared::{
    ReleaseId, Timestamp,
    telemetry::{Counts, Delivery, DeviceHealth, Telemetry, VersionFigures},
};
use tokio::time::Instant;

/// How long an inference takes on a device of the middle, in milliseconds.
const LATENCY_MS: f64 = 20.0;

/// Inferences whose time is written into a report; the rest is only counted.
const MOST_SAMPLES: u64 = 600;

/// The telemetry of a device.
pub(super) struct Figures {
    every: Option<Duration>,
    due: Instant,
    from: Timestamp,
    sequence: u64,
    /// How fast this device is, beside the one of the middle.
    own: f64,
}

impl Figures {
    /// Reports every so often from a moment on that differs from device to device; never when `every` is `None`.
    pub(super) fn new(every: Option<Duration>, now: Timestamp, random: &mut Random) -> Self {
        let first = every.unwrap_or_default() * u32::try_from(random.below(100)).unwrap_or(0) / 100;
        let own = 0.85 + random.below(30) as f64 / 100.0;
        Self { every, due: Instant::now() + first, from: now, sequence: 0, own }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.every.map(|_| self.due)
    }

    /// The report of the time until `now`.
    pub(super) fn take(&mut self, device: &VirtualDevice, now: Timestamp, random: &mut Random) -> Telemetry {
        let (from, secs) = (self.from, now.since(self.from).as_secs());
        self.sequence += 1;
        self.from = now;
        self.due = Instant::now() + self.every.unwrap_or_default();
        let inferences = u64::from(device.traffic()) * secs / 60;
        let states = device.agent().model_states();
        let served = states.iter().filter_map(|state| device.serves(&state.model));
        let versions = served.map(|release| self.version(device, release, inferences, random)).collect();
        Telemetry {
            boot: device.boot(),
            sequence: self.sequence,
            from: device.clock_at(from),
            to: device.clock_at(now),
            health: DeviceHealth { uptime_secs: secs, ..DeviceHealth::default() },
            delivery: Delivery::default(),
            challengers: Default::default(),
            drift_alarms: Vec::new(),
            versions,
        }
    }

    fn version(
        &self,
        device: &VirtualDevice,
        release: &ReleaseId,
        inferences: u64,
        random: &mut Random,
    ) -> VersionFigures {
        let nature = device.nature_of(release);
        let slower = match nature {
            Nature::Slower(percent) => 1.0 + f64::from(percent) / 100.0,
            _ => 1.0,
        };
        let mut figures = VersionFigures::new(release.clone());
        for _ in 0..inferences.min(MOST_SAMPLES) {
            let moves = 0.97 + random.below(600) as f64 / 10_000.0;
            figures.latency_ms.record((LATENCY_MS * self.own * moves * slower) as f32);
            figures.queue_ms.record(0.01);
        }
        let failed = match nature {
            Nature::FailsInferences(percent) => {
                (0..inferences).filter(|_| random.chance(percent * 10_000)).count()
            }
            _ => (0..inferences).filter(|_| random.chance(1_000)).count(),
        } as u64;
        figures.counts = Counts { ok: inferences - failed, engine_error: failed, ..Counts::default() };
        if nature == Nature::Slow {
            figures.counts.slow = inferences;
        }
        figures
    }
}
