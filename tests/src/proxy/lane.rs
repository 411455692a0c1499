//! One direction of one connection: a reader that stamps what comes, and a writer that lets it pass when it is due.

use std::{
    io::{self, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::{Connection, Shared, weather::Way};
use crate::random::Random;

/// How often a paused connection looks whether it may go on.
const PAUSE_LOOK_EVERY: Duration = Duration::from_millis(10);

/// Bytes taken at once: small, so that a cut is where it was asked for.
const PIECE_BYTES: usize = 4 * 1_024;

/// Pieces under way: a quarter of a megabyte, as much as a socket would buffer.
const PIECES: usize = 64;

/// Limited rates are kept over times as short as this.
const PACE: Duration = Duration::from_millis(20);

type Piece = (Instant, Vec<u8>);

/// Carries bytes one way until either end closes or fate cuts in.
pub(super) fn carry(shared: &Shared, connection: &Connection, way: Way) {
    let (sender, receiver) = sync_channel(PIECES);
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = take_in(connection, way, &sender);
        });
        let _ = let_pass(shared, connection, way, &receiver);
        // The other direction ends as well; it may have ended before.
        connection.close();
        drop(receiver);
    });
}

fn take_in(connection: &Connection, way: Way, pieces: &SyncSender<Piece>) -> io::Result<()> {
    let mut from = connection.source(way);
    let mut random = Random::new(connection.number);
    let mut due = Instant::now();
    let mut buffer = [0; PIECE_BYTES];
    loop {
        let length = from.read(&mut buffer)?;
        if connection.mutes(way) {
            // The end of the stream vanishes as well: the other side is not told that this one has gone.
            if length == 0 {
                connection.wait_until_closed();
                return Ok(());
            }
            continue;
        }
        if length == 0 {
            return Ok(());
        }
        let weather = connection.weather();
        let jitter = weather.jitter.mul_f64(random.below(1_000) as f64 / 1_000.0);
        due = due.max(Instant::now() + weather.latency + jitter);
        if pieces.send((due, buffer[..length].to_vec())).is_err() {
            return Ok(());
        }
    }
}

fn let_pass(shared: &Shared, connection: &Connection, way: Way, pieces: &Receiver<Piece>) -> io::Result<()> {
    while let Ok((due, piece)) = pieces.recv() {
        wait_until(due);
        let mut rest = piece.as_slice();
        while !rest.is_empty() {
            while shared.is_paused() {
                thread::park_timeout(PAUSE_LOOK_EVERY);
            }
            let (now, later) = rest.split_at(connection.pace(rest.len()));
            if !pass(shared, connection, way, now)? {
                return Ok(());
            }
            rest = later;
        }
    }
    Ok(())
}

/// Writes what fate lets pass; false when the connection is to die.
fn pass(shared: &Shared, connection: &Connection, way: Way, bytes: &[u8]) -> io::Result<bool> {
    let allowed = connection.spend(bytes.len());
    let written = connection.target(way).write_all(&bytes[..allowed]);
    if connection.mutes(way.back()) {
        // Nor does the news come back that nobody takes what is sent.
        return Ok(true);
    }
    written?;
    shared.count(way, allowed);
    Ok(allowed == bytes.len() || connection.hangs())
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

impl Connection {
    /// True when nothing of this direction arrives any more.
    fn mutes(&self, way: Way) -> bool {
        self.weather().swallowed == Some(way) || (self.hangs() && self.is_spent())
    }

    fn wait_until_closed(&self) {
        while !self.is_closed() {
            thread::park_timeout(PAUSE_LOOK_EVERY);
        }
    }

    /// How many of `length` bytes may go now, after waiting for what a limited rate asks for.
    fn pace(&self, length: usize) -> usize {
        let Some(rate) = self.weather().bytes_per_sec else { return length };
        let share = (rate as f64 * PACE.as_secs_f64()).ceil().max(1.0);
        let now = length.min(share as usize);
        wait_until(Instant::now() + Duration::from_secs_f64(now as f64 / rate.max(1) as f64));
        now
    }
}
