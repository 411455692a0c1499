use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proptest::prelude::*;

use super::*;
use crate::disk::OsDisk;

const BOUNDS: Bounds = Bounds { max_bytes: 64 * 1_024, spare_bytes: 0 };

fn open(dir: &Path, max_bytes: u64) -> Spool<OsDisk> {
    Spool::open(OsDisk, dir.join("spool"), Bounds { max_bytes, ..BOUNDS }).unwrap()
}

fn read_all(spool: &mut Spool<OsDisk>) -> Vec<Record> {
    let mut cursor = Cursor::default();
    std::iter::from_fn(|| spool.next_record(&mut cursor)).collect()
}

fn numbers(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.number).collect()
}

fn newest_segment(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    files.max().unwrap()
}

#[test]
fn a_killed_process_loses_nothing_and_is_not_given_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    for i in 0..5_u8 {
        spool.append(vec![i; 100]).unwrap();
    }
    spool.acknowledge(1);
    spool.acknowledge(3);
    drop(spool);
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    assert_eq!(numbers(&read_all(&mut spool)), [2, 4, 5]);
    assert_eq!(spool.waiting().records, 3);
}

#[test]
fn a_record_that_waits_for_long_undoes_no_acknowledgement_behind_it_and_takes_no_room_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    spool.append(vec![1; 500]).unwrap();
    for number in 2..=500 {
        spool.append(vec![2; 500]).unwrap();
        if number != 250 {
            spool.acknowledge(number);
        }
        assert!(spool.waiting().size_bytes <= BOUNDS.max_bytes / 2, "{:?}", spool.waiting());
        assert!(spool.acknowledged.len() < 50, "nothing is remembered of what is gone");
    }
    spool.give_up(250);
    for _ in 0..3 {
        drop(spool);
        spool = open(dir.path(), BOUNDS.max_bytes);
        assert_eq!((numbers(&read_all(&mut spool)), spool.waiting().records), (vec![1], 1));
        assert_eq!(spool.waiting().lost, 1, "what was given up is lost once");
        spool.append(vec![3; 5_000]).unwrap();
        spool.acknowledge(spool.next_number - 1);
    }
}

#[test]
fn a_segment_that_a_power_cut_brings_back_brings_no_record_that_waits_no_more() {
    let acknowledge = |spool: &mut Spool<OsDisk>| (2..60).for_each(|number| spool.acknowledge(number));
    let give_up = |spool: &mut Spool<OsDisk>| spool.give_up_all(2..60);
    for end in [&acknowledge as &dyn Fn(&mut Spool<OsDisk>), &give_up] {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path(), BOUNDS.max_bytes);
        (1..=60).for_each(|_| spool.append(vec![1; 500]).unwrap());
        let files = fs::read_dir(dir.path().join("spool")).unwrap().map(|file| file.unwrap().path());
        let before: Vec<_> = files.map(|file| (fs::read(&file).unwrap(), file)).collect();
        end(&mut spool);
        drop(spool);
        let (kept, gone): (Vec<_>, Vec<_>) = before.into_iter().partition(|(_, file)| file.exists());
        assert!(kept.len() >= 2 && gone.len() >= 2, "{} and {}", kept.len(), gone.len());
        gone.iter().for_each(|(bytes, file)| fs::write(file, bytes).unwrap());
        let mut spool = open(dir.path(), BOUNDS.max_bytes);
        assert_eq!(numbers(&read_all(&mut spool)), [1, 60]);
    }
}

#[test]
fn a_spool_of_an_agent_that_noted_no_single_records_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("spool");
    fs::create_dir(&folder).unwrap();
    let mark = |next_number, first_waiting, lost| {
        let body = [next_number, first_waiting, lost].into_iter().flat_map(u64::to_le_bytes);
        let body: Vec<u8> = [2].into_iter().chain(body).collect();
        [&25_u32.to_le_bytes()[..], &shared::Digest::of(&body).short()[..], &body].concat()
    };
    let records = (1..=3).map(|number| record_frame(&Record { number, bytes: vec![7; 10] }));
    let frames = [vec![mark(1, 1, 4)], records.collect(), vec![mark(4, 2, 5)]].concat();
    fs::write(folder.join(file_name(1)), frames.concat()).unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    assert_eq!((numbers(&read_all(&mut spool)), spool.waiting().lost), (vec![2, 3], 5));
}

#[test]
fn no_segment_grows_beyond_what_can_be_read_however_much_is_noted_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    (0..1_000).for_each(|_| spool.append(vec![1; 3]).unwrap());
    (2..1_000).step_by(2).for_each(|number| spool.acknowledge(number));
    (3..1_000).step_by(2).for_each(|number| spool.give_up(number));
    assert!(
        sizes(dir.path()).values().all(|size| *size <= OVERFULL * SMALLEST_SEGMENT),
        "{:?}",
        sizes(dir.path())
    );
    drop(spool);
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    let left = numbers(&read_all(&mut spool));
    assert!([1, 1_000].iter().all(|number| left.contains(number)), "{left:?}");
    assert_eq!(spool.waiting().lost, 499);
}

#[test]
fn many_records_are_given_up_with_one_note() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), 16 * BOUNDS.max_bytes);
    (0..500).for_each(|_| spool.append(vec![1; 3]).unwrap());
    let newest = |dir: &Path| fs::metadata(newest_segment(dir)).unwrap().len();
    let before = newest(dir.path());
    spool.give_up_all((2..=499).chain([2, 7, 9_999]));
    assert!(newest(dir.path()) < before + 100, "one note");
    assert_eq!((spool.waiting().lost, numbers(&read_all(&mut spool))), (498, vec![1, 500]));
    drop(spool);
    let mut spool = open(dir.path(), 16 * BOUNDS.max_bytes);
    assert_eq!((spool.waiting().lost, numbers(&read_all(&mut spool))), (498, vec![1, 500]));
}

#[test]
fn numbers_go_on_after_a_restart_even_when_nothing_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    spool.append(b"one".to_vec()).unwrap();
    spool.acknowledge(1);
    drop(spool);
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    assert!(read_all(&mut spool).is_empty());
    spool.append(b"two".to_vec()).unwrap();
    assert_eq!(read_all(&mut spool), [Record { number: 2, bytes: b"two".to_vec() }]);
}

#[test]
fn a_record_that_was_cut_off_ends_its_segment_and_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    (1..=3_u8).for_each(|i| spool.append(vec![i; 100]).unwrap());
    drop(spool);
    let file = newest_segment(dir.path());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();

    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    spool.append(vec![4; 100]).unwrap();
    assert_eq!(numbers(&read_all(&mut spool)), [1, 2, 3]);
    drop(spool);
    let records = read_all(&mut open(dir.path(), BOUNDS.max_bytes));
    assert_eq!(records.last().unwrap().bytes, [4; 100]);
}

#[test]
fn the_bound_holds_the_oldest_go_and_each_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    for i in 0..500_u16 {
        spool.append(i.to_le_bytes().repeat(200)).unwrap();
        assert!(spool.waiting().size_bytes <= BOUNDS.max_bytes);
    }
    let waiting = spool.waiting();
    assert!(waiting.lost > 300 && waiting.records > 100, "{waiting:?}");
    assert_eq!(waiting.records + waiting.lost, 500);
    drop(spool);
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    assert_eq!(spool.waiting().lost, waiting.lost, "the count is durable");
    let left = numbers(&read_all(&mut spool));
    assert_eq!(left, (waiting.lost + 1..=500).collect::<Vec<_>>(), "the oldest went first");
}

#[test]
fn a_smaller_bound_after_a_restart_drops_what_no_longer_fits() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    (0..100_u8).for_each(|i| spool.append(vec![i; 500]).unwrap());
    drop(spool);
    let spool = open(dir.path(), 16 * 1_024);
    assert!(spool.waiting().size_bytes <= 16 * 1_024);
    assert_eq!(spool.waiting().records + spool.waiting().lost, 100);
}

#[test]
fn segments_that_nobody_waits_for_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    (0..60_u8).for_each(|i| spool.append(vec![i; 500]).unwrap());
    (1..=60).for_each(|number| spool.acknowledge(number));
    assert_eq!(spool.waiting().records, 0);
    assert_eq!(fs::read_dir(dir.path().join("spool")).unwrap().count(), 1, "the one that is written stays");
}

#[test]
fn a_full_disk_leaves_new_records_in_memory_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let full = Bounds { spare_bytes: u64::MAX / 2, ..BOUNDS };
    let mut spool = Spool::open(OsDisk, dir.path().join("spool"), full).unwrap();
    assert_eq!(spool.append(vec![1; 100]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(spool.append(vec![2; 100]).is_err() && spool.waiting().in_memory);
    assert_eq!(numbers(&read_all(&mut spool)), [1, 2], "they can be sent all the same");
    spool.acknowledge(1);

    spool.bounds = BOUNDS;
    spool.append(vec![3; 100]).unwrap();
    assert!(!spool.waiting().in_memory);
    drop(spool);
    assert_eq!(numbers(&read_all(&mut open(dir.path(), BOUNDS.max_bytes))), [2, 3]);
}

#[test]
fn the_memory_of_a_full_disk_is_bounded_too() {
    let dir = tempfile::tempdir().unwrap();
    let full = Bounds { spare_bytes: u64::MAX / 2, ..BOUNDS };
    let mut spool = Spool::open(OsDisk, dir.path().join("spool"), full).unwrap();
    for _ in 0..1_000 {
        assert!(spool.append(vec![0; 1_024]).is_err());
    }
    let waiting = spool.waiting();
    assert!(waiting.records < MEMORY_BYTES as u64 / 1_024 && waiting.records + waiting.lost == 1_000);
}

#[test]
fn what_is_given_up_is_counted_as_lost_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    (0..3).for_each(|n| spool.append(vec![n; 100]).unwrap());
    spool.acknowledge(1);
    spool.count_lost(5);
    [1, 2, 2, 9].into_iter().for_each(|number| spool.give_up(number));
    assert_eq!((spool.waiting().lost, spool.waiting().records), (6, 1));
    drop(spool);
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    assert_eq!((spool.waiting().lost, numbers(&read_all(&mut spool))), (6, vec![3]));
}

#[test]
fn two_who_read_at_a_pace_of_their_own_are_given_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), 16 * BOUNDS.max_bytes);
    (0..100).for_each(|n| spool.append(vec![n; 1_000]).unwrap());
    let (mut ahead, mut behind) = (Cursor::default(), Cursor::default());
    let mut found = (vec![], vec![]);
    for _ in 0..50 {
        found.0.extend(spool.next_record(&mut ahead));
        found.0.extend(spool.next_record(&mut ahead));
        found.1.extend(spool.next_record(&mut behind));
    }
    found.1.extend(std::iter::from_fn(|| spool.next_record(&mut behind)));
    assert_eq!((found.0.len(), numbers(&found.0)), (100, (1..=100).collect()));
    assert_eq!(found.0, found.1);
}

#[test]
fn foreign_files_and_garbage_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("spool");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes.txt"), b"not ours").unwrap();
    fs::write(folder.join(file_name(7)), [0xff; 4_096]).unwrap();
    fs::write(folder.join(file_name(8)), [0; 4_096]).unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    assert!(read_all(&mut spool).is_empty());
    spool.append(b"one".to_vec()).unwrap();
    assert_eq!(numbers(&read_all(&mut spool)), [1]);
    assert!(folder.join("notes.txt").exists());
}

#[test]
fn only_what_the_server_does_not_have_is_worth_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BOUNDS.max_bytes);
    assert!(!spool.is_at_risk());
    spool.append(b"one".to_vec()).unwrap();
    assert!(spool.is_at_risk());
    spool.acknowledge(1);
    assert!(!spool.is_at_risk());
    spool.append(b"two".to_vec()).unwrap();
    spool.sync().unwrap();
    assert!(!spool.is_at_risk());
}

/// What may happen to a spool.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// The record at this place among those that wait.
    Acknowledge(usize),
    Read,
    Sync,
    Kill,
    /// Every file loses a part of what was not flushed.
    PowerCut(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_usize..2_000).prop_map(Step::Append),
        6 => (0_usize..6).prop_map(Step::Acknowledge),
        3 => Just(Step::Read),
        2 => Just(Step::Sync),
        1 => Just(Step::Kill),
        1 => any::<u8>().prop_map(Step::PowerCut),
    ]
}

/// What a spool should hold, the simple way.
#[derive(Default)]
struct Model {
    appended: BTreeMap<u64, Vec<u8>>,
    /// What can still be read.
    stored: BTreeSet<u64>,
    waiting: Vec<u64>,
    lost: u64,
    lost_when_flushed: u64,
    /// Records and file sizes at the last flush.
    safe: BTreeSet<u64>,
    sizes: BTreeMap<PathBuf, u64>,
}

impl Model {
    /// The oldest go first.
    fn lose_oldest(&mut self, spool: &Spool<OsDisk>) {
        let lost = spool.waiting().lost;
        let more = lost.checked_sub(self.lost).expect("the count is durable");
        self.waiting.drain(..usize::try_from(more).unwrap().min(self.waiting.len()));
        self.lost = lost;
    }

    fn follow_losses(&mut self, spool: &Spool<OsDisk>) {
        self.lose_oldest(spool);
        assert_eq!(spool.waiting().records, self.waiting.len() as u64);
        assert!(spool.waiting().size_bytes <= SMALL);
    }

    /// What was flushed is there, and nothing that was never said.
    fn check_after_power_cut(&mut self, spool: &mut Spool<OsDisk>) {
        let found = read_all(spool);
        for record in &found {
            assert_eq!(Some(&record.bytes), self.appended.get(&record.number), "what was never said");
        }
        let found = numbers(&found);
        assert!(found.is_sorted(), "{found:?}");
        // An acknowledgement that the cut took back takes room again, and the oldest go for it, counted.
        let dropped = spool.waiting().lost.saturating_sub(self.lost_when_flushed);
        let safe = self.waiting.iter().filter(|number| self.safe.contains(number));
        let gone: Vec<_> = safe.filter(|number| !found.contains(number)).collect();
        assert!(gone.len() as u64 <= dropped, "{gone:?} were flushed and are gone: {found:?}");
        assert!(gone.iter().all(|number| found.iter().all(|kept| *number < kept)), "the oldest go: {gone:?}");
        self.stored = found.iter().copied().collect();
        self.lost = spool.waiting().lost;
        self.waiting = found;
    }

    fn flushed(&mut self, dir: &Path) {
        self.safe = self.waiting.iter().copied().collect();
        self.lost_when_flushed = self.lost;
        self.sizes = sizes(dir);
    }
}

/// Small enough that the bound is reached.
const SMALL: u64 = 24 * 1_024;

fn sizes(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let files = fs::read_dir(dir.join("spool")).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.path(), file.metadata().unwrap().len())).collect()
}

fn cut(dir: &Path, safe: &BTreeMap<PathBuf, u64>, part: u8) {
    for (file, size) in sizes(dir) {
        let flushed = safe.get(&file).copied().unwrap_or(0).min(size);
        let left = flushed + (size - flushed) * u64::from(part) / 255;
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(left).unwrap();
    }
}

fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), SMALL);
    let (mut model, mut cursor) = (Model::default(), Cursor::default());
    for step in steps {
        match step {
            Step::Append(length) => {
                let number = spool.next_number;
                let bytes = vec![u8::try_from(number % 251).unwrap(); length];
                let segments = spool.next_segment;
                spool.append(bytes.clone()).unwrap();
                model.appended.insert(number, bytes);
                model.stored.insert(number);
                model.waiting.push(number);
                model.follow_losses(&spool);
                if spool.next_segment > segments {
                    // What lay in closed segments was flushed.
                    let safe: Vec<_> = model.waiting.iter().copied().filter(|n| *n < number).collect();
                    model.safe.extend(safe);
                    let newest = newest_segment(dir.path());
                    model.sizes.extend(sizes(dir.path()).into_iter().filter(|(file, _)| *file != newest));
                }
            }
            Step::Acknowledge(place) => {
                if let Some(number) = model.waiting.get(place).copied() {
                    spool.acknowledge(number);
                    model.waiting.remove(place);
                    model.follow_losses(&spool);
                }
            }
            Step::Read => {
                if let Some(record) = spool.next_record(&mut cursor) {
                    assert_eq!(Some(&record.bytes), model.appended.get(&record.number));
                }
            }
            Step::Sync => {
                spool.sync().unwrap();
                model.flushed(dir.path());
            }
            Step::Kill => {
                drop(spool);
                (spool, cursor) = (open(dir.path(), SMALL), Cursor::default());
                let found = numbers(&read_all(&mut spool));
                model.lose_oldest(&spool);
                for number in &model.waiting {
                    assert!(found.contains(number), "{number} is gone: {found:?}");
                }
                assert!(found.is_sorted() && found.iter().all(|number| model.stored.contains(number)));
                model.waiting = found;
            }
            Step::PowerCut(part) => {
                drop(spool);
                cut(dir.path(), &model.sizes, part);
                (spool, cursor) = (open(dir.path(), SMALL), Cursor::default());
                model.check_after_power_cut(&mut spool);
                model.flushed(dir.path());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_spool_does_what_its_model_does(steps in prop::collection::vec(step(), 1..150)) {
        run(steps);
    }
}
