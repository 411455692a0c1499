//! How long a plan will take if all goes well: known before anything starts, so that a person sees that a ramp takes weeks or
//! that a window lets nobody pass before Monday.
//!
//! Counted are the pace of the ramp with the commits that speed it up, windows, freezes, the transfer at a stated rate, the
//! probation of the release and the bake time. Not counted are self-tests, which take seconds, and what nobody can know:
//! devices that are offline (they hold nothing up) and people who have to agree.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use shared::Timestamp;

use super::{Plan, PlannedDevice, Reach, ReleaseNeeds, WaveKind, WavePlan};
use crate::{rollout::Freeze, strategy::Strategy};

/// Bytes that a device is expected to fetch in a second: 8 Mbit/s, a modest uplink that nobody else uses. It is said beside
/// every figure that it was used for.
pub const LINK_BYTES_PER_SEC: u64 = 1_000_000;

/// Windows and freezes that are waited for in a row, at most; who then still has not found a free moment is counted there.
const MAX_WAITS: usize = 64;

/// How long a plan takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The rate at which devices were expected to fetch it, in bytes per second.
    pub link_bytes_per_sec: u64,
    /// How long one device takes from the question until it keeps the release, in seconds.
    pub passage_secs: u64,
    /// Each wave, in order.
    pub waves: Vec<ExpectedWave>,
    /// Seconds from the start until the last wave passes.
    pub total_secs: u64,
}

/// When the steps of a wave are expected, in seconds from the start of the rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedWave {
    /// Its first device is asked.
    pub asked_from_secs: u64,
    /// Its last one is.
    pub asked_until_secs: u64,
    /// All have settled.
    pub settled_secs: u64,
    /// It passes.
    pub passes_secs: u64,
    /// So much longer it takes at most, before it is held, when devices fall silent and the metrics do not decide.
    pub at_most_longer_secs: u64,
    /// Somebody has to agree first; that time is not counted.
    pub waits_for_approval: bool,
    /// Too few of its devices are connected to pass; the time until they are is not counted.
    pub waits_for_quorum: bool,
}

impl Plan {
    /// Works out how long it takes, with the freezes and approvals as they stand in it now.
    pub fn expect(&mut self, strategy: &Strategy, needs: &ReleaseNeeds) {
        let passage_secs = needs.size_bytes.div_ceil(LINK_BYTES_PER_SEC) + needs.probation_secs;
        let mut clock = Clock::new(self, strategy, passage_secs, needs.probation_secs);
        let last = self.waves.len().saturating_sub(1);
        let waves: Vec<_> =
            self.waves.iter().enumerate().map(|(at, wave)| clock.wave(wave, at < last)).collect();
        self.expected = Expected {
            link_bytes_per_sec: LINK_BYTES_PER_SEC,
            passage_secs,
            total_secs: waves.last().map_or(0, |wave| wave.passes_secs),
            waves,
        };
    }
}

/// A rollout in which all goes well.
struct Clock<'a> {
    strategy: &'a Strategy,
    freezes: &'a [Freeze],
    passage: Duration,
    /// The last stretch of the passage, in which a device rightly says nothing.
    probation_secs: u64,
    start: Timestamp,
    now: Timestamp,
    /// When the next device may be asked, by the ramp alone.
    paced_at: Timestamp,
    /// When devices that were asked will keep it, earliest first.
    on_their_way: VecDeque<Timestamp>,
    kept: usize,
}

impl<'a> Clock<'a> {
    fn new(plan: &'a Plan, strategy: &'a Strategy, passage_secs: u64, probation_secs: u64) -> Self {
        let (passage, start) = (Duration::from_secs(passage_secs), plan.planned_at);
        Self {
            strategy,
            freezes: &plan.freezes,
            passage,
            probation_secs,
            start,
            now: start,
            paced_at: start,
            on_their_way: VecDeque::new(),
            kept: 0,
        }
    }

    fn wave(&mut self, wave: &WavePlan, has_others_behind: bool) -> ExpectedWave {
        let connected: Vec<_> = wave.devices.iter().filter(|it| it.reach == Reach::Connected).collect();
        let mut free: Vec<_> = connected.iter().map(|device| self.free_at(device)).collect();
        free.sort();
        let asked: Vec<_> = free.into_iter().map(|at| self.ask(at)).collect();
        let (first, last) = (asked.first().copied(), asked.last().copied());
        let (first, last) = (first.unwrap_or(self.now), last.unwrap_or(self.now));
        let settled = if asked.is_empty() { last } else { last + self.passage };
        self.now = settled + Duration::from_secs(wave.bake_time_secs);
        let quorum = (wave.devices.len() * self.strategy.quorum_percent as usize).div_ceil(100).max(1);
        ExpectedWave {
            asked_from_secs: self.secs(first),
            asked_until_secs: self.secs(last),
            settled_secs: self.secs(settled),
            passes_secs: self.secs(self.now),
            at_most_longer_secs: self.at_most_longer(wave, has_others_behind),
            waits_for_approval: wave.approve,
            waits_for_quorum: connected.len() < quorum,
        }
    }

    /// Asks a device at `free` or when the ramp allows.
    fn ask(&mut self, free: Timestamp) -> Timestamp {
        let at = free.max(self.paced_at);
        while self.on_their_way.front().is_some_and(|kept| *kept <= at) {
            self.on_their_way.pop_front();
            self.kept += 1;
        }
        let interval = self.strategy.ramp.map_or(Duration::ZERO, |ramp| ramp.interval(self.kept));
        self.paced_at = at + interval;
        self.on_their_way.push_back(at + self.passage);
        at
    }

    /// When windows and freezes let a device be asked.
    fn free_at(&self, device: &PlannedDevice) -> Timestamp {
        let mut at = self.now;
        for _ in 0..MAX_WAITS {
            let windows = self.strategy.windows.as_ref();
            let open = windows.map_or(at, |windows| windows.opens_at(at, device.utc_offset_secs));
            let freeze = self.freezes.iter().find(|freeze| freeze.holds(&device.device, open));
            match freeze {
                None => return open,
                Some(freeze) => at = freeze.until,
            }
        }
        at
    }

    fn at_most_longer(&self, wave: &WavePlan, has_others_behind: bool) -> u64 {
        // Whoever says last that its probation begins was expected to keep the release when that is over. The patience is
        // longer, or there would be no plan.
        let silence = self.strategy.silent_after_secs.saturating_sub(self.probation_secs);
        let is_compared = wave.kind == WaveKind::Step && has_others_behind;
        let gate = self.strategy.metrics.as_ref().filter(|_| is_compared);
        silence + gate.map_or(0, |gate| gate.max_bake_secs.saturating_sub(wave.bake_time_secs))
    }

    fn secs(&self, at: Timestamp) -> u64 {
        at.since(self.start).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use shared::maintenance::MaintenanceWindows;

    use super::*;
    use crate::{
        fixtures::{fleet, needs, planned, spec},
        plan,
        strategy::{MetricGate, Ramp, WaveShare, WaveSpec},
    };

    fn expected(strategy: Strategy, devices: usize) -> Expected {
        planned(strategy, &fleet(devices)).expected
    }

    fn wave(share: WaveShare, bake_time_secs: u64) -> WaveSpec {
        WaveSpec { bake_time_secs, ..WaveSpec::of(share) }
    }

    #[test]
    fn a_plan_counts_transfer_probation_and_bake_time_of_each_wave() {
        let waves = vec![wave(WaveShare::Count(1), 600), wave(WaveShare::All, 60)];
        let expected = expected(Strategy { waves, ..Strategy::default() }, 3);
        // A second for the transfer, and a minute of probation.
        assert_eq!(expected.passage_secs, 61);
        let passes: Vec<_> = expected.waves.iter().map(|wave| wave.passes_secs).collect();
        assert_eq!(passes, [661, 661 + 61 + 60]);
        assert_eq!(expected.total_secs, 782);
        assert_eq!(expected.waves[0].at_most_longer_secs, 86_400 - 60);
    }

    #[test]
    fn a_ramp_that_grows_with_commits_is_counted_with_them() {
        let steady = Strategy { ramp: Some(Ramp::steady(1)), ..Strategy::default() };
        assert_eq!(expected(steady, 11).waves[0].asked_until_secs, 600);
        let ramp = Ramp { per_minute: 1, factor: 2, after: 2, max_per_minute: 60 };
        let growing = expected(Strategy { ramp: Some(ramp), ..Strategy::default() }, 11);
        // The device that is asked after three minutes finds two that keep it: from then on two a minute, and so on.
        assert!((200..600).contains(&growing.waves[0].asked_until_secs), "{growing:?}");
    }

    #[test]
    fn windows_and_freezes_are_waited_for() {
        // The fixtures plan in the first second of 1970, a Thursday.
        let windows = MaintenanceWindows::new(vec!["Fri 02:00-04:00".parse().unwrap()]).unwrap();
        let strategy = Strategy { windows: Some(windows), ..Strategy::default() };
        let mut plan = planned(strategy.clone(), &fleet(2));
        let friday_at_two = 26 * 3_600 - 1;
        assert_eq!(plan.expected.waves[0].asked_from_secs, friday_at_two);
        let until = Timestamp((26 * 3_600 + 1_800) * 1_000);
        plan.freezes.push(Freeze {
            id: "fair".into(),
            from: Timestamp(0),
            until,
            reason: "a fair".into(),
            devices: None,
        });
        plan.expect(&strategy, &needs());
        assert_eq!(plan.expected.waves[0].asked_from_secs, friday_at_two + 1_800);
    }

    #[test]
    fn what_nobody_can_know_is_said_and_not_counted() {
        let mut fleet = fleet(4);
        fleet.iter_mut().take(3).for_each(|device| device.connected = false);
        let mut strategy =
            Strategy { control_percent: 25, metrics: Some(MetricGate::default()), ..Strategy::default() };
        strategy.waves[0].approve = true;
        let plan = plan(&spec("all", strategy), &needs(), &fleet, &[], Timestamp(1_000)).unwrap();
        let first = &plan.expected.waves[0];
        assert!(first.waits_for_approval && first.waits_for_quorum);
        assert_eq!(first.at_most_longer_secs, 86_400 - 60 + 86_400);
    }
}
