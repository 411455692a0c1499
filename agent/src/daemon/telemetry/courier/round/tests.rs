use std::sync::{Arc, OnceLock};

use agent_store::{disk::OsDisk, spool::Bounds};
use muster_sketch::{
    reference::{FeatureReference, NumericReference, Reference, ReferenceValues},
    window::{FeatureWindow, Origin, Window},
};
use shared::{
    BootId, DeviceId, Timestamp,
    message::{Limits, Stream},
    telemetry::{DeviceHealth, Telemetry},
    topic::Up,
};

use super::*;
use crate::daemon::{
    outgoing::{Publisher, TELEMETRY},
    telemetry::courier::{Courier, Name, Told},
};

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
        let clock = Clock::over(midnight, Timestamp(0));
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

    fn sketch(&mut self, sequence: u64) {
        self.tell(Letter::Sketch(sketch(sequence)));
    }

    /// A window that tells this alarm.
    fn alarming_window(&mut self, sequence: u64, alarm: DriftAlarm) {
        let window = Telemetry { drift_alarms: vec![alarm], ..window(sequence) };
        self.tell(Letter::Window(Box::new(window)));
    }

    fn told(&self) -> Vec<DriftAlarm> {
        std::mem::take(&mut lock(&self.round.shared).told)
    }

    fn lost(&self) -> u64 {
        lock(&self.round.shared).delivery.windows_lost
    }

    fn stored(&mut self, sequence: u64) {
        self.stored_in(Stream::Telemetry, sequence);
    }

    fn stored_in(&mut self, stream: Stream, sequence: u64) {
        self.tell(Letter::Stored(Name { stream, boot: boot(), sequence }));
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.round.turn(self.now);
    }

    /// The numbers of the windows that left since the last call.
    fn sent(&mut self) -> Vec<u64> {
        let sent = self.sent_of_both();
        assert!(sent.iter().all(|(stream, _)| *stream == Stream::Telemetry), "{sent:?}");
        sent.into_iter().map(|(_, sequence)| sequence).collect()
    }

    /// The same with windows of features among them. Each leaves on the topic of its kind.
    fn sent_of_both(&mut self) -> Vec<(Stream, u64)> {
        let payloads = self.publisher.waiting_windows();
        let name = |(up, payload): &(Up, bytes::Bytes)| {
            let name = under_way::name_of(payload).unwrap();
            let topic = if name.stream == Stream::Sketch { Up::Sketches } else { Up::Telemetry };
            assert_eq!((*up, name.boot), (topic, boot()));
            (name.stream, name.sequence)
        };
        payloads.iter().map(name).collect()
    }
}

const DAY_MS: u64 = 86_400_000;

/// The beginning of a day. Clocks of tests go on from here, by fractions of a second.
fn midnight() -> Timestamp {
    Timestamp(25_000 * DAY_MS)
}

fn at_nine_tenths_of_the_day() -> Timestamp {
    Timestamp(25_000 * DAY_MS + DAY_MS / 10 * 9)
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

fn alarm(feature: &str) -> DriftAlarm {
    let text = r#"{"direction":{"score":"location","sign":"up"},"evidence":2.0,"threshold":1.0,"at_secs":9,"since_secs":0,"checks":1,"samples":9,"shift":1.0}"#;
    let alarm = serde_json::from_str(text).unwrap();
    DriftAlarm { release: "digits@1".parse().unwrap(), feature: feature.into(), alarm }
}

fn reference() -> &'static Arc<Reference> {
    static REFERENCE: OnceLock<Arc<Reference>> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let sample: Vec<f32> = (0..1_000_u16).map(f32::from).collect();
        let values = ReferenceValues::Numeric(NumericReference::from_sample("level", &sample).unwrap());
        let feature = FeatureReference { name: "level".into(), values };
        Arc::new(Reference::new(vec![feature]).unwrap())
    })
}

/// A window of features as it travels.
fn sketch(sequence: u64) -> Vec<u8> {
    let mut counted = FeatureWindow::new(Arc::clone(reference()));
    (0..50_u8).for_each(|row| counted.record(&[f32::from(row)], &[]).unwrap());
    let window = Window {
        reference: reference().id(),
        origin: Origin { device: "d".into(), boot: "boot".into() },
        sequence,
        from_ms: 0,
        to_ms: 1,
        stride: 1,
        features: counted.seal().unwrap(),
    };
    let window = window.encode(reference()).unwrap();
    SketchMessage { release: "digits@1".parse().unwrap(), window: &window }.encode()
}

#[test]
fn both_kinds_leave_in_the_order_in_which_they_came_each_on_its_topic() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    rig.window(1);
    rig.sketch(1);
    rig.window(2);
    rig.connect();
    let expected = [(Stream::Telemetry, 1), (Stream::Sketch, 1), (Stream::Telemetry, 2)];
    assert_eq!(rig.sent_of_both(), expected);
}

#[test]
fn an_acknowledgement_of_one_kind_releases_no_window_of_the_other_with_the_same_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    rig.connect();
    rig.window(1);
    rig.sketch(1);
    assert_eq!(rig.sent_of_both(), [(Stream::Telemetry, 1), (Stream::Sketch, 1)]);
    rig.stored_in(Stream::Sketch, 1);
    rig.stored_in(Stream::Sketch, 1);
    rig.stored_in(Stream::Report, 1);
    rig.disconnect();
    rig.connect();
    assert_eq!(rig.sent_of_both(), [(Stream::Telemetry, 1)]);
    rig.stored(1);
    assert_eq!(rig.round.spool.waiting().records, 0);
}

#[test]
fn a_killed_agent_brings_windows_of_both_kinds_after_its_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    rig.connect();
    rig.sketch(1);
    rig.window(1);
    assert_eq!(rig.sent_of_both(), [(Stream::Sketch, 1), (Stream::Telemetry, 1)]);
    rig.sketch(2);
    rig.stored_in(Stream::Sketch, 1);
    drop(rig);
    let mut rig = Rig::open(&dir);
    rig.connect();
    assert_eq!(rig.sent_of_both(), [(Stream::Telemetry, 1), (Stream::Sketch, 2)]);
    rig.stored(1);
    rig.stored_in(Stream::Sketch, 2);
    assert_eq!(rig.round.spool.waiting().records, 0);
}

#[test]
fn a_server_that_knows_no_windows_of_features_still_gets_all_telemetry() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    (1..=10).for_each(|sequence| rig.sketch(sequence));
    rig.connect();
    let (mut told, mut given_up_after) = (vec![], None);
    for sequence in 1..=100 {
        rig.window(sequence);
        for (stream, sequence) in rig.sent_of_both() {
            if stream == Stream::Telemetry {
                told.push(sequence);
                rig.stored(sequence);
            }
        }
        rig.wait(Duration::from_secs(30));
        if rig.round.spool.waiting().records == 0 {
            given_up_after.get_or_insert(sequence);
        }
    }
    assert_eq!(told, (1..=100).collect::<Vec<_>>());
    assert!(given_up_after.is_some_and(|windows| (40..80).contains(&windows)), "{given_up_after:?}");
    assert_eq!(rig.lost(), 10, "what is given up is told as lost");
    rig.sketch(11);
    assert_eq!(rig.sent_of_both(), [(Stream::Sketch, 11)], "it is asked again with the next");
}

#[test]
fn a_link_that_is_cut_again_and_again_costs_no_window_of_features() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    (1..=10).for_each(|sequence| rig.sketch(sequence));
    for sequence in 1..=100 {
        rig.window(sequence);
        rig.connect();
        // There is time for one window of telemetry, and the link is cut before another one.
        assert!(rig.sent_of_both().contains(&(Stream::Telemetry, sequence)));
        rig.stored(sequence);
        rig.wait(Duration::from_secs(5));
        rig.disconnect();
    }
    assert_eq!((rig.lost(), rig.round.spool.waiting().records), (0, 10));
}

#[test]
fn a_window_of_features_that_waits_for_long_makes_no_telemetry_leave_twice_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let (_, features) = costs();
    rig.limit(2 * features + 20);
    rig.sketch(1);
    rig.connect();
    assert_eq!(rig.sent_of_both(), [(Stream::Sketch, 1)]);
    rig.limit(u64::MAX);
    for sequence in 1..=50 {
        rig.window(sequence);
        rig.sent_of_both();
        rig.stored(sequence);
    }
    drop(rig);
    let mut rig = Rig::open(&dir);
    rig.connect();
    assert_eq!(rig.sent_of_both(), [(Stream::Sketch, 1)]);
}

#[test]
fn a_server_that_stores_nothing_for_days_loses_nothing_of_either_kind() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    (1..=3).for_each(|sequence| rig.sketch(sequence));
    (1..=5).for_each(|sequence| rig.window(sequence));
    rig.connect();
    for _ in 0..1_000 {
        rig.wait(Duration::from_secs(300));
        rig.sent_of_both();
    }
    // It stores again, and telemetry happens to come first.
    for sequence in 1..=5 {
        rig.stored(sequence);
        rig.wait(Duration::from_secs(300));
        rig.sent_of_both();
    }
    assert_eq!(rig.round.spool.waiting().records, 3);
    (1..=3).for_each(|sequence| rig.stored_in(Stream::Sketch, sequence));
    assert_eq!(rig.round.spool.waiting().records, 0);
}

#[test]
fn telemetry_passes_however_many_windows_of_features_wait_and_they_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    (1..=100).for_each(|sequence| rig.sketch(sequence));
    rig.window(1);
    rig.connect();
    assert_eq!(rig.sent_of_both(), [(Stream::Sketch, 1), (Stream::Sketch, 2), (Stream::Telemetry, 1)]);
    for sequence in 1..=98 {
        rig.stored_in(Stream::Sketch, sequence);
        let sent = rig.sent_of_both();
        assert!(sent.contains(&(Stream::Sketch, sequence + 2)), "{sequence}: {sent:?}");
    }
    rig.stored(1);
    (99..=100).for_each(|sequence| rig.stored_in(Stream::Sketch, sequence));
    assert_eq!(rig.round.spool.waiting().records, 0);
}

#[test]
fn a_sketch_that_cannot_be_read_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let whole = sketch(1);
    let (release, torn) = (&whole[..8], &whole[..12 + 20]);
    rig.tell(Letter::Sketch(release.to_vec()));
    rig.tell(Letter::Sketch(torn.to_vec()));
    rig.window(1);
    rig.connect();
    assert_eq!(rig.sent(), [1]);
    assert_eq!((rig.round.spool.waiting().records, rig.lost()), (1, 2));
}

#[test]
fn an_alarm_is_told_when_the_server_has_stored_it_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    rig.alarming_window(1, alarm("ink"));
    rig.connect();
    rig.round.flush();
    assert_eq!(rig.sent(), [1]);
    assert_eq!(rig.told(), [], "it is on its way");
    drop(rig);
    // The next run of the agent brings the window.
    let mut rig = Rig::open(&dir);
    rig.connect();
    assert_eq!((rig.sent(), rig.told()), (vec![1], vec![]));
    rig.stored(1);
    assert_eq!(rig.told(), [alarm("ink")]);
    rig.stored(1);
    assert_eq!(rig.told(), [], "each is told once");
}

#[test]
fn an_alarm_whose_window_is_lost_is_never_taken_for_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    rig.alarming_window(1, alarm("ink"));
    (2..400).for_each(|sequence| rig.window(sequence));
    assert!(rig.lost() > 0, "the oldest had to make room");
    rig.connect();
    let (courier, _letters) = Courier::detached(1);
    let courier = Courier { shared: Arc::clone(&rig.round.shared), ..courier };
    while rig.round.spool.waiting().records > 0 {
        assert_eq!(courier.told_alarms(), Told::default(), "it may still be told");
        rig.sent().into_iter().for_each(|sequence| rig.stored(sequence));
    }
    assert_eq!(courier.told_alarms(), Told { alarms: vec![], is_all: true }, "nobody will tell it");
    rig.sketch(1);
    assert!(courier.told_alarms().is_all, "windows of features tell no alarms");
    rig.alarming_window(400, alarm("ink"));
    assert!(!courier.told_alarms().is_all);
    rig.disconnect();
    rig.connect();
    rig.stored(400);
    assert_eq!(courier.told_alarms(), Told { alarms: vec![alarm("ink")], is_all: true });
    assert!(courier.take(window(401)));
    assert!(!courier.told_alarms().is_all, "one is on its way to the courier");
}

#[test]
fn alarms_that_nobody_asks_for_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(&dir);
    (0..3).for_each(|_| rig.round.note_told(vec![alarm("ink"); MAX_TOLD_ALARMS / 2]));
    assert_eq!(rig.told().len(), MAX_TOLD_ALARMS);
}

#[test]
fn a_window_of_features_that_finds_no_room_on_its_way_to_the_courier_is_told_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let (courier, _letters) = Courier::detached(1);
    let courier = Courier { shared: Arc::clone(&rig.round.shared), ..courier };
    assert_eq!((courier.take_sketch(sketch(1)), courier.take_sketch(sketch(2))), (true, false));
    rig.wait(Duration::ZERO);
    assert_eq!(courier.delivery().windows_lost, 1);
    rig.wait(Duration::ZERO);
    assert_eq!(courier.delivery().windows_lost, 1, "it is counted once");
}

/// What a window of telemetry and one of features cost.
fn costs() -> (u64, u64) {
    let telemetry = serde_json::to_vec(&window(1)).unwrap().len() as u64;
    (telemetry + OVERHEAD_BYTES, sketch(1).len() as u64 + OVERHEAD_BYTES)
}

fn of(stream: Stream, sent: &[(Stream, u64)]) -> usize {
    sent.iter().filter(|(of, _)| *of == stream).count()
}

#[test]
fn windows_of_features_leave_half_of_the_budget_to_telemetry_and_get_what_it_does_not_use() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let (telemetry, features) = costs();
    let limit = 40 * features + 20 * telemetry;
    rig.limit(limit);
    rig.connect();
    let mut sent = vec![];
    for sequence in 1..=100 {
        rig.sketch(sequence);
        sent.extend(rig.sent_of_both());
        rig.stored_in(Stream::Sketch, sequence);
    }
    let half = usize::try_from(limit / 2 / features).unwrap();
    assert_eq!(of(Stream::Sketch, &sent), half, "half is kept for telemetry");
    rig.window(1);
    assert_eq!(rig.sent_of_both(), [(Stream::Telemetry, 1)], "and telemetry has it");
    rig.stored(1);
    rig.round.clock = Clock::over(at_nine_tenths_of_the_day, Timestamp(0));
    rig.wait(BUDGET_AGAIN);
    let mut sent = rig.sent_of_both();
    while let Some((_, sequence)) = sent.last().copied() {
        rig.stored_in(Stream::Sketch, sequence);
        let more = rig.sent_of_both();
        if more.is_empty() {
            break;
        }
        sent.extend(more);
    }
    assert!(sent.len() > half / 2, "in the evening they get what telemetry has left: {}", sent.len());
    rig.window(2);
    assert_eq!(
        rig.sent_of_both(),
        [(Stream::Telemetry, 2)],
        "and still leave what the rest of the day takes"
    );
}

#[test]
fn telemetry_may_use_up_the_whole_budget() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let (telemetry, _) = costs();
    rig.limit(10 * telemetry + 9);
    rig.connect();
    let mut sent = 0;
    for sequence in 1..=20 {
        rig.window(sequence);
        sent += rig.sent().len();
        rig.stored(sequence);
    }
    assert_eq!(sent, 10);
}

#[test]
fn a_window_of_features_that_cannot_be_paid_now_holds_up_no_telemetry_that_is_to_be_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let (telemetry, features) = costs();
    rig.limit(4 * features + 4 * telemetry);
    rig.connect();
    (1..=2).for_each(|sequence| rig.sketch(sequence));
    rig.window(1);
    assert_eq!(rig.sent_of_both().len(), 3);
    let mut again = vec![];
    for _ in 0..4 {
        rig.wait(Duration::from_secs(400));
        again.extend(rig.sent_of_both());
    }
    assert_eq!(again.last(), Some(&(Stream::Telemetry, 1)), "{again:?}");
    assert!(of(Stream::Telemetry, &again) >= 3, "{again:?}");
    assert!(of(Stream::Sketch, &again) <= 2, "{again:?}");
    assert!(rig.round.next_look().is_some_and(|at| at <= Instant::now() + BUDGET_AGAIN));
}

#[test]
fn a_window_of_features_that_no_day_can_pay_is_lost_and_those_behind_it_leave() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let (telemetry, features) = costs();
    rig.tell(Letter::Sketch([sketch(1), vec![0; 4_000]].concat()));
    rig.sketch(2);
    rig.window(1);
    rig.limit(0);
    rig.connect();
    assert_eq!((rig.sent_of_both(), rig.lost()), (vec![], 0), "a budget of nothing is a wish for silence");
    rig.limit(4 * (telemetry + features));
    assert_eq!(rig.sent_of_both(), [(Stream::Sketch, 2), (Stream::Telemetry, 1)]);
    assert_eq!(rig.lost(), 1);
}

#[test]
fn what_is_under_way_and_can_no_longer_be_paid_is_lost_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let (_, features) = costs();
    rig.connect();
    (1..=2).for_each(|sequence| rig.sketch(sequence));
    assert_eq!(rig.sent_of_both().len(), 2);
    rig.limit(2 * features - 10);
    rig.wait(Duration::from_secs(30));
    assert_eq!((rig.sent_of_both(), rig.lost()), (vec![], 2));
}

#[test]
fn windows_of_features_are_paid_from_the_same_budget_and_make_windows_of_telemetry_longer() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&dir);
    let telemetry = serde_json::to_vec(&window(1)).unwrap().len() as u64 + OVERHEAD_BYTES;
    let features = sketch(1).len() as u64 + OVERHEAD_BYTES;
    rig.limit(telemetry + features + 10);
    rig.connect();
    rig.sketch(1);
    rig.window(1);
    rig.sketch(2);
    assert_eq!(rig.sent_of_both(), [(Stream::Sketch, 1), (Stream::Telemetry, 1)]);
    assert_eq!(rig.round.cost_bytes, telemetry + features, "the next window has to pay for both");
    assert_eq!(lock(&rig.round.shared).window, LONGEST_WINDOW);
    rig.limit(u64::MAX);
    assert_eq!(rig.sent_of_both(), [(Stream::Sketch, 2)]);
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
