//! From a host name to a TLS stream, each step with its own deadline.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::count::{Counted, LinkBytes};
use crate::{BoxError, LinkOptions};

/// The stream to the server; its bytes are counted below TLS.
pub(crate) type Wire = TlsStream<Counted<TcpStream>>;

/// Why there is no stream to the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no TLS configuration: {0}")]
    Configuration(BoxError),
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("TLS handshake with {address} failed: {source}")]
    Handshake { address: String, source: io::Error },
}

/// Dials the server as the options say.
pub(crate) async fn dial(options: &LinkOptions, bytes: LinkBytes) -> Result<Wire, DialError> {
    let config = options.tls.client_config().map_err(DialError::Configuration)?;
    let address = format!("{}:{}", options.host, options.port);
    let connect = TcpStream::connect((options.host.as_str(), options.port));
    let tcp = within(options.deadlines.connect, connect)
        .await
        .map_err(|source| DialError::Connect { address: address.clone(), source })?;
    // Small packets such as acknowledgements must not wait for larger ones; failing to say so costs only time.
    let _ = tcp.set_nodelay(true);
    let handshake = TlsConnector::from(config).connect(options.server_name.clone(), Counted::new(tcp, bytes));
    within(options.deadlines.handshake, handshake)
        .await
        .map_err(|source| DialError::Handshake { address, source })
}

/// Runs `step`, or fails with a time-out.
pub(crate) async fn within<T>(
    deadline: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(deadline, step).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no progress in {deadline:?}")))
    })
}
