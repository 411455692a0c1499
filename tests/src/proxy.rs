//! A TCP proxy between devices and the broker: it counts, pauses, and cuts in the middle of a message.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a paused connection looks whether it may go on.
const PAUSE_LOOK_EVERY: Duration = Duration::from_millis(10);

/// Bytes taken at once: small, so that a cut is where it was asked for.
const PIECE_BYTES: usize = 4 * 1_024;

/// The proxy. Threads end with their connections, and the listener with the process.
#[derive(Debug, Clone)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Where connections lead; refused until it is known.
    target: Mutex<Option<SocketAddr>>,
    /// Both ends of everything that is open.
    open: Mutex<Vec<TcpStream>>,
    /// Nothing passes while this holds, in either direction.
    paused: AtomicBool,
    /// From the server to devices.
    down_bytes: AtomicU64,
    /// From devices to the server.
    up_bytes: AtomicU64,
    /// Everything is cut when `down_bytes` reaches this.
    cut_at: AtomicU64,
    /// Connections so far.
    connections: AtomicU64,
}

impl Proxy {
    /// Listens on a free port; connections lead nowhere until [`Proxy::lead_to`].
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared { cut_at: AtomicU64::new(u64::MAX), ..Shared::default() });
        let proxy = Self { address, shared };
        let own = proxy.clone();
        thread::spawn(move || listener.incoming().flatten().for_each(|device| own.connect(device)));
        proxy
    }

    /// The port devices connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on connections lead to `target`.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = Some(target);
    }

    /// Cuts everything as soon as `bytes` more have gone to devices.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_at.store(self.down_bytes() + bytes, Ordering::SeqCst);
    }

    /// Holds every byte back.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
    }

    /// Lets bytes pass again.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// Cuts what is open now.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Bytes that went to devices so far.
    #[must_use]
    pub fn down_bytes(&self) -> u64 {
        self.shared.down_bytes.load(Ordering::SeqCst)
    }

    /// Bytes that came from devices so far.
    #[must_use]
    pub fn up_bytes(&self) -> u64 {
        self.shared.up_bytes.load(Ordering::SeqCst)
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    fn connect(&self, device: TcpStream) {
        let Some(target) = *self.shared.target.lock().unwrap() else { return };
        let Ok(server) = TcpStream::connect(target) else { return };
        let clone = |stream: &TcpStream| stream.try_clone().expect("descriptors are plenty");
        self.shared.connections.fetch_add(1, Ordering::SeqCst);
        self.shared.open.lock().unwrap().extend([clone(&device), clone(&server)]);
        for stream in [&device, &server] {
            stream.set_nodelay(true).expect("TCP has this option");
        }
        self.carry(clone(&server), clone(&device), |shared| &shared.down_bytes);
        self.carry(device, server, |shared| &shared.up_bytes);
    }

    fn carry(&self, from: TcpStream, to: TcpStream, counter: fn(&Shared) -> &AtomicU64) {
        let shared = self.shared.clone();
        thread::spawn(move || {
            let _ = carry(&shared, &from, &to, counter(&shared));
            // The other direction ends as well; it may have ended before.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

impl Shared {
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(
    shared: &Shared,
    mut from: &TcpStream,
    mut to: &TcpStream,
    counter: &AtomicU64,
) -> std::io::Result<()> {
    let mut piece = [0; PIECE_BYTES];
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        while shared.paused.load(Ordering::SeqCst) {
            thread::park_timeout(PAUSE_LOOK_EVERY);
        }
        to.write_all(&piece[..length])?;
        counter.fetch_add(length as u64, Ordering::SeqCst);
        if shared.down_bytes.load(Ordering::SeqCst) >= shared.cut_at.load(Ordering::SeqCst) {
            shared.cut_at.store(u64::MAX, Ordering::SeqCst);
            shared.cut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_carries_counts_and_cuts() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start();
        proxy.lead_to(server.local_addr().unwrap());
        let mut device = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        device.write_all(b"up").unwrap();
        let (mut inside, _) = server.accept().unwrap();
        let mut two = [0; 2];
        inside.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"up");

        proxy.cut_after(4);
        inside.write_all(b"down").unwrap();
        let mut received = Vec::new();
        device.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"down");
        assert_eq!((proxy.up_bytes(), proxy.down_bytes(), proxy.connections()), (2, 4, 1));
    }
}
