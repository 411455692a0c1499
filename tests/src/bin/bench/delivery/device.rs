//! A device that fetches and forgets: the link and the credit of an agent, without its disk.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use agent_core::{MAX_CREDIT, MIN_CREDIT};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use muster_link::{Event, Link, LinkOptions, Qos};
use rustls::pki_types::ServerName;
use shared::{
    DeviceId, Digest,
    artifact::Packed,
    block::{BlockMap, Frame},
    manifest::Manifest,
    message::{MetadataPart, Request},
    topic::{Down, Topic, Up},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::enrolment::Identity;

/// As agents wait at first; with many devices a round may well take a second.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Rounds in vain before the bench gives up.
const MAX_ATTEMPTS: u32 = 10;

/// A connection of a simulated device must stand by then.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// A connected device.
pub struct Device {
    id: DeviceId,
    link: Link,
    events: mpsc::Receiver<Event>,
}

/// What is still missing of an artifact.
struct Fetch<'a> {
    packed: &'a Packed,
    here: BlockMap,
    awaited: BTreeSet<u32>,
    credit: u32,
    attempts: u32,
}

impl Device {
    /// Connects and subscribes as an agent does.
    pub async fn connect(identity: Identity) -> anyhow::Result<Self> {
        let Identity { device: id, host, port, tls } = identity;
        let name = ServerName::try_from(host.clone())?;
        let source = Arc::new(move || Ok(Arc::clone(&tls)));
        let mut options = LinkOptions::new(host, port, name, id.as_str(), source);
        let topic = |down| Topic::down(id.clone(), down).to_string();
        options.subscriptions = Down::ALL.map(|down| (topic(down), qos(down))).to_vec();
        let (link, events) = Link::start(options, CancellationToken::new());
        let mut device = Self { id, link, events };
        match timeout(CONNECT_WITHIN, device.event()).await {
            Ok(Ok(Event::Connected)) => Ok(device),
            Ok(other) => bail!("{} did not connect: {other:?}", device.id),
            Err(_) => bail!("{} did not connect in time", device.id),
        }
    }

    /// Fetches the manifest `name`, part by part.
    pub async fn manifest(&mut self, name: &str) -> anyhow::Result<Manifest> {
        let mut bytes = Vec::new();
        loop {
            let offset = bytes.len() as u64;
            self.ask(&Request::Metadata { name: name.to_owned(), offset }).await?;
            let payload =
                timeout(ASK_AGAIN_AFTER, self.message(Down::Metadata)).await.context("no answer")??;
            let part: MetadataPart = serde_json::from_slice(&payload)?;
            let total = part.total_bytes.with_context(|| format!("the server has no {name}"))?;
            ensure!(part.offset == offset && !part.bytes.is_empty(), "a part that was not asked for");
            bytes.extend(part.bytes);
            if bytes.len() as u64 >= total {
                return Ok(serde_json::from_slice(&bytes)?);
            }
        }
    }

    /// Fetches every block of `packed`.
    pub async fn fetch(&mut self, packed: &Packed) -> anyhow::Result<()> {
        let mut fetch = Fetch::new(packed);
        self.ask(&fetch.round()).await?;
        while !fetch.here.is_complete() {
            match timeout(ASK_AGAIN_AFTER, self.message(Down::Blocks)).await {
                Ok(payload) => fetch.take(&payload?)?,
                Err(_) => fetch.give_up_round()?,
            }
            if fetch.awaited.is_empty() && !fetch.here.is_complete() {
                self.ask(&fetch.round()).await?;
            }
        }
        Ok(())
    }

    async fn ask(&self, request: &Request) -> anyhow::Result<()> {
        let topic = Topic::up(self.id.clone(), Up::Request).to_string();
        Ok(self.link.publish(topic, Qos::AtMostOnce, serde_json::to_vec(request)?.into()).await?)
    }

    /// The next message on one of its topics.
    async fn message(&mut self, down: Down) -> anyhow::Result<Bytes> {
        let wanted = Topic::down(self.id.clone(), down).to_string();
        loop {
            match self.event().await? {
                Event::Message { topic, payload } if topic == wanted => return Ok(payload),
                Event::Message { .. } | Event::Connected => {}
                other => bail!("{} lost its connection: {other:?}", self.id),
            }
        }
    }

    async fn event(&mut self) -> anyhow::Result<Event> {
        self.events.recv().await.context("the link ended")
    }
}

impl<'a> Fetch<'a> {
    fn new(packed: &'a Packed) -> Self {
        let here = BlockMap::empty(packed.block_count());
        Self { packed, here, awaited: BTreeSet::new(), credit: MIN_CREDIT, attempts: 0 }
    }

    /// The next request: as many missing blocks as there is credit.
    fn round(&mut self) -> Request {
        let runs = self.here.missing(&BlockMap::empty(self.here.len()), self.credit);
        self.awaited = runs.iter().flat_map(|run| run.first..run.first + run.count).collect();
        Request::Blocks { artifact: self.packed.digest, block_bytes: self.packed.block_bytes, runs }
    }

    /// Takes a block whose digest is right; a complete round earns credit.
    fn take(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let (artifact, index, bytes) = match Frame::decode(payload)? {
            Frame::Block { artifact, index, bytes } => (artifact, index, bytes),
            refused => bail!("instead of a block came {refused:?}"),
        };
        ensure!(artifact == self.packed.digest.short(), "a block of another artifact");
        let expected = self.packed.blocks.get(index as usize).context("a block past the end")?;
        ensure!(Digest::of(bytes) == *expected, "block {index} is not what was signed");
        self.here.insert(index);
        self.attempts = 0;
        if self.awaited.remove(&index) && self.awaited.is_empty() {
            self.credit = (self.credit + 1).min(MAX_CREDIT);
        }
        Ok(())
    }

    /// Asks again for what did not come, and for less of it.
    fn give_up_round(&mut self) -> anyhow::Result<()> {
        self.attempts += 1;
        ensure!(
            self.attempts <= MAX_ATTEMPTS,
            "{} of {} blocks came",
            self.here.count_here(),
            self.here.len()
        );
        self.credit = (self.credit / 2).max(MIN_CREDIT);
        self.awaited.clear();
        Ok(())
    }
}

fn qos(down: Down) -> Qos {
    match down {
        Down::Desired | Down::Acknowledgement => Qos::AtLeastOnce,
        Down::Metadata | Down::Blocks => Qos::AtMostOnce,
    }
}

#[cfg(test)]
mod tests {
    use shared::artifact::Encoding;

    use super::*;

    fn block<'a>(packed: &Packed, index: u32, bytes: &'a [u8]) -> Frame<'a> {
        Frame::Block { artifact: packed.digest.short(), index, bytes }
    }

    #[test]
    fn complete_rounds_fetch_everything_with_growing_credit() {
        let bytes = vec![7; 30 * 64 * 1_024 + 1];
        let packed = Packed::describe(&bytes, Encoding::Stored);
        let mut fetch = Fetch::new(&packed);
        let mut sizes = Vec::new();
        while !fetch.here.is_complete() {
            fetch.round();
            sizes.push(fetch.awaited.len());
            for index in fetch.awaited.clone() {
                let (offset, length) = packed.block_range(index).unwrap();
                let range = offset as usize..offset as usize + length as usize;
                fetch.take(&block(&packed, index, &bytes[range]).encode()).unwrap();
            }
        }
        assert_eq!(sizes, [4, 5, 6, 7, 8, 1]);
    }

    #[test]
    fn a_wrong_block_ends_the_bench() {
        let packed = Packed::describe(&[7; 100], Encoding::Stored);
        let mut fetch = Fetch::new(&packed);
        fetch.round();
        assert!(fetch.take(&block(&packed, 0, &[8; 100]).encode()).is_err());
    }

    #[test]
    fn a_round_in_vain_halves_the_credit_down_to_its_floor() {
        let packed = Packed::describe(&[7; 100], Encoding::Stored);
        let mut fetch = Fetch::new(&packed);
        fetch.credit = 15;
        fetch.give_up_round().unwrap();
        fetch.give_up_round().unwrap();
        assert_eq!(fetch.credit, MIN_CREDIT);
    }
}
