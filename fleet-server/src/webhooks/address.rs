//! Where a webhook may lead.
//!
//! An address is a way for whoever may add one to let this server post into its own network. Only administrators may, and what
//! they are told of an answer is its status. Names and addresses of the network are not forbidden: receivers mostly live there.

use std::net::IpAddr;

use reqwest::Url;
use thiserror::Error;

/// Longest address; longer ones do not pass every proxy.
const MAX_LEN: usize = 2_048;

/// Whether an address without encryption is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Only on this machine.
    TlsOnly,
    /// Anywhere: whoever adds it has said so.
    InsecureHttp,
}

/// Why nothing can be posted there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadAddress {
    /// No URL at all.
    #[error("the address is no URL: {0}; write https://host/path")]
    NoUrl(String),
    /// Too long.
    #[error("the address has {0} characters, and at most {MAX_LEN} are allowed")]
    TooLong(usize),
    /// Another scheme.
    #[error("the address begins with {0}:, and only https: can be posted to")]
    Scheme(String),
    /// Without encryption.
    #[error(
        "the address is http:, which anybody on the way can read and change; write https:, or say insecure_http if that is \
         meant"
    )]
    Plain,
    /// A user name or password, which would be shown to everybody who lists webhooks.
    #[error("the address holds a user name or password; receivers know deliveries by their signature")]
    Credentials,
    /// A part that is never sent.
    #[error("the address has a fragment (#…), which is never sent")]
    Fragment,
}

/// Reads an address.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_address(text: &str, trust: Trust) -> Result<Url, BadAddress> {
    if text.len() > MAX_LEN {
        return Err(BadAddress::TooLong(text.len()));
    }
    let url = Url::parse(text).map_err(|error| BadAddress::NoUrl(error.to_string()))?;
    match url.scheme() {
        "https" => {}
        "http" if trust == Trust::InsecureHttp || is_loopback(&url) => {}
        "http" => return Err(BadAddress::Plain),
        other => return Err(BadAddress::Scheme(other.to_owned())),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadAddress::Credentials);
    }
    if url.fragment().is_some() {
        return Err(BadAddress::Fragment);
    }
    Ok(url)
}

/// The host of an address, which may be told where the rest, with whatever keys it holds, may not.
#[must_use]
pub fn host_of(address: &str) -> String {
    Url::parse(address).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

/// Whether an address leads to this machine, where no proxy is on the way.
pub(super) fn is_here(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| is_loopback(&url))
}

/// This machine by its addresses, or by the name that resolvers must not send elsewhere (RFC 6761).
fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_encryption_only_this_machine_is_posted_to_unless_it_is_meant() {
        let strict = |text: &str| check_address(text, Trust::TlsOnly).map(drop);
        assert_eq!(strict("https://hooks.example/muster?key=1"), Ok(()));
        for here in ["http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]:9/x", "http://127.8.0.1/"]
        {
            assert_eq!(strict(here), Ok(()), "{here}");
        }
        for elsewhere in ["http://hooks.example/x", "http://10.0.0.1/", "http://localhost.example/"] {
            assert_eq!(strict(elsewhere), Err(BadAddress::Plain), "{elsewhere}");
            assert!(check_address(elsewhere, Trust::InsecureHttp).is_ok());
        }
    }

    #[test]
    fn what_cannot_be_posted_to_is_refused_with_the_reason() {
        let says = |text: &str| check_address(text, Trust::InsecureHttp).unwrap_err().to_string();
        assert!(says("hooks.example").starts_with("the address is no URL"));
        assert!(says("ftp://hooks.example/").contains("begins with ftp:"));
        assert!(says("file:///etc/passwd").contains("begins with file:"));
        assert!(says("https://ann:secret@hooks.example/").contains("password"));
        assert!(says("https://hooks.example/#x").contains("fragment"));
        assert!(says(&format!("https://hooks.example/{}", "x".repeat(3_000))).contains("2048"));
    }

    #[test]
    fn only_the_host_of_an_address_is_told() {
        assert_eq!(host_of("https://hooks.example:8443/T0/secret?key=1"), "hooks.example");
    }
}
