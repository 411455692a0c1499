//! The peer of a delivery: the same number of streams over loopback TCP, written in pieces of a block's size and
//! thrown away by the reader. Nothing is encrypted, named or checked: this is what the machine can carry at all.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use anyhow::anyhow;

use super::Figures;
use crate::measure::thread_cpu_seconds;

/// Bytes of one write and of one read.
const PIECE_BYTES: usize = 64 * 1_024;

/// Copies `bytes` over each of `streams` connections at once.
pub fn copy(streams: usize, bytes: usize) -> anyhow::Result<Figures> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut pairs = Vec::new();
    for _ in 0..streams {
        let sender = TcpStream::connect(listener.local_addr()?)?;
        pairs.push((sender, listener.accept()?.0));
    }
    let since = Instant::now();
    let cpu_seconds = thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .into_iter()
            .map(|(sender, receiver)| {
                (scope.spawn(move || send(sender, bytes)), scope.spawn(|| receive(receiver)))
            })
            .collect();
        let mut cpu_seconds = 0.0;
        for (sender, receiver) in threads {
            cpu_seconds += sender.join().map_err(|_| anyhow!("a sender panicked"))??;
            receiver.join().map_err(|_| anyhow!("a receiver panicked"))??;
        }
        anyhow::Ok(cpu_seconds)
    })?;
    Ok(Figures::new(streams * bytes, since.elapsed().as_secs_f64(), cpu_seconds))
}

/// Sends and tells the seconds that it took of a processor.
fn send(mut stream: TcpStream, bytes: usize) -> anyhow::Result<f64> {
    let piece = vec![7; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(PIECE_BYTES);
        stream.write_all(&piece[..length])?;
        left -= length;
    }
    thread_cpu_seconds()
}

fn receive(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    while stream.read(&mut piece)? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_several_streams_ends() {
        let figures = copy(3, 200_000).unwrap();
        assert!(figures.megabytes > 0.5 && figures.seconds > 0.0);
    }
}
