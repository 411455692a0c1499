//! The private socket between `rumqttc` and the wire.
//!
//! The socket lies in a folder that only we can enter, takes exactly one connection and is removed as soon as that
//! one is made.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::dial::{Wire, within};

/// One TLS record: larger buffers would not be filled, smaller ones would split records.
const COPY_BUFFER_BYTES: usize = 16 * 1024;

/// The limits of a bridge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BridgeLimits {
    /// The longest that a write to the server may make no progress.
    pub(crate) stall: Duration,
    /// The longest silence from the server; it must answer pings.
    pub(crate) silence: Duration,
    /// How long `rumqttc` may take to come to its socket.
    pub(crate) accept: Duration,
}

/// A bridge that waits for `rumqttc`.
pub(crate) struct Bridge {
    listener: UnixListener,
    folder: TempDir,
    path: PathBuf,
}

impl Bridge {
    /// Makes the private socket.
    pub(crate) fn bind(parent: Option<&Path>) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("muster-link-").permissions(std::fs::Permissions::from_mode(0o700));
        let folder = match parent {
            Some(parent) => builder.tempdir_in(parent)?,
            None => builder.tempdir()?,
        };
        let path = folder.path().join("mqtt");
        Ok(Self { listener: UnixListener::bind(&path)?, folder, path })
    }

    /// Where `rumqttc` has to connect.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies until either side ends; the copy stops when the handle is dropped.
    pub(crate) fn run(self, wire: Wire, limits: BridgeLimits) -> AbortOnDropHandle<io::Result<()>> {
        let task: JoinHandle<io::Result<()>> = tokio::spawn(async move {
            let client = self.accept(limits.accept).await?;
            copy(client, wire, limits).await
        });
        AbortOnDropHandle::new(task)
    }

    async fn accept(self, deadline: Duration) -> io::Result<UnixStream> {
        let (client, _) = within(deadline, self.listener.accept()).await?;
        drop(self.listener);
        self.folder.close()?;
        Ok(client)
    }
}

/// Copies both ways. The client's end of stream is passed on and ends the copy well; the server's is an error,
/// since a server says goodbye in MQTT before it closes.
async fn copy<C, W>(client: C, wire: W, limits: BridgeLimits) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    W: AsyncRead + AsyncWrite,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (wire_read, wire_write) = tokio::io::split(wire);
    tokio::select! {
        up = copy_up(client_read, wire_write, limits.stall) => up,
        down = copy_down(wire_read, client_write, limits.silence) => down,
    }
}

async fn copy_up(
    mut client: impl AsyncRead + Unpin,
    mut wire: impl AsyncWrite + Unpin,
    stall: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        let count = client.read(&mut buffer).await?;
        if count == 0 {
            return within(stall, wire.shutdown()).await;
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let written = within(stall, wire.write(rest)).await?;
            rest = &rest[written..];
        }
        within(stall, wire.flush()).await?;
    }
}

async fn copy_down(
    mut wire: impl AsyncRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
    silence: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let mut tail = [0; SHORT_DISCONNECT_BYTES];
    loop {
        let count = match within(silence, wire.read(&mut buffer)).await {
            Ok(0) => return Err(closed(tail)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(closed(tail)),
            read => read?,
        };
        keep_tail(&mut tail, &buffer[..count]);
        client.write_all(&buffer[..count]).await?;
    }
}

/// A DISCONNECT with a reason and no properties: type, remaining length 1, reason.
const SHORT_DISCONNECT_BYTES: usize = 3;

fn keep_tail(tail: &mut [u8; SHORT_DISCONNECT_BYTES], bytes: &[u8]) {
    for byte in &bytes[bytes.len().saturating_sub(tail.len())..] {
        tail.rotate_left(1);
        tail[SHORT_DISCONNECT_BYTES - 1] = *byte;
    }
}

/// Why the server closed. `rumqttc` cannot read the short form of DISCONNECT, which MQTT 5 allows, so the reason is
/// taken from the last bytes here. It is told to people and decides nothing.
fn closed(tail: [u8; SHORT_DISCONNECT_BYTES]) -> io::Error {
    let reason = match tail {
        [0xE0, 1, code] => DisconnectReasonCode::try_from(code).ok(),
        _ => None,
    };
    let text = reason.map_or_else(|| "the server closed the connection".to_owned(), farewell);
    io::Error::new(io::ErrorKind::ConnectionAborted, text)
}

/// The words for a DISCONNECT of the server.
pub(crate) fn farewell(reason: DisconnectReasonCode) -> String {
    format!("the server said goodbye: {reason:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    const LIMITS: BridgeLimits = BridgeLimits {
        stall: Duration::from_secs(5),
        silence: Duration::from_secs(60),
        accept: Duration::from_secs(5),
    };

    fn bridged(wire_buffer: usize) -> (DuplexStream, DuplexStream, JoinHandle<io::Result<()>>) {
        let (client, client_end) = duplex(1024);
        let (wire, server) = duplex(wire_buffer);
        (client, server, tokio::spawn(copy(client_end, wire, LIMITS)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_reading_is_noticed() {
        let (mut client, _server, task) = bridged(16);
        client.write_all(&[0; 64]).await.unwrap();
        assert_eq!(task.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_reads_slowly_is_not_stalled() {
        let (mut client, mut server, task) = bridged(1);
        client.write_all(&[7; 20]).await.unwrap();
        let mut byte = [0];
        for _ in 0..20 {
            tokio::time::sleep(LIMITS.stall / 2).await;
            server.read_exact(&mut byte).await.unwrap();
        }
        drop(client);
        assert_eq!(server.read(&mut byte).await.unwrap(), 0);
        task.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_noticed() {
        let (_client, _server, task) = bridged(1024);
        assert_eq!(task.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn bytes_arrive_unchanged_both_ways() {
        let (mut client, mut server, task) = bridged(1024);
        client.write_all(b"up").await.unwrap();
        server.write_all(b"down").await.unwrap();
        let (mut up, mut down) = ([0; 2], [0; 4]);
        server.read_exact(&mut up).await.unwrap();
        client.read_exact(&mut down).await.unwrap();
        assert_eq!((&up, &down), (b"up", b"down"));
        drop(server);
        assert_eq!(task.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn the_reason_of_a_goodbye_is_told_even_when_it_comes_in_pieces() {
        let (_client, mut server, task) = bridged(1024);
        for byte in [b'x', 0xE0, 1, 0x8B] {
            server.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(server);
        let error = task.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the server said goodbye: ServerShuttingDown");
    }

    #[tokio::test]
    async fn only_the_owner_can_reach_the_socket() {
        let bridge = Bridge::bind(None).unwrap();
        let mode = std::fs::metadata(bridge.folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
