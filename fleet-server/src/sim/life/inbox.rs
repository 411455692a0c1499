//! What a device may believe of what comes: the director's signature, the addressee, the digest of every block.
//!
//! An agent also compares with the image repository (`muster-trust`); that is left out here, and
//! `docs/simulation.md` says so. Manifests are checked by the device against the digest that the director signed.

use muster_sim::{BlockNews, Down};
use shared::{
    Digest,
    block::Frame,
    message::DesiredMessage,
    topic::{self, Channel, Topic},
};

use super::{Counters, Life};
use crate::sim::session::Incoming;

impl Life {
    /// A message, if it can be read and believed.
    pub(super) fn open(&mut self, message: &Incoming) -> Option<Down> {
        let topic = std::str::from_utf8(&message.topic).ok().and_then(Topic::parse)?;
        let Channel::Down(down) = topic.channel else { return None };
        let opened = match down {
            topic::Down::Desired => self.desired(&message.payload),
            topic::Down::Acknowledgement => {
                serde_json::from_slice(&message.payload).ok().map(Down::Acknowledgement)
            }
            topic::Down::Metadata => serde_json::from_slice(&message.payload).ok().map(Down::Metadata),
            topic::Down::Blocks => self.block(&message.payload),
        };
        if opened.is_none() {
            Counters::count(&self.surroundings.counters.disbelieved);
        }
        opened
    }

    fn desired(&self, payload: &[u8]) -> Option<Down> {
        let message: DesiredMessage = serde_json::from_slice(payload).ok()?;
        let director = message.director.verify(&self.surroundings.fleet.director).ok()?;
        (director.device == *self.device.id()).then(|| Down::Desired(Box::new(director)))
    }

    fn block(&mut self, payload: &[u8]) -> Option<Down> {
        let damaged = self.random.chance(self.damage_ppm);
        let frame = Frame::decode(payload).ok()?;
        let mut whole = true;
        if let Frame::Block { artifact, index, bytes } = frame {
            let digest = if damaged { Digest::of(&spoilt(bytes)) } else { Digest::of(bytes) };
            whole = self.device.block_digest(artifact, index) == Some(digest);
            let counters = &self.surroundings.counters;
            Counters::count(if whole { &counters.blocks } else { &counters.damaged_blocks });
        }
        Some(Down::Block(BlockNews::of(&frame, whole)))
    }
}

/// The bytes with one bit turned.
fn spoilt(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.first_mut() {
        *byte ^= 1;
    }
    bytes
}
