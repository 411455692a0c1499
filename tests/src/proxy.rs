//! A TCP proxy between devices and the broker: it counts, pauses, cuts in the middle of a message, and makes weather.

mod lane;
mod weather;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

pub use weather::{Fate, Way, Weather, losses};

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
    /// Everything that is open.
    open: Mutex<Vec<Arc<Connection>>>,
    /// Weather of connections to come.
    weather: Mutex<Weather>,
    /// Fates of the next connections; those after them are healthy.
    fates: Mutex<VecDeque<Fate>>,
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

/// One connection of a device, with its continuation to the server.
#[derive(Debug)]
struct Connection {
    /// From 1.
    number: u64,
    device: TcpStream,
    server: TcpStream,
    weather: Mutex<Weather>,
    fate: Fate,
    /// Bytes that wanted to pass, both ways.
    spent: AtomicU64,
    closed: AtomicBool,
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

    /// The weather from now on, for what is open and what will be.
    pub fn set_weather(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap() = weather;
        self.strike(weather);
    }

    /// The weather of what is open now; connections to come are as they were to be.
    pub fn strike(&self, weather: Weather) {
        for connection in self.shared.open.lock().unwrap().iter() {
            *connection.weather.lock().unwrap() = weather;
        }
    }

    /// What becomes of the next connections, one after the other. Those after them are healthy.
    pub fn deal(&self, fates: impl IntoIterator<Item = Fate>) {
        self.shared.fates.lock().unwrap().extend(fates);
    }

    /// Fates that no connection has met yet.
    #[must_use]
    pub fn fates_left(&self) -> usize {
        self.shared.fates.lock().unwrap().len()
    }

    /// Takes back the fates that were dealt and not met.
    pub fn forgive(&self) {
        self.shared.fates.lock().unwrap().clear();
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
        let number = self.shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let fate = self.shared.fates.lock().unwrap().pop_front().unwrap_or_default();
        if fate == Fate::DiesAfter(0) {
            return;
        }
        let Ok(server) = TcpStream::connect(target) else { return };
        for stream in [&device, &server] {
            stream.set_nodelay(true).expect("TCP has this option");
        }
        let weather = Mutex::new(*self.shared.weather.lock().unwrap());
        let (spent, closed) = (AtomicU64::new(0), AtomicBool::new(false));
        let connection = Connection { number, device, server, weather, fate, spent, closed };
        self.carry(Arc::new(connection));
    }

    fn carry(&self, connection: Arc<Connection>) {
        self.shared.open.lock().unwrap().push(Arc::clone(&connection));
        for way in [Way::Down, Way::Up] {
            let (shared, connection) = (Arc::clone(&self.shared), Arc::clone(&connection));
            thread::spawn(move || {
                lane::carry(&shared, &connection, way);
                shared.open.lock().unwrap().retain(|open| open.number != connection.number);
            });
        }
    }
}

impl Shared {
    fn cut(&self) {
        self.open.lock().unwrap().drain(..).for_each(|connection| connection.close());
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    fn count(&self, way: Way, bytes: usize) {
        let counter = match way {
            Way::Up => &self.up_bytes,
            Way::Down => &self.down_bytes,
        };
        counter.fetch_add(bytes as u64, Ordering::SeqCst);
        if self.down_bytes.load(Ordering::SeqCst) >= self.cut_at.load(Ordering::SeqCst) {
            self.cut_at.store(u64::MAX, Ordering::SeqCst);
            self.cut();
        }
    }
}

impl Connection {
    fn source(&self, way: Way) -> &TcpStream {
        match way {
            Way::Up => &self.device,
            Way::Down => &self.server,
        }
    }

    fn target(&self, way: Way) -> &TcpStream {
        match way {
            Way::Up => &self.server,
            Way::Down => &self.device,
        }
    }

    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    /// How many of `length` bytes fate lets pass.
    fn spend(&self, length: usize) -> usize {
        let before = self.spent.fetch_add(length as u64, Ordering::SeqCst);
        let left = self.fate.limit().saturating_sub(before);
        usize::try_from(left).unwrap_or(usize::MAX).min(length)
    }

    fn hangs(&self) -> bool {
        matches!(self.fate, Fate::HangsAfter(_))
    }

    fn is_spent(&self) -> bool {
        self.spent.load(Ordering::SeqCst) > self.fate.limit()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for stream in [&self.device, &self.server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::wait::{PATIENCE, until_true};

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
        // What has arrived is counted in the next moment.
        until_true("all of it is counted once", PATIENCE, || {
            (proxy.up_bytes(), proxy.down_bytes(), proxy.connections()) == (2, 4, 1)
        });
    }

    fn connected(proxy: &Proxy) -> (TcpStream, TcpStream) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        proxy.lead_to(server.local_addr().unwrap());
        let device = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        (device, server.accept().unwrap().0)
    }

    #[test]
    fn a_connection_dies_at_the_byte_that_was_dealt_and_the_next_one_lives() {
        let proxy = Proxy::start();
        proxy.deal([Fate::DiesAfter(3)]);
        let (mut device, mut server) = connected(&proxy);
        device.write_all(b"up").unwrap();
        server.read_exact(&mut [0; 2]).unwrap();
        server.write_all(b"down").unwrap();
        let mut received = Vec::new();
        let _ = device.read_to_end(&mut received);
        assert_eq!(received, b"d");
        let (mut device, mut server) = connected(&proxy);
        device.write_all(b"again").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
    }

    #[test]
    fn weather_delays_limits_and_swallows() {
        let proxy = Proxy::start();
        let (mut device, mut server) = connected(&proxy);
        let slow =
            Weather { latency: Duration::from_millis(50), bytes_per_sec: Some(1_000), ..Weather::default() };
        proxy.set_weather(slow);
        let since = Instant::now();
        server.write_all(&[7; 100]).unwrap();
        device.read_exact(&mut [0; 100]).unwrap();
        assert!(since.elapsed() >= Duration::from_millis(150), "{:?}", since.elapsed());

        proxy.strike(Weather { swallowed: Some(Way::Down), ..Weather::default() });
        server.write_all(b"lost").unwrap();
        device.write_all(b"kept").unwrap();
        let mut four = [0; 4];
        server.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"kept");
        until_true("what passed is counted", PATIENCE, || proxy.down_bytes() == 100);
    }
}
