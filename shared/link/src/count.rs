//! Counts what really passes the TCP connection: handshake, records and all, which is what a metered link bills
//! short of the TCP and IP headers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes since the link was made, in both directions, over all its connections. Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct LinkBytes {
    inner: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    up: AtomicU64,
    down: AtomicU64,
}

/// A reading of [`LinkBytes`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteCount {
    /// Bytes sent to the server.
    pub up_bytes: u64,
    /// Bytes received from the server.
    pub down_bytes: u64,
}

impl LinkBytes {
    /// The count now.
    #[must_use]
    pub fn read(&self) -> ByteCount {
        ByteCount {
            up_bytes: self.inner.up.load(Ordering::Relaxed),
            down_bytes: self.inner.down.load(Ordering::Relaxed),
        }
    }

    fn add_up(&self, count: usize) {
        self.inner.up.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn add_down(&self, count: usize) {
        self.inner.down.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A stream that counts.
pub(crate) struct Counted<S> {
    stream: S,
    bytes: LinkBytes,
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S, bytes: LinkBytes) -> Self {
        Self { stream, bytes }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.bytes.add_down(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, buffer);
        if let Poll::Ready(Ok(written)) = &polled {
            self.bytes.add_up(*written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn every_byte_is_counted_once_in_its_direction() {
        let (near, mut far) = tokio::io::duplex(8);
        let bytes = LinkBytes::default();
        let mut near = Counted::new(near, bytes.clone());
        let mut received = [0; 100];
        let (written, read) = tokio::join!(near.write_all(&[1; 100]), far.read_exact(&mut received));
        written.and(read).unwrap();
        far.write_all(&[2; 5]).await.unwrap();
        near.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(bytes.read(), ByteCount { up_bytes: 100, down_bytes: 5 });
    }
}
