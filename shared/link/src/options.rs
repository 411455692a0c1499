//! What a link is told before it starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::Backoff;

/// Any error of a [`TlsSource`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Blocks are 64 KiB, metadata parts smaller; four times that leaves room and still bounds memory.
const DEFAULT_MAX_PACKET_BYTES: u32 = 256 * 1024;

/// Short enough that a dead link is found within two minutes, long enough for a metered one.
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How a message is delivered over one hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qos {
    /// At most once; may be dropped anywhere.
    AtMostOnce,
    /// At least once; repeated until the other end acknowledged it.
    AtLeastOnce,
}

/// A topic with what is said on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// How surely.
    pub qos: Qos,
    /// What.
    pub payload: Bytes,
}

/// Where a link gets its TLS configuration, asked at every connect so that certificates rotate.
///
/// Hand out the same `Arc` while nothing changed: session resumption lives in it.
pub trait TlsSource: Send + Sync + 'static {
    /// The configuration for the next connection.
    ///
    /// # Errors
    /// When there is none just now; the link tries again after its back-off.
    fn client_config(&self) -> Result<Arc<ClientConfig>, BoxError>;
}

impl<F> TlsSource for F
where
    F: Fn() -> Result<Arc<ClientConfig>, BoxError> + Send + Sync + 'static,
{
    fn client_config(&self) -> Result<Arc<ClientConfig>, BoxError> {
        self()
    }
}

/// How long each step may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Name look-up and TCP connect together.
    pub connect: Duration,
    /// TLS handshake.
    pub handshake: Duration,
    /// From the finished handshake to the last granted subscription.
    pub subscribe: Duration,
    /// The longest that a write to the server may make no progress.
    pub stall: Duration,
    /// The orderly goodbye at the end.
    pub goodbye: Duration,
}

impl Default for Deadlines {
    /// Generous enough for a satellite link, short enough that a dead address is left within half a minute.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            handshake: Duration::from_secs(15),
            subscribe: Duration::from_secs(20),
            stall: Duration::from_secs(45),
            goodbye: Duration::from_secs(3),
        }
    }
}

/// Everything about one link.
#[derive(Clone)]
pub struct LinkOptions {
    /// Host name or address to dial.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The name that the server's certificate must carry.
    pub server_name: ServerName<'static>,
    /// MQTT client id; our broker demands the common name of the client certificate.
    pub client_id: String,
    /// Time between pings; at least five seconds.
    pub keep_alive: Duration,
    /// Largest MQTT packet in either direction.
    pub max_packet_bytes: u32,
    /// What the server says for us when we vanish.
    pub last_will: Option<Message>,
    /// What to subscribe to at every connect.
    pub subscriptions: Vec<(String, Qos)>,
    /// Where the TLS configuration comes from.
    pub tls: Arc<dyn TlsSource>,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// How long each step may take.
    pub deadlines: Deadlines,
    /// Where the private socket's folder (mode 0700) is made; the system's temporary folder when absent.
    pub socket_dir: Option<PathBuf>,
}

impl LinkOptions {
    /// Options with defaults for everything that has one.
    #[must_use]
    pub fn new(
        host: impl Into<String>,
        port: u16,
        server_name: ServerName<'static>,
        client_id: impl Into<String>,
        tls: Arc<dyn TlsSource>,
    ) -> Self {
        Self {
            host: host.into(),
            port,
            server_name,
            client_id: client_id.into(),
            keep_alive: DEFAULT_KEEP_ALIVE,
            max_packet_bytes: DEFAULT_MAX_PACKET_BYTES,
            last_will: None,
            subscriptions: Vec::new(),
            tls,
            backoff: Backoff::default(),
            deadlines: Deadlines::default(),
            socket_dir: None,
        }
    }
}
