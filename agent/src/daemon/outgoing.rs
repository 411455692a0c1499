//! Everything the agent says to the server, in three bounded lanes: what it is and what it did goes first, then what
//! it asks for, then its figures. So however much telemetry has piled up, a report of a rollback passes it by.
//!
//! Nobody waits for the network here. What does not fit, or meets no connection, is dropped, and nothing is lost by
//! that: reports and telemetry are kept elsewhere and come again until the server has acknowledged them, and questions
//! until they are answered.
//!
//! Behind the lanes the link has one queue. Telemetry cannot fill it, because only [`TELEMETRY`] messages of it are
//! under way at a time.

use bytes::Bytes;
use muster_link::{Link, LinkError, Qos};
use serde::Serialize;
use shared::{
    DeviceId,
    message::{Request, StateMessage},
    sketch::SketchMessage,
    topic::{Topic, Up},
};
use tokio::sync::{mpsc, oneshot};

/// Room for a hello and every report that can wait.
const STATE: usize = agent_core::MAX_REPORTS + 16;

/// Questions: one of the core for blocks, one of the verifier for metadata, each asked again when it was lost.
const REQUESTS: usize = 16;

/// Windows of figures without acknowledgement: enough to use the time of a round trip to a server that commits within
/// a tenth of a second, little enough that a report waits for a few kilobytes.
pub(super) const TELEMETRY: usize = 4;

/// The sending half; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    state: mpsc::Sender<Message>,
    requests: mpsc::Sender<Message>,
    telemetry: mpsc::Sender<Figures>,
}

/// The other half, to be drained by [`Publisher::run`].
pub(super) struct Publisher {
    device: DeviceId,
    state: mpsc::Receiver<Message>,
    requests: mpsc::Receiver<Message>,
    telemetry: mpsc::Receiver<Figures>,
}

/// A message that is ready to leave.
#[derive(Debug, PartialEq)]
struct Message {
    up: Up,
    qos: Qos,
    payload: Bytes,
}

/// What travels in the last lane.
#[derive(Debug)]
enum Figures {
    Window(Message),
    /// Everything that was put before this has left the lanes.
    Mark(oneshot::Sender<()>),
}

impl Outgoing {
    pub(super) fn new(device: DeviceId) -> (Self, Publisher) {
        let (state, state_lane) = mpsc::channel(STATE);
        let (requests, request_lane) = mpsc::channel(REQUESTS);
        // One more for the mark.
        let (telemetry, telemetry_lane) = mpsc::channel(TELEMETRY + 1);
        let publisher =
            Publisher { device, state: state_lane, requests: request_lane, telemetry: telemetry_lane };
        (Self { state, requests, telemetry }, publisher)
    }

    pub(super) fn state(&self, message: &StateMessage) {
        put(&self.state, Up::State, Qos::AtLeastOnce, message);
    }

    pub(super) fn request(&self, request: &Request) {
        put(&self.requests, Up::Request, Qos::AtMostOnce, request);
    }

    /// Hands on a window of figures or features as it lies in the spool.
    pub(super) fn window(&self, payload: Bytes) {
        let up = if SketchMessage::is_one(&payload) { Up::Sketches } else { Up::Telemetry };
        let message = Message { up, qos: Qos::AtLeastOnce, payload };
        if self.telemetry.try_send(Figures::Window(message)).is_err() {
            tracing::debug!("the lane to the server is full; the window comes again later");
        }
    }

    /// Waits until the link has everything that was said so far.
    pub(super) async fn flush(&self) {
        let (mark, passed) = oneshot::channel();
        if self.telemetry.send(Figures::Mark(mark)).await.is_ok() {
            let _ = passed.await;
        }
    }
}

fn put<T: Serialize>(lane: &mpsc::Sender<Message>, up: Up, qos: Qos, message: &T) {
    let payload = match serde_json::to_vec(message) {
        Ok(bytes) => bytes.into(),
        Err(error) => return tracing::error!(%error, ?up, "a message has no JSON form"),
    };
    if lane.try_send(Message { up, qos, payload }).is_err() {
        tracing::debug!(?up, "the lane to the server is full; the message comes again later");
    }
}

impl Publisher {
    /// Publishes until the lanes are closed or the link is stopped.
    pub(super) async fn run(mut self, link: Link) {
        while let Some(message) = self.next().await {
            let Message { up, qos, payload } = message;
            let topic = Topic::up(self.device.clone(), up).to_string();
            let published = match qos {
                Qos::AtMostOnce => link.publish(topic, qos, payload).await,
                Qos::AtLeastOnce => link.offer(topic, payload).await,
            };
            match published {
                Ok(()) | Err(LinkError::Offline) => {}
                Err(LinkError::Stopped) => return,
                Err(error) => tracing::warn!(%error, ?up, "a message was not published"),
            }
        }
    }

    /// What waits in the last lane.
    #[cfg(test)]
    pub(super) fn waiting_windows(&mut self) -> Vec<(Up, Bytes)> {
        let waiting = std::iter::from_fn(|| self.telemetry.try_recv().ok());
        let window = |figures| match figures {
            Figures::Window(message) => Some((message.up, message.payload)),
            Figures::Mark(_) => None,
        };
        waiting.filter_map(window).collect()
    }

    /// The oldest message of the first lane that has one.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let figures = tokio::select! {
                biased;
                message = self.state.recv() => return message,
                Some(message) = self.requests.recv() => return Some(message),
                Some(figures) = self.telemetry.recv() => figures,
            };
            match figures {
                Figures::Window(message) => return Some(message),
                Figures::Mark(mark) => {
                    let _ = mark.send(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> (Outgoing, Publisher) {
        Outgoing::new(DeviceId::new("d").unwrap())
    }

    fn question() -> Request {
        Request::Metadata { name: "timestamp.json".into(), offset: 0 }
    }

    #[tokio::test]
    async fn what_a_device_is_passes_what_it_asks_and_both_pass_its_figures() {
        let (outgoing, mut publisher) = lanes();
        for _ in 0..TELEMETRY {
            outgoing.window(Bytes::from_static(b"{}"));
        }
        outgoing.request(&question());
        outgoing.state(&StateMessage::Offline);
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(publisher.next().await.unwrap().up);
        }
        assert_eq!(order, [Up::State, Up::Request, Up::Telemetry]);
    }

    #[tokio::test]
    async fn a_flush_returns_after_every_lane_was_emptied() {
        let (outgoing, mut publisher) = lanes();
        outgoing.state(&StateMessage::Offline);
        outgoing.window(Bytes::from_static(b"{}"));
        let emptied = tokio::spawn(async move {
            let seen = [publisher.next().await.unwrap().up, publisher.next().await.unwrap().up];
            drop(publisher.next().await);
            seen
        });
        outgoing.flush().await;
        drop(outgoing);
        assert_eq!(emptied.await.unwrap(), [Up::State, Up::Telemetry]);
    }

    #[tokio::test]
    async fn a_full_lane_drops_and_never_waits() {
        let (outgoing, mut publisher) = lanes();
        (0..2 * REQUESTS).for_each(|_| outgoing.request(&question()));
        (0..2 * STATE).for_each(|_| outgoing.state(&StateMessage::Offline));
        let mut counted = 0;
        drop(outgoing);
        while publisher.next().await.is_some() {
            counted += 1;
        }
        assert_eq!(counted, STATE, "a closed state lane ends the publisher");
    }
}
