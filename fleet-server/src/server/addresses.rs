//! The addresses the server listens on, and the names under which it is reached.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::TcpListener;

use super::StartError;
use crate::{app::Endpoints, config::Config};

/// Taken ports, before anybody is let in.
pub(super) struct Listeners {
    pub(super) http: std::net::TcpListener,
    pub(super) mqtt: TcpListener,
}

/// What was bound.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) http: SocketAddr,
    pub(super) mqtt: SocketAddr,
    pub(super) endpoints: Endpoints,
}

/// Takes both ports.
pub(super) async fn bind(config: &Config) -> Result<Listeners, StartError> {
    let http = listen(config.http.listen, "the HTTP API", "http.listen", "MUSTER__HTTP__LISTEN").await?;
    let mqtt = listen(config.mqtt.listen, "MQTT", "mqtt.listen", "MUSTER__MQTT__LISTEN").await?;
    let http = http.into_std().map_err(StartError::Broker)?;
    Ok(Listeners { http, mqtt })
}

async fn listen(
    address: SocketAddr,
    what: &'static str,
    key: &'static str,
    variable: &'static str,
) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| {
        let reason = match source.kind() {
            io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not take the port".to_owned(),
            _ => source.to_string(),
        };
        StartError::Listen { address, what, reason, key, variable, source }
    })
}

impl Listeners {
    pub(super) fn bound(&self, config: &Config) -> Result<Bound, StartError> {
        let http = self.http.local_addr().map_err(StartError::Broker)?;
        let mqtt = self.mqtt.local_addr().map_err(StartError::Broker)?;
        let host = default_host(http.ip());
        let url = config.http.public_url.clone().unwrap_or_else(|| format!("https://{host}:{}", http.port()));
        let url = url.trim_end_matches('/').to_owned();
        let mqtt_host = host_of(&url).unwrap_or(host);
        let public = config.mqtt.public_address.clone();
        let endpoints =
            Endpoints { mqtt: public.unwrap_or_else(|| format!("{mqtt_host}:{}", mqtt.port())), url };
        Ok(Bound { http, mqtt, endpoints })
    }
}

/// Names and addresses that the server's certificate is for.
pub(super) fn certificate_names(config: &Config, endpoints: &Endpoints) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.extend(config.tls.names.iter().cloned());
    names.extend(machine_name());
    names.extend(host_of(&endpoints.url));
    names.extend(endpoints.mqtt.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned()));
    names
}

/// The host of `https://host:port`, without brackets.
fn host_of(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

fn default_host(listen: IpAddr) -> String {
    match listen {
        ip if ip.is_loopback() => "localhost".to_owned(),
        ip if ip.is_unspecified() => machine_name().unwrap_or_else(|| "localhost".to_owned()),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The name of this machine, if it may stand in a certificate.
fn machine_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    let fits = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
    };
    name.split('.').all(fits).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_is_found_with_and_without_port() {
        assert_eq!(host_of("https://fleet.example:8443").as_deref(), Some("fleet.example"));
        assert_eq!(host_of("https://fleet.example/x").as_deref(), Some("fleet.example"));
        assert_eq!(host_of("https://[::1]:8443").as_deref(), Some("::1"));
        assert_eq!(host_of("http://fleet.example"), None);
    }
}
