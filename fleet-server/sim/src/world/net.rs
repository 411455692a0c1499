//! The network: it loses, repeats and delays messages, and its links are slow.

use std::time::Duration;

use shared::{DeviceId, message::Request};

use super::{Happening, World};
use crate::{
    story::Character,
    transcript::Detail,
    wire::{BlockNews, Down, Up},
};

/// The least time on the way.
const TRIP_MS: u64 = 20;

/// How late a message is at most that is late.
const LATE_SECS: u64 = 300;

/// A link whose message was lost breaks within this time, when TCP gives up.
const BREAK_SECS: u64 = 60;

impl World {
    /// Takes what a device says to the network.
    pub(super) fn carry_away(&mut self, id: &DeviceId) {
        while let Some(message) = self.fleet.get_mut(id).and_then(|it| it.device.poll_message()) {
            let Some(inhabitant) = self.fleet.get(id) else { return };
            let mute = inhabitant.character == Character::Mute && !matches!(message, Up::Hello(_));
            if inhabitant.link.up && !mute {
                self.note(Detail::Everything, || format!("{id} says {}", told_up(&message)));
                self.send_up(id, message);
            }
        }
    }

    pub(super) fn send_up(&mut self, id: &DeviceId, message: Up) {
        if self.is_lost(id) {
            return;
        }
        if !matches!(message, Up::Hello(_)) && self.random.chance(self.network.twice_ppm) {
            let wait = self.trip();
            self.after(wait, Happening::Up { device: id.clone(), message: Box::new(message.clone()) });
        }
        // A hello is the first word of a session, and a broker takes what a session says in order.
        let hello = matches!(message, Up::Hello(_));
        let wait = if hello { Duration::from_millis(TRIP_MS) } else { self.trip() };
        self.after(wait, Happening::Up { device: id.clone(), message: Box::new(message) });
    }

    /// Takes what the server says to the network.
    pub(super) fn carry_down(&mut self) {
        for (device, message) in self.server.take_messages() {
            self.send_down(&device, message);
        }
    }

    pub(super) fn send_down(&mut self, id: &DeviceId, message: Down) {
        let Some(inhabitant) = self.fleet.get(id) else { return };
        let session = inhabitant.link.session;
        if let Down::Block(news) = message {
            return self.send_block(id, session, news);
        }
        if self.is_lost(id) {
            return;
        }
        let happening = |message| Happening::Down { device: id.clone(), session, message: Box::new(message) };
        if self.random.chance(self.network.twice_ppm) {
            let wait = self.trip();
            self.after(wait, happening(message.clone()));
        }
        let wait = self.trip();
        self.after(wait, happening(message));
    }

    /// Blocks wait for each other on a slow link. One that is lost costs a time-out and breaks nothing.
    fn send_block(&mut self, id: &DeviceId, session: u64, news: BlockNews) {
        let lost = self.random.chance(self.network.loss_ppm);
        let damaged = self.random.chance(self.network.damage_ppm);
        let trip = self.trip();
        let Some(inhabitant) = self.fleet.get_mut(id) else { return };
        let news = match news {
            BlockNews::Came { artifact, index, bytes, .. } => {
                let millis = u64::from(bytes) * 1_000 / inhabitant.link.bytes_per_sec;
                let busy = inhabitant.link.busy_until.max(self.now) + Duration::from_millis(millis);
                inhabitant.link.busy_until = busy;
                BlockNews::Came { artifact, index, bytes, whole: !damaged }
            }
            other => other,
        };
        let at = inhabitant.link.busy_until.max(self.now) + trip;
        if !lost {
            let message = Box::new(Down::Block(news));
            self.at(at, Happening::Down { device: id.clone(), session, message });
        }
    }

    pub(super) fn arrive(&mut self, id: &DeviceId, message: Up) {
        let asks = matches!(message, Up::Request(_));
        // A request has no meaning without the session that it was asked in.
        if asks && !self.fleet.get(id).is_some_and(|it| it.link.up) {
            return;
        }
        self.server_turn(|server, now| server.receive(id, message, now));
    }

    pub(super) fn deliver(&mut self, id: &DeviceId, session: u64, message: Down) {
        if self.fleet.get(id).is_some_and(|it| it.link.up && it.link.session == session) {
            self.note(Detail::Everything, || format!("{id} hears {}", told_down(&message)));
            self.with_device(id, |device, now| device.receive(message, now));
        }
    }

    fn is_lost(&mut self, id: &DeviceId) -> bool {
        let lost = self.random.chance(self.network.loss_ppm);
        if lost && let Some(inhabitant) = self.fleet.get(id) {
            let session = inhabitant.link.session;
            self.after_secs(1, BREAK_SECS, Happening::Break { device: id.clone(), session });
        }
        lost
    }

    fn trip(&mut self) -> Duration {
        if self.random.chance(self.network.late_ppm) {
            return Duration::from_secs(self.random.between(1, LATE_SECS));
        }
        Duration::from_millis(TRIP_MS + self.random.below(self.network.jitter_ms + 1))
    }
}

fn told_up(message: &Up) -> String {
    match message {
        Up::Hello(hello) => format!("hello with generation {}", hello.generation),
        Up::Report(report) => {
            let (boot, sequence, generation) = (&report.boot, report.sequence, report.generation);
            format!("{boot}/{sequence}, generation {generation}, {}: {}", report.release, report.event)
        }
        Up::Request(Request::Metadata { name, .. }) => format!("it needs {name}"),
        Up::Request(Request::Blocks { runs, .. }) => format!("it needs blocks {runs:?}"),
    }
}

fn told_down(message: &Down) -> String {
    match message {
        Down::Desired(director) => {
            let named: Vec<_> = director.assignments.iter().map(|named| named.release.to_string()).collect();
            format!("generation {}: {}", director.generation, named.join(", "))
        }
        Down::Acknowledgement(acknowledged) => {
            format!("{}/{} stored", acknowledged.boot, acknowledged.sequence)
        }
        Down::Metadata(part) => format!("{} bytes of {}", part.bytes.len(), part.name),
        Down::Block(BlockNews::Came { index, whole, .. }) => format!("block {index}, whole: {whole}"),
        Down::Block(other) => format!("{other:?}"),
    }
}
