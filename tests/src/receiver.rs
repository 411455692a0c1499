//! A receiver of webhooks that keeps what it gets and answers as it is told.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use crate::wait::{PATIENCE, until_true};

/// Largest body that is taken.
const MAX_BODY_BYTES: usize = 1 << 20;

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// With this status.
    Status(u16),
    /// Not at all; the connection stays open.
    Never,
}

/// One delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, which is JSON.
    pub body: String,
}

/// A receiver on a free port of this machine.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    desk: Arc<Desk>,
}

#[derive(Debug)]
struct Desk {
    reply: Mutex<Reply>,
    seen: Mutex<Vec<Delivery>>,
    closed: AtomicBool,
    /// Connections that get no answer.
    held: Mutex<Vec<TcpStream>>,
}

impl Delivery {
    /// The event.
    #[must_use]
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).expect("a delivery is JSON")
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.desk.closed.store(true, Ordering::Relaxed);
        // Whoever waits for a connection gets one.
        let _ = TcpStream::connect(self.address);
    }
}

impl Receiver {
    /// Listens, and answers 200.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let desk = Arc::new(Desk {
            reply: Mutex::new(Reply::Status(200)),
            seen: Mutex::default(),
            closed: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let at_desk = desk.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if at_desk.closed.load(Ordering::Relaxed) {
                    return;
                }
                let desk = at_desk.clone();
                thread::spawn(move || serve(&desk, stream));
            }
        });
        Self { address, desk }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// How it answers from now on.
    pub fn replies(&self, reply: Reply) {
        *self.desk.reply.lock().expect("nobody panics with it") = reply;
    }

    /// Everything that came, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Delivery> {
        self.desk.seen.lock().expect("nobody panics with it").clone()
    }

    /// Waits for so many.
    #[track_caller]
    #[must_use]
    pub fn until(&self, count: usize) -> Vec<Delivery> {
        until_true(&format!("{count} deliveries came"), 2 * PATIENCE, || self.seen().len() >= count);
        self.seen()
    }
}

/// Writes deliveries where `tests/python/check_webhooks.py` reads them.
pub fn write(folder: &Path, secret: &str, deliveries: &[Delivery]) {
    fs::create_dir_all(folder).expect("the scratch folder is writable");
    fs::write(folder.join("secret"), secret).expect("writable");
    for (number, Delivery { headers, body }) in deliveries.iter().enumerate() {
        let text = json!({"headers": headers, "body": body}).to_string();
        fs::write(folder.join(format!("{number:03}.json")), text).expect("writable");
    }
}

/// One request after the other, as long as the connection holds.
fn serve(desk: &Desk, stream: TcpStream) {
    let Ok(mut answers) = stream.try_clone() else { return };
    let mut requests = BufReader::new(stream);
    while let Some(delivery) = read(&mut requests) {
        desk.seen.lock().expect("nobody panics with it").push(delivery);
        let reply = *desk.reply.lock().expect("nobody panics with it");
        match reply {
            Reply::Status(status) => {
                if write!(answers, "HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n").is_err() {
                    return;
                }
            }
            Reply::Never => {
                desk.held.lock().expect("nobody panics with it").push(answers);
                return;
            }
        }
    }
}

/// `None` when the connection ends.
fn read(from: &mut impl BufRead) -> Option<Delivery> {
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length.min(MAX_BODY_BYTES)];
    from.read_exact(&mut body).ok()?;
    Some(Delivery { headers, body: String::from_utf8(body).ok()? })
}
