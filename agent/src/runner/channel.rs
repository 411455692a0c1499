//! Messages and open files between the daemon and its child processes.
//!
//! A frame is a little-endian `u32` length and that many bytes of JSON, on a Unix socket pair. Descriptors travel
//! with the first byte of their frame (`SCM_RIGHTS`) and are closed on exec on arrival, so a child has exactly
//! the files that it was handed.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

/// Largest frame: a load request repeats the inputs and outputs of a manifest, which has 4 MiB at most.
pub const MAX_FRAME_BYTES: usize = 8 * 1_024 * 1_024;

/// Most descriptors with one frame.
pub const MAX_DESCRIPTORS: usize = 4;

/// The half that sends.
pub struct Sender(Arc<UnixStream>);

/// The half that receives.
pub struct Receiver(Arc<UnixStream>);

/// The two halves of one end of a socket pair. Must be called inside a runtime.
///
/// # Errors
/// When the runtime cannot take the socket.
pub fn split(socket: std::os::unix::net::UnixStream) -> io::Result<(Sender, Receiver)> {
    socket.set_nonblocking(true)?;
    let stream = Arc::new(UnixStream::from_std(socket)?);
    Ok((Sender(Arc::clone(&stream)), Receiver(stream)))
}

/// The end that a child process got as its standard input.
///
/// # Errors
/// When there is no standard input, or the runtime cannot take it.
pub fn from_stdin() -> io::Result<(Sender, Receiver)> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    split(std::os::unix::net::UnixStream::from(stdin))
}

impl Sender {
    /// Sends one message with its descriptors.
    ///
    /// # Errors
    /// When the other side is gone, or the message is beyond a bound.
    pub async fn send(&mut self, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = frame(message)?;
        if files.len() > MAX_DESCRIPTORS {
            return Err(io::Error::other(format!(
                "{} descriptors; allowed are {MAX_DESCRIPTORS}",
                files.len()
            )));
        }
        let mut sent = 0;
        while sent < frame.len() {
            let files = if sent == 0 { files } else { &[] };
            let rest = &frame[sent..];
            sent += self.0.async_io(Interest::WRITABLE, || send_some(&self.0, rest, files)).await?;
        }
        Ok(())
    }
}

impl Sender {
    /// Tells the other side that nothing follows; it may still answer.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn finish(self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }
}

impl Receiver {
    /// The next message with its descriptors; `None` when the other side is gone.
    ///
    /// # Errors
    /// When a frame is cut short, too large, or not what was expected.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut files = Vec::new();
        let mut length = [0; 4];
        if !self.fill(&mut length, &mut files).await? {
            return Ok(None);
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(invalid(format!("a frame of {length} bytes; allowed are {MAX_FRAME_BYTES}")));
        }
        let mut body = vec![0; length];
        if !self.fill(&mut body, &mut files).await? && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
        Ok(Some((message, files)))
    }

    /// Fills `buffer`; false when the other side was gone before the first byte.
    async fn fill(&mut self, buffer: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            let read = self.0.async_io(Interest::READABLE, || receive_some(&self.0, rest, files)).await;
            match read {
                Ok(0) if filled == 0 => return Ok(false),
                // A peer that was killed resets the connection when it had not read everything.
                Err(error) if filled == 0 && error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(false);
                }
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    let fits = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME_BYTES);
    let length = fits.ok_or_else(|| invalid(format!("a message of {length} bytes is too large")))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

fn send_some(socket: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("the descriptors do not fit the control buffer"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn receive_some(socket: &UnixStream, buffer: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            files.extend(arrived);
        }
    }
    Ok(read.bytes)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Write},
    };

    #[tokio::test]
    async fn a_message_arrives_with_its_open_file() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let ((mut sender, _keep), (_, mut receiver)) = (split(ours).unwrap(), split(theirs).unwrap());
        let (mut reader, mut writer) = io::pipe().unwrap();
        // Larger than a socket buffer, so both sides must go on where they stopped.
        let long = "x".repeat(1_000_000);
        let files = [writer.as_fd()];
        let (sent, received) = tokio::join!(sender.send(&long, &files), receiver.recv::<String>());
        sent.unwrap();
        let (text, files) = received.unwrap().unwrap();
        assert_eq!((text.len(), files.len()), (long.len(), 1));
        File::from(files.into_iter().next().unwrap()).write_all(b"hello").unwrap();
        writer.flush().unwrap();
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
    }

    #[tokio::test]
    async fn the_end_of_the_other_side_is_not_an_error() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (_, mut receiver) = split(theirs).unwrap();
        drop(ours);
        assert!(receiver.recv::<String>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_frame_beyond_the_bound_is_refused_before_it_is_read() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (_, mut receiver) = split(theirs).unwrap();
        ours.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receiver.recv::<String>().await.is_err());
    }
}
