//! HTTP/1.1 over one connection that stays open, as an application's client keeps it.
//!
//! The request is written beforehand, and of the answer only status and length are looked at: the figures are those
//! of the agent, not of a JSON library in its client.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::{Context as _, bail};

/// Largest answer that is read.
const MAX_BODY_BYTES: usize = 64 * 1_024 * 1_024;

/// An open connection.
pub struct Connection<S> {
    stream: BufReader<S>,
    body: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    /// A connection over an open stream.
    pub fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream), body: Vec::new() }
    }

    /// Sends a whole request and reads the whole answer, which must be 200.
    pub fn exchange(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.get_mut().write_all(request)?;
        let status = self.line()?;
        let mut length = None;
        loop {
            let header = self.line()?;
            let Some((name, value)) = header.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let length = length.context("an answer without its length")?;
        if length > MAX_BODY_BYTES {
            bail!("an answer of {length} bytes");
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        if status.split(' ').nth(1) != Some("200") {
            bail!("{status}: {}", String::from_utf8_lossy(&self.body));
        }
        Ok(&self.body)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the connection was closed");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// A POST request as bytes.
pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn a_second_request_goes_over_the_same_connection() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours);
        theirs.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        assert_eq!(connection.exchange(&post("/a", "", b"1")).unwrap(), b"ok");
        theirs.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy").unwrap();
        let error = connection.exchange(&post("/b", "", b"")).unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("busy"), "{error}");
        let mut sent = vec![0; 4];
        theirs.read_exact(&mut sent).unwrap();
        assert_eq!(sent, b"POST");
    }
}
