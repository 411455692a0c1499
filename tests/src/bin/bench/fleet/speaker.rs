//! A device that only speaks: the link of an agent.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use muster_link::{Event, Link, LinkOptions, Qos};
use rustls::pki_types::ServerName;
use serde::Serialize;
use shared::{
    DeviceId,
    topic::{Channel, Down, Topic, Up},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::delivery::enrolment::Identity;

/// Far beyond any answer; only something that is lost takes as long.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A connected device.
pub struct Speaker {
    /// Its name.
    pub id: DeviceId,
    link: Link,
    events: mpsc::Receiver<Event>,
}

impl Speaker {
    /// Connects and listens on these topics.
    pub async fn connect(identity: Identity, down: &[Down]) -> anyhow::Result<Self> {
        let Identity { device: id, host, port, tls } = identity;
        let name = ServerName::try_from(host.clone())?;
        let source = Arc::new(move || Ok(Arc::clone(&tls)));
        let mut options = LinkOptions::new(host, port, name, id.as_str(), source);
        let topic = |down: &Down| (Topic::down(id.clone(), *down).to_string(), Qos::AtLeastOnce);
        options.subscriptions = down.iter().map(topic).collect();
        let (link, events) = Link::start(options, CancellationToken::new());
        let mut speaker = Self { id, link, events };
        match speaker.event().await? {
            Event::Connected => Ok(speaker),
            other => bail!("{} did not connect: {other:?}", speaker.id),
        }
    }

    /// Leaves a message to be sent.
    pub async fn say<T: Serialize>(&self, up: Up, message: &T) -> anyhow::Result<()> {
        let topic = Topic::up(self.id.clone(), up).to_string();
        Ok(self.link.publish(topic, Qos::AtLeastOnce, serde_json::to_vec(message)?.into()).await?)
    }

    /// The next message on a topic.
    pub async fn hear(&mut self, wanted: Down) -> anyhow::Result<bytes::Bytes> {
        loop {
            if let Event::Message { topic, payload } = self.event().await?
                && Topic::parse(&topic).is_some_and(|topic| topic.channel == Channel::Down(wanted))
            {
                return Ok(payload);
            }
        }
    }

    async fn event(&mut self) -> anyhow::Result<Event> {
        let event = timeout(ANSWER_WITHIN, self.events.recv()).await.context("no answer in time")?;
        event.context("the link ended")
    }
}
