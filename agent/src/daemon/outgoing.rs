//! Everything the agent says to the server, through one bounded queue.
//!
//! The shell never waits for the network: what does not fit is dropped here. Nothing is lost by that, because
//! reports and telemetry come again until they are acknowledged, and requests until they are answered.

use bytes::Bytes;
use muster_link::{Link, LinkError, Qos};
use serde::Serialize;
use shared::{
    DeviceId,
    message::{Request, StateMessage},
    telemetry::Telemetry,
    topic::{Topic, Up},
};
use tokio::sync::mpsc;

/// Room for a full report queue and a full telemetry queue after a reconnect.
const QUEUE: usize = 1_024;

/// The sending half; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    queue: mpsc::Sender<(Up, Qos, Bytes)>,
}

/// The other half, to be drained by [`Publisher::run`].
pub(super) struct Publisher {
    device: DeviceId,
    queue: mpsc::Receiver<(Up, Qos, Bytes)>,
}

impl Outgoing {
    pub(super) fn new(device: DeviceId) -> (Self, Publisher) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { queue: sender }, Publisher { device, queue: receiver })
    }

    pub(super) fn state(&self, message: &StateMessage) {
        self.put(Up::State, Qos::AtLeastOnce, message);
    }

    pub(super) fn telemetry(&self, telemetry: &Telemetry) {
        self.put(Up::Telemetry, Qos::AtLeastOnce, telemetry);
    }

    pub(super) fn request(&self, request: &Request) {
        self.put(Up::Request, Qos::AtMostOnce, request);
    }

    fn put<T: Serialize>(&self, up: Up, qos: Qos, message: &T) {
        let bytes = match serde_json::to_vec(message) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::error!(%error, ?up, "a message has no JSON form"),
        };
        if self.queue.try_send((up, qos, bytes.into())).is_err() {
            tracing::debug!(?up, "the queue to the server is full; the message comes again later");
        }
    }
}

impl Publisher {
    /// Publishes until the queue is closed or the link is stopped.
    pub(super) async fn run(mut self, link: Link) {
        while let Some((up, qos, payload)) = self.queue.recv().await {
            let topic = Topic::up(self.device.clone(), up).to_string();
            match link.publish(topic, qos, payload).await {
                Ok(()) | Err(LinkError::Offline) => {}
                Err(LinkError::Stopped) => return,
                Err(error) => tracing::warn!(%error, ?up, "a message was not published"),
            }
        }
    }
}
