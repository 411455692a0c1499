//! HTTP/1.1 by hand, one request per connection, over TCP, TLS and Unix sockets alike.
//!
//! A client of a few lines sees exactly what is on the wire: nothing retries, reuses or follows behind the test's back.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;

/// A server that does not answer for this long is hung.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Largest answer a test reads.
const MAX_BODY_BYTES: u64 = 64 * 1_024 * 1_024;

/// Where requests go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Plain HTTP.
    Tcp(SocketAddr),
    /// HTTP over a Unix socket.
    Unix(PathBuf),
    /// HTTPS, trusting one CA only.
    Tls(SocketAddr, Arc<ClientConfig>),
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// GET where there is no body, POST where there is one, unless said otherwise.
    pub method: Option<&'a str>,
    /// With the query.
    pub path: &'a str,
    /// Besides host, length and connection.
    pub headers: Vec<(&'a str, String)>,
    /// JSON, binary, nothing.
    pub body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Target {
    /// HTTPS to `address` with the CA in `ca_pem`.
    #[must_use]
    pub fn tls(address: SocketAddr, ca_pem: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca_pem).expect("the server's CA is PEM");
        roots.add(ca).expect("the server's CA is a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self::Tls(address, Arc::new(config))
    }

    /// Fetches `path`.
    ///
    /// # Errors
    /// When there is no connection or no whole answer.
    pub fn get(&self, path: &str) -> io::Result<Response> {
        self.send(&Request { path, ..Request::default() })
    }

    /// Posts JSON to `path`.
    ///
    /// # Errors
    /// When there is no connection or no whole answer.
    pub fn post_json(&self, path: &str, body: &Value) -> io::Result<Response> {
        let headers = vec![("content-type", "application/json".to_owned())];
        self.send(&Request { path, headers, body: Some(body.to_string().into_bytes()), ..Request::default() })
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When there is no connection or no whole answer.
    pub fn send(&self, request: &Request<'_>) -> io::Result<Response> {
        match self {
            Self::Tcp(address) => exchange(connect(address)?, request),
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER_WITHIN))?;
                exchange(stream, request)
            }
            Self::Tls(address, config) => {
                let name = ServerName::try_from("localhost").expect("localhost is a name");
                let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                exchange(StreamOwned::new(session, connect(address)?), request)
            }
        }
    }
}

impl Response {
    /// The body as JSON; panics when it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}) in {self:?}"))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, self.text())
    }
}

fn connect(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn exchange<S: Read + Write>(mut stream: S, request: &Request<'_>) -> io::Result<Response> {
    stream.write_all(&head(request))?;
    stream.write_all(request.body.as_deref().unwrap_or_default())?;
    stream.flush()?;
    read_response(&mut BufReader::new(stream))
}

fn head(request: &Request<'_>) -> Vec<u8> {
    let method = request.method.unwrap_or(if request.body.is_some() { "POST" } else { "GET" });
    let mut head = format!("{method} {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n", request.path);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = &request.body {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn read_response(stream: &mut impl BufRead) -> io::Result<Response> {
    let status_line = line(stream)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not HTTP: {status_line:?}")))?;
    let mut response = Response { status, headers: Vec::new(), body: Vec::new() };
    loop {
        let header = line(stream)?;
        let Some((name, value)) = header.split_once(':') else { break };
        response.headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    response.body = read_body(&response, stream)?;
    Ok(response)
}

fn read_body(response: &Response, stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    if response.header("transfer-encoding") == Some("chunked") {
        return read_chunks(stream);
    }
    let length = response.header("content-length").and_then(|length| length.parse::<u64>().ok());
    let mut body = Vec::new();
    stream.take(length.unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES)).read_to_end(&mut body)?;
    match length {
        Some(length) if length != body.len() as u64 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(body),
    }
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = u64::from_str_radix(line(stream)?.trim(), 16).map_err(io::Error::other)?;
        if size == 0 || body.len() as u64 + size > MAX_BODY_BYTES {
            return Ok(body);
        }
        stream.by_ref().take(size).read_to_end(&mut body)?;
        line(stream)?;
    }
}

/// One line without its end.
fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if stream.take(64 * 1_024).read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Response> {
        read_response(&mut text.as_bytes())
    }

    #[test]
    fn a_body_ends_where_its_length_says() {
        let response = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokrest").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        assert!(read("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").is_err());
    }

    #[test]
    fn chunks_are_put_together() {
        let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(read(text).unwrap().text(), "abcd");
    }

    #[test]
    fn a_connection_that_closes_early_is_no_answer() {
        assert!(read("").is_err());
        assert!(read("SSH-2.0-x\r\n").is_err());
    }
}
