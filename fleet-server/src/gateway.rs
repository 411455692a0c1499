//! Between the broker and the rest: what devices say goes to the store and the rollouts, what they must know goes out.
//!
//! Nothing a device says is believed because of who carried it: its identity is its certificate, and reports, which
//! gate rollouts, carry its signature. A message is acknowledged to the device only after its commit. A message that
//! makes no sense is dropped and counted, never an error of the link, or one broken device would reconnect for ever.

mod batch;
mod blocks;
mod parts;
mod redrive;
mod sketches;
mod telemetry;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use shared::{
    DeviceId,
    message::{Acknowledgement, Hello, Request, StateMessage, Stream},
    report::Report,
    telemetry::Telemetry,
    topic::{Down, Up},
    trust::{KeySet, Signed},
};
use tokio::sync::Mutex;

use crate::{
    app::App,
    broker::{Admission, BoxError, Delivery, Peer, PublishError, Sink, SinkError, Verdict},
    drift,
    rollouts::Greeting,
    signing::Beside,
    store::{SketchRow, StoreError, TelemetryRow},
};

pub use batch::{BatchStore, Batcher, Inbox, NotStored, run_batches};
pub use blocks::BlockServer;
pub use parts::metadata_file;
pub use redrive::{keep_house, redrive};
pub use sketches::SketchStore;
pub use telemetry::TelemetryStore;

/// The server's ear on the broker.
pub struct Gateway {
    app: Arc<App>,
    blocks: Arc<BlockServer>,
    telemetry: Batcher<TelemetryRow>,
    sketches: Batcher<SketchRow>,
    noting: Mutex<()>,
}

impl Gateway {
    /// A gateway for the parts that run beside it.
    #[must_use]
    pub fn new(
        app: Arc<App>,
        blocks: Arc<BlockServer>,
        telemetry: Batcher<TelemetryRow>,
        sketches: Batcher<SketchRow>,
    ) -> Self {
        Self { app, blocks, telemetry, sketches, noting: Mutex::new(()) }
    }

    async fn message(&self, device: &DeviceId, up: Up, payload: Bytes) -> Result<(), BoxError> {
        match up {
            Up::State => self.state(device, &payload).await,
            Up::Telemetry => self.telemetry(device, &payload).await,
            Up::Request => {
                self.request(device, &payload).await;
                Ok(())
            }
            Up::Sketches => self.sketch(device, &payload).await,
        }
    }

    async fn state(&self, device: &DeviceId, payload: &[u8]) -> Result<(), BoxError> {
        match serde_json::from_slice(payload) {
            Ok(StateMessage::Hello(hello)) => self.hello(device, &hello).await,
            Ok(StateMessage::Report(signed)) => self.report(device, signed).await,
            // The end of the connection tells the same, also when the will is lost.
            Ok(StateMessage::Offline) => Ok(()),
            Err(error) => {
                self.refused(device, "state", &error.to_string());
                Ok(())
            }
        }
    }

    async fn hello(&self, device: &DeviceId, hello: &Hello) -> Result<(), BoxError> {
        self.app.store.save_hello(device, hello, self.app.clock.now()).await?;
        self.app.rollouts.hello(Greeting::of(device, hello)).await;
        self.app.metrics.message("hello", "stored");
        send_desired(&self.app, device).await;
        Ok(())
    }

    async fn report(&self, device: &DeviceId, signed: Signed<Report>) -> Result<(), BoxError> {
        let Some(row) = self.app.store.device(device).await? else { return Ok(()) };
        let report = match signed.verify(&KeySet::single(row.report_key)) {
            Ok(report) if report.device == *device => report.into_inner(),
            Ok(_) => return self.drop_report(device, "it speaks for another device"),
            Err(error) => return self.drop_report(device, &error.to_string()),
        };
        let acknowledgement =
            Acknowledgement { stream: Stream::Report, boot: report.boot.clone(), sequence: report.sequence };
        self.app.rollouts.report(report).await?;
        self.app.metrics.message("report", "stored");
        self.acknowledge(device, &acknowledgement).await;
        Ok(())
    }

    fn drop_report(&self, device: &DeviceId, why: &str) -> Result<(), BoxError> {
        tracing::warn!(device.id = %device, why, "a report is not believed");
        self.app.metrics.message("report", "refused");
        Ok(())
    }

    async fn telemetry(&self, device: &DeviceId, payload: &[u8]) -> Result<(), BoxError> {
        let mut report: Telemetry = match serde_json::from_slice(payload) {
            Ok(report) => report,
            Err(error) => {
                self.refused(device, "telemetry", &error.to_string());
                return Ok(());
            }
        };
        let acknowledgement = Acknowledgement {
            stream: Stream::Telemetry,
            boot: report.boot.clone(),
            sequence: report.sequence,
        };
        if let Some(why) = telemetry::drop_implausible_challengers(&mut report) {
            self.refused(device, "challengers", why);
        }
        let (alarms, dropped) = telemetry::take_alarms(&self.app.specs, &mut report).await?;
        if dropped > 0 {
            self.refused(device, "drift", "alarms that no detector of a watched release raises");
        }
        // Before the report, which is told again until it is stored.
        drift::told_by_device(&self.app, device, alarms).await?;
        if let Err(why) = telemetry::check(&report) {
            // It will make no more sense when it comes again, and must not stand before those that do.
            self.refused(device, "telemetry", why);
        } else {
            self.telemetry.store(TelemetryRow { device: device.clone(), telemetry: report }).await?;
            self.app.metrics.message("telemetry", "stored");
        }
        self.acknowledge(device, &acknowledgement).await;
        Ok(())
    }

    async fn sketch(&self, device: &DeviceId, payload: &[u8]) -> Result<(), BoxError> {
        match sketches::read(&self.app.specs, device, payload).await? {
            sketches::Read::Window(row) => {
                self.sketches.store(*row).await?;
                self.app.metrics.message("sketch", "stored");
            }
            sketches::Read::Refused(why) => self.refused(device, "sketch", &why),
        }
        if let Some(acknowledgement) = sketches::acknowledgement(payload) {
            self.acknowledge(device, &acknowledgement).await;
        }
        Ok(())
    }

    async fn request(&self, device: &DeviceId, payload: &[u8]) {
        match serde_json::from_slice(payload) {
            Ok(Request::Metadata { name, offset }) => parts::answer(&self.app, device, name, offset).await,
            Ok(Request::Blocks { artifact, block_bytes, runs }) => {
                self.blocks.request(device, artifact, block_bytes, &runs).await;
            }
            Err(error) => self.refused(device, "request", &error.to_string()),
        }
    }

    async fn acknowledge(&self, device: &DeviceId, acknowledgement: &Acknowledgement) {
        send(&self.app, device, Down::Acknowledgement, Delivery::AtLeastOnce, acknowledgement).await;
    }

    fn refused(&self, device: &DeviceId, stream: &'static str, why: &str) {
        tracing::info!(device.id = %device, stream, why, "a message makes no sense");
        self.app.metrics.message(stream, "refused");
    }

    /// Writes down whether the device is connected now. The end of an old connection may be told after the start of
    /// the next one, so what is written is what the broker knows, and one note follows the other.
    async fn note_connection(&self, device: &DeviceId) -> bool {
        let _turn = self.noting.lock().await;
        let (connected, count) = match self.app.broker.get() {
            Some(broker) => (broker.is_connected(device), broker.connected_count()),
            None => (false, 0),
        };
        let now = self.app.clock.now();
        if let Err(error) = self.app.store.set_connected(device, connected, now).await {
            tracing::error!(device.id = %device, error = &error as &dyn std::error::Error, "a connection was not noted");
        }
        self.app.metrics.connected.set(i64::try_from(count).unwrap_or(i64::MAX));
        connected
    }

    async fn admit(&self, peer: &Peer) -> Result<Verdict, BoxError> {
        let Some(device) = self.app.store.device(&peer.device).await? else { return Ok(Verdict::Refused) };
        if device.revoked {
            return Ok(Verdict::Refused);
        }
        if device.certificate_serial == peer.serial {
            if device.previous_serial.is_some() {
                self.app.store.drop_previous_certificate(&peer.device, &peer.serial).await?;
            }
            return Ok(Verdict::Admitted);
        }
        // A renewed certificate replaces the old one only when it was used once.
        let previous = device.previous_serial.as_ref() == Some(&peer.serial);
        Ok(if previous { Verdict::Admitted } else { Verdict::Refused })
    }
}

impl Sink for Gateway {
    fn on_message<'a>(
        &'a self,
        device: &'a DeviceId,
        up: Up,
        payload: Bytes,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move { self.message(device, up, payload).await.map_err(SinkError) })
    }

    fn on_connect<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.note_connection(device).await;
        })
    }

    fn on_disconnect<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if !self.note_connection(device).await {
                self.blocks.forget(device);
            }
        })
    }
}

impl Admission for Gateway {
    fn admit<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Verdict, BoxError>> {
        Box::pin(Gateway::admit(self, peer))
    }
}

/// Sends a device its desired state, signed now. A device that does not listen is told when it says hello.
pub async fn send_desired(app: &App, device: &DeviceId) {
    let read = async { Ok((app.store.desired(device).await?, app.store.device(device).await?)) };
    match read.await {
        Ok((desired, row)) => {
            let (limits, challengers) = row.map(|row| (row.limits, row.challengers)).unwrap_or_default();
            let beside = Beside { limits, challengers };
            let message = app.signing.desired_message(device, &desired, beside, app.clock.now());
            send(app, device, Down::Desired, Delivery::AtLeastOnce, &message).await;
        }
        Err::<_, StoreError>(error) => {
            tracing::error!(device.id = %device, error = &error as &dyn std::error::Error, "a desired state cannot be read");
        }
    }
}

async fn send<T: Serialize>(app: &App, device: &DeviceId, down: Down, delivery: Delivery, message: &T) {
    let payload = serde_json::to_vec(message).expect("messages are texts, numbers and collections");
    send_bytes(app, device, down, delivery, payload.into()).await;
}

async fn send_bytes(app: &App, device: &DeviceId, down: Down, delivery: Delivery, payload: Bytes) {
    let Some(broker) = app.broker.get() else { return };
    match broker.publish(device, down, delivery, payload).await {
        Ok(()) | Err(PublishError::NotListening { .. }) => {}
        Err(error) => {
            tracing::warn!(device.id = %device, error = &error as &dyn std::error::Error, "a message was not sent");
        }
    }
}
