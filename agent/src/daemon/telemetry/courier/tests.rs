use agent_store::disk::OsDisk;
use shared::{DeviceId, Timestamp, telemetry::DeviceHealth};

use super::*;
use crate::daemon::outgoing::{Publisher, TELEMETRY};

const BOUNDS: Bounds = Bounds { max_bytes: 64 * 1_024, spare_bytes: 0 };

/// A courier without its thread, and what it sends.
struct Rig {
    round: Round<OsDisk>,
    publisher: Publisher,
    now: Instant,
    connections: u64,
}

impl Rig {
    fn open(dir: &tempfile::TempDir) -> Self {
        let (outgoing, publisher) = Outgoing::new(DeviceId::new("d").unwrap());
        let spool = Spool::open(OsDisk, dir.path().join("spool"), BOUNDS).unwrap();
        let budget = Budget::open(OsDisk, dir.path().join("budget.json"));
        let clock = Clock::start(Timestamp(0));
        let interval = Duration::from_secs(30);
        let round = Round::new(spool, budget, Arc::default(), interval, outgoing, clock);
        Self { round, publisher, now: Instant::now(), connections: 0 }
    }

    fn tell(&mut self, letter: Letter) {
        self.round.read(letter, self.now);
        self.round.turn(self.now);
    }

    fn connect(&mut self) {
        self.connections += 1;
        lock(&self.round.shared).connection = Some(self.connections);
        self.tell(Letter::Look);
    }

    fn disconnect(&mut self) {
        lock(&self.round.shared).connection = None;
        self.tell(Letter::Look);
    }

    fn limit(&mut self, bytes: u64) {
        let revision = self.round.budget.limits().revision + 1;
        let telemetry_bytes_per_day = Some(bytes);
        self.tell(Letter::Limits(Limits { revision, telemetry_bytes_per_day, transfer_bytes_per_day: None }));
    }

    fn window(&mut self, sequence: u64) {
        self.tell(Letter::Window(Box::new(window(sequence))));
    }

    fn stored(&mut self, sequence: u64) {
        self.tell(Letter::Stored { boot: boot(), sequence });
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.round.turn(self.now);
    }

    /// The numbers of the windows that left since the last call.
    fn sent(&mut self) -> Vec<u64> {
        let payloads = self.publisher.waiting_windows();
        payloads
            .iter()
            .map(|payload| serde_json::from_slice::<Telemetry>(payload).unwrap().sequence)
            .collect()
    }
}

fn boot() -> BootId {
    BootId::new("boot").unwrap()
}

fn window(sequence: u64) -> Telemetry {
    Telemetry {
        boot: boot(),
        sequence,
        from: Timestamp(0),
        to: Timestamp(1),
        health: DeviceHealth::default(),
        delivery: Delivery::default(),
        versions: Vec::new(),
        challengers: Default::default(),
        drift_alarms: Vec::new(),
    }
}

#[test]
fn a_backlog_flows_as_fast_as_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    (1..=20).for_each(|sequence| rig.window(sequence));
    assert!(rig.sent().is_empty(), "nobody is there");
    rig.connect();
    assert_eq!(rig.sent(), (1..=TELEMETRY as u64).collect::<Vec<_>>());
    rig.stored(1);
    assert_eq!(rig.sent(), [TELEMETRY as u64 + 1]);
    rig.wait(Duration::from_secs(5));
    assert!(rig.sent().is_empty());
    assert_eq!(rig.round.spool.waiting().records, 19);
}

#[test]
fn what_is_not_acknowledged_is_sent_again_ever_more_rarely() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    rig.connect();
    rig.window(1);
    assert_eq!(rig.sent(), [1]);
    for (secs, sent) in [(19, 0), (1, 1), (39, 0), (1, 1), (79, 0), (1, 1)] {
        rig.wait(Duration::from_secs(secs));
        assert_eq!(rig.sent().len(), sent);
    }
    rig.stored(1);
    rig.wait(Duration::from_secs(1_000));
    assert!(rig.sent().is_empty() && rig.round.spool.waiting().records == 0);
}

#[test]
fn a_new_connection_repeats_what_was_under_way_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    rig.connect();
    (1..=2).for_each(|sequence| rig.window(sequence));
    assert_eq!(rig.sent(), [1, 2]);
    rig.stored(1);
    rig.disconnect();
    rig.window(3);
    assert!(rig.sent().is_empty());
    rig.connect();
    assert_eq!(rig.sent(), [2, 3]);
}

#[test]
fn a_killed_agent_brings_every_window_after_its_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    (1..=3).for_each(|sequence| rig.window(sequence));
    drop(rig);
    let mut rig = Rig::open(&dir);
    rig.connect();
    assert_eq!(rig.sent(), [1, 2, 3]);
}

#[test]
fn a_used_up_budget_leaves_windows_in_the_spool_and_makes_them_longer() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let cost = serde_json::to_vec(&window(1)).unwrap().len() as u64 + OVERHEAD_BYTES;
    rig.limit(2 * cost + 10);
    rig.connect();
    (1..=3).for_each(|sequence| rig.window(sequence));
    assert_eq!(rig.sent(), [1, 2]);
    (1..=2).for_each(|sequence| rig.stored(sequence));
    rig.wait(BUDGET_AGAIN);
    assert!(rig.sent().is_empty() && rig.round.spool.waiting().records == 1);
    assert_eq!(lock(&rig.round.shared).window, LONGEST_WINDOW);
    assert!(rig.round.next_look().is_some_and(|at| at > Instant::now()), "it does not spin");
    rig.limit(u64::MAX);
    assert_eq!(rig.sent(), [3]);
    assert_eq!(lock(&rig.round.shared).window, Duration::ZERO);
}

#[test]
fn a_repetition_is_paid_like_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let cost = serde_json::to_vec(&window(1)).unwrap().len() as u64 + OVERHEAD_BYTES;
    rig.limit(2 * cost);
    rig.window(1);
    let sent = (0..5).filter(|_| {
        rig.connect();
        let sent = !rig.sent().is_empty();
        rig.disconnect();
        sent
    });
    assert_eq!(sent.count(), 2);
}

#[test]
fn only_what_waits_is_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    rig.connect();
    rig.window(1);
    rig.stored(1);
    assert!(!rig.round.spool.is_at_risk());
    rig.disconnect();
    rig.window(2);
    assert!(rig.round.spool.is_at_risk());
    rig.wait(FLUSH_AFTER);
    assert!(!rig.round.spool.is_at_risk());
}
