//! The broker in our own process: accept, handshake, identity, then `mqtt5` does the protocol.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use mqtt5::QoS;
use mqtt5::broker::ResourceMonitor;
use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::tls_acceptor::TlsStreamWrapper;
use mqtt5::broker::transport::BrokerTransport;
use mqtt5::packet::publish::PublishPacket;
use rustls::ServerConfig;
use shared::DeviceId;
use shared::topic::{Down, Topic};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::registry::Registry;
use super::{Admission, Broker, BrokerLimits, Delivery, Peer, PublishError, Sink, limits};

/// How long a connection that is to be cut may take to end by itself before it is dropped.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Accepting fails when descriptors run out; a pause lets some come back instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A broker in this process. Clones share it.
#[derive(Clone)]
pub struct EmbeddedBroker {
    shared: Arc<Shared>,
}

struct Shared {
    // Inputs.
    tls: ArcSwap<ServerConfig>,
    limits: BrokerLimits,
    sink: Arc<dyn Sink>,
    admission: Arc<dyn Admission>,
    // State.
    registry: Arc<Registry>,
    router: Arc<MessageRouter>,
    stats: Arc<BrokerStats>,
    monitor: Arc<ResourceMonitor>,
    places: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    // The end, in order: no more connections, goodbye to those there are, cut what is left.
    stopping: CancellationToken,
    goodbye: broadcast::Sender<()>,
    cut_all: CancellationToken,
    tasks: TaskTracker,
    address: SocketAddr,
}

impl EmbeddedBroker {
    /// Starts to accept on `listener`. `tls` must demand and verify client certificates.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        limits: BrokerLimits,
        sink: Arc<dyn Sink>,
        admission: Arc<dyn Admission>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            tls: ArcSwap::new(tls),
            limits,
            sink,
            admission,
            registry: Arc::default(),
            router: Arc::new(MessageRouter::new().with_fallback_queue_limits(limits::queue_limits())),
            stats: Arc::new(BrokerStats::new()),
            monitor: Arc::new(ResourceMonitor::new(limits::resource_limits())),
            places: Arc::new(Semaphore::new(limits.max_connections)),
            strangers: Arc::new(Semaphore::new(limits.max_strangers)),
            stopping: CancellationToken::new(),
            goodbye: broadcast::Sender::new(1),
            cut_all: CancellationToken::new(),
            tasks: TaskTracker::new(),
            address: listener.local_addr()?,
        });
        shared.tasks.spawn(accept(shared.clone(), listener));
        Ok(Self { shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Uses `tls` for every handshake from now on; connections that exist stay.
    pub fn replace_tls(&self, tls: Arc<ServerConfig>) {
        self.shared.tls.store(tls);
    }
}

impl Broker for EmbeddedBroker {
    fn publish<'a>(
        &'a self,
        device: &'a DeviceId,
        down: Down,
        delivery: Delivery,
        payload: Bytes,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.shared.publish(device, down, delivery, payload))
    }

    fn kick<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(self.shared.registry.cut(device)))
    }

    fn connected(&self) -> BTreeSet<DeviceId> {
        self.shared.registry.devices()
    }

    fn is_connected(&self, device: &DeviceId) -> bool {
        self.shared.registry.is_connected(device)
    }

    fn connected_count(&self) -> usize {
        self.shared.registry.count()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.stop())
    }
}

impl Shared {
    async fn publish(
        &self,
        device: &DeviceId,
        down: Down,
        delivery: Delivery,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let max_bytes = self.limits.max_payload_bytes();
        if payload.len() > max_bytes {
            return Err(PublishError::TooLarge { size_bytes: payload.len(), max_bytes });
        }
        let topic = Topic::down(device.clone(), down).to_string();
        if !self.router.has_subscription(device.as_str(), &topic).await {
            return Err(PublishError::NotListening { device: device.clone() });
        }
        let qos = match delivery {
            Delivery::AtMostOnce => QoS::AtMostOnce,
            Delivery::AtLeastOnce => QoS::AtLeastOnce,
        };
        let message = PublishPacket::new(topic, payload, qos);
        // A deadline that is over: a slow device is queued for, never waited for.
        self.router.route_message_with_deadline(&message, None, tokio::time::Instant::now()).await;
        Ok(())
    }

    async fn stop(&self) {
        self.stopping.cancel();
        // No receiver means that nobody is connected.
        let _ = self.goodbye.send(());
        self.tasks.close();
        if timeout(self.limits.stop, self.tasks.wait()).await.is_err() {
            tracing::info!(connections = self.tasks.len(), "cut connections that did not end by themselves");
            self.cut_all.cancel();
            // Only a sink that hangs can hold a task beyond this; it must not hold the stop.
            let _ = timeout(self.limits.stop.max(2 * CUT_GRACE), self.tasks.wait()).await;
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => admit_stranger(&shared, stream, address),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Gives the connection its task if there is a place; nothing here waits for the other end.
fn admit_stranger(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr) {
    let place = shared.places.clone().try_acquire_owned();
    let stranger = shared.strangers.clone().try_acquire_owned();
    let (Ok(place), Ok(stranger)) = (place, stranger) else {
        tracing::info!(%address, "no place for another connection");
        return;
    };
    let task = serve(shared.clone(), stream, address, stranger);
    shared.tasks.spawn(async move {
        task.await;
        drop(place);
    });
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, address: SocketAddr, stranger: OwnedSemaphorePermit) {
    let met = tokio::select! {
        met = meet(&shared, stream) => met,
        () = shared.stopping.cancelled() => return,
    };
    drop(stranger);
    match met {
        Ok((tls, peer)) => Box::pin(serve_peer(&shared, tls, peer, address)).await,
        Err(error) => tracing::debug!(%address, error = &*error as &dyn std::error::Error, "no identity"),
    }
}

/// Handshake and identity.
async fn meet(shared: &Shared, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Peer), super::BoxError> {
    stream.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(shared.tls.load_full());
    let tls = timeout(shared.limits.handshake, acceptor.accept(stream)).await??;
    let peer = Peer::from_chain(tls.get_ref().1.peer_certificates())?;
    Ok((tls, peer))
}

async fn serve_peer(shared: &Shared, tls: TlsStream<TcpStream>, peer: Peer, address: SocketAddr) {
    let cut = shared.cut_all.child_token();
    let connection = Arc::new(Connection::new(
        peer,
        shared.registry.clone(),
        shared.sink.clone(),
        shared.admission.clone(),
        cut.clone(),
    ));
    let handler = ClientHandler::new(
        BrokerTransport::tls(TlsStreamWrapper::new(tls)),
        address,
        Arc::new(shared.limits.config(connection.clone())),
        shared.router.clone(),
        connection.clone(),
        None,
        shared.stats.clone(),
        shared.monitor.clone(),
        shared.goodbye.subscribe(),
    );
    // A goodbye sent before this connection could hear it would otherwise be missed.
    if !shared.stopping.is_cancelled() {
        tokio::select! {
            ended = handler.run() => tracing::debug!(device.id = %connection.peer().device, ?ended, "connection ended"),
            () = cut_off(shared, &connection, &cut) => {}
        }
    }
    connection.leave().await;
}

/// Returns when the connection must be dropped: some time after it was asked to end and did not.
async fn cut_off(shared: &Shared, connection: &Connection, cut: &CancellationToken) {
    cut.cancelled().await;
    let device = connection.peer().device.as_str();
    if connection.is_latest() {
        shared.router.disconnect_client(device).await;
    }
    tokio::time::sleep(CUT_GRACE).await;
    if connection.is_latest() {
        shared.router.unregister_client(device).await;
    }
}
