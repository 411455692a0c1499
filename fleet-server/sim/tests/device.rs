//! A virtual device with nobody around it but a hand that carries messages, as the shell before a real server does.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

use std::{sync::Arc, time::Duration};

use muster_sim::{
    BEGIN, BlockNews, Catalog, Down, Ending, Nature, Profile, Up, VirtualDevice, read_story, vouched,
};
use shared::{
    DeviceId, Generation, ReleaseId, Timestamp,
    device::Inventory,
    message::{Acknowledgement, DirectorDocument, DirectorKind, MetadataPart, Request, Stream},
    report::{DeploymentEvent, Report},
};

struct Hand {
    device: VirtualDevice,
    catalog: Arc<Catalog>,
    now: Timestamp,
    reports: Vec<Report>,
    /// Every second block is damaged on its way.
    damages: bool,
    blocks: u32,
}

fn release(text: &str) -> ReleaseId {
    text.parse().unwrap()
}

fn hand(nature: Nature) -> Hand {
    let story = "title='x'\nend='1:00'\ndevice=[]\nrelease=[{release='digits@1'},{release='digits@2'}]";
    let mut story = read_story(story).unwrap();
    story.releases[1].nature = nature;
    let catalog = Arc::new(Catalog::new(&story.releases));
    let profile = Profile {
        id: DeviceId::new("d1").unwrap(),
        inventory: Inventory::default(),
        runs: Some(release("digits@1")),
        traffic_per_minute: 60,
        tells_every: Duration::from_secs(20),
        clock_ahead_ms: 0,
        maintenance: None,
        utc_offset_secs: 0,
        seed: 7,
    };
    let device = VirtualDevice::new(profile, catalog.clone(), BEGIN);
    Hand { device, catalog, now: BEGIN, reports: vec![], damages: false, blocks: 0 }
}

impl Hand {
    fn ask(&mut self, name: &str, generation: u64) {
        let document = DirectorDocument {
            kind: DirectorKind::Director,
            spec_version: "1.0.31".into(),
            device: self.device.id().clone(),
            generation: Generation(generation),
            expires_at: Timestamp(u64::MAX),
            assignments: vec![self.catalog.get(&release(name)).unwrap().assignment(false)],
            maintenance: None,
            quarantine: None,
        };
        self.device.receive(Down::Desired(Box::new(vouched(document))), self.now);
        self.carry();
    }

    fn carry(&mut self) {
        while let Some(message) = self.device.poll_message() {
            let answers = self.answer(message);
            answers.into_iter().for_each(|answer| self.device.receive(answer, self.now));
        }
    }

    fn answer(&mut self, message: Up) -> Vec<Down> {
        match message {
            Up::Hello(_) => vec![],
            Up::Report(report) => {
                let (boot, sequence) = (report.boot.clone(), report.sequence);
                self.reports.push(report);
                vec![Down::Acknowledgement(Acknowledgement { stream: Stream::Report, boot, sequence })]
            }
            Up::Request(Request::Metadata { name, offset }) => {
                let file = self.catalog.file(&name).unwrap();
                let (from, total_bytes) = (usize::try_from(offset).unwrap(), Some(file.len() as u64));
                let bytes = file[from..file.len().min(from + 500)].to_vec();
                vec![Down::Metadata(MetadataPart { name, total_bytes, offset, bytes })]
            }
            Up::Request(Request::Blocks { artifact, block_bytes, runs }) => {
                let indices = runs.into_iter().flat_map(|run| run.first..run.first + run.count);
                indices.map(|index| self.block(artifact.short(), index, block_bytes)).collect()
            }
        }
    }

    fn block(&mut self, artifact: [u8; 8], index: u32, bytes: u32) -> Down {
        self.blocks += 1;
        let whole = !self.damages || self.blocks.is_multiple_of(2);
        Down::Block(BlockNews::Came { artifact, index, bytes, whole })
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.device.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.device.wake(at);
            self.carry();
        }
        self.now = end;
    }

    fn keeps(&self) -> String {
        self.device.agent().model_states()[0].committed.clone().unwrap().to_string()
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_good_release_is_kept_with_nothing_but_messages() {
    let mut hand = hand(Nature::Good);
    hand.device.connected(hand.now);
    hand.ask("digits@2", 2);
    hand.pass(HOUR);
    assert_eq!(hand.keeps(), "digits@2");
    assert!(matches!(hand.reports.last().unwrap().event, DeploymentEvent::Committed { .. }));
}

#[test]
fn a_shell_with_the_bytes_of_a_block_learns_the_digest_that_they_must_have() {
    let mut hand = hand(Nature::Good);
    hand.device.connected(hand.now);
    hand.ask("digits@2", 2);
    hand.pass(Duration::from_millis(50));
    let packed = hand.catalog.get(&release("digits@2")).unwrap().manifest.model.packed.clone();
    assert_eq!(hand.device.block_digest(packed.digest.short(), 1), Some(packed.blocks[1]));
    assert_eq!(hand.device.block_digest([0; 8], 1), None);
}

#[test]
fn damaged_blocks_are_asked_for_again() {
    let mut hand = hand(Nature::Good);
    hand.damages = true;
    hand.device.connected(hand.now);
    hand.ask("digits@2", 2);
    hand.pass(HOUR);
    assert_eq!(hand.keeps(), "digits@2");
    assert!(hand.blocks > 5, "{} blocks were sent", hand.blocks);
}

#[test]
fn a_bad_release_goes_back_without_a_server_and_the_report_waits() {
    let mut hand = hand(Nature::FailsInferences(60));
    hand.device.connected(hand.now);
    hand.ask("digits@2", 2);
    hand.pass(Duration::from_secs(10));
    hand.device.disconnected(hand.now);
    hand.pass(HOUR);
    assert_eq!(hand.keeps(), "digits@1");
    assert!(!matches!(hand.reports.last().unwrap().event, DeploymentEvent::RolledBack(_)));
    hand.device.connected(hand.now);
    hand.carry();
    assert!(matches!(hand.reports.last().unwrap().event, DeploymentEvent::RolledBack(_)));
}

#[test]
fn the_ledger_is_all_that_survives_a_power_cut_and_it_is_enough() {
    for effects in 0..40 {
        let mut hand = hand(Nature::Good);
        hand.device.connected(hand.now);
        hand.device.cut_power_after(effects);
        hand.ask("digits@2", 2);
        hand.pass(HOUR);
        if !hand.device.is_on() {
            assert_eq!(hand.device.poll_timeout(), None, "nothing happens without power");
            hand.device.restart(hand.now);
            hand.device.connected(hand.now);
            hand.ask("digits@2", 2);
            hand.pass(HOUR);
        }
        assert_eq!(hand.keeps(), "digits@2", "power failed after {effects} effects");
    }
}

#[test]
fn a_device_that_was_stopped_in_order_is_off_until_it_is_started() {
    let mut hand = hand(Nature::Good);
    hand.device.connected(hand.now);
    hand.device.end(Ending::Stopped, hand.now);
    hand.ask("digits@2", 2);
    hand.pass(HOUR);
    assert_eq!((hand.keeps().as_str(), hand.device.is_online()), ("digits@1", false));
}
