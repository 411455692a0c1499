//! What ties the device to its fleet: the daemon, the certificate, the way to the server.

use std::{io, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use shared::Timestamp;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use super::Check;
use crate::{
    clock::{self, Clock},
    config::Config,
    control::{self, STATUS_PATH, StatusView, client},
    identity::Identity,
    renew, tls,
};

/// Name look-up, TCP and TLS together.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A server that does not like a certificate says so only after the handshake, and at once.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(500);

/// Whether the daemon answers on its control socket.
pub(super) async fn agent(config: &Config) -> Check {
    let socket = control::socket_path(&config.data_dir);
    match client::ask::<StatusView>(&socket, hyper::Method::GET, STATUS_PATH).await {
        Ok(status) => {
            Check::ok("agent", format!("{} answers as process {}", status.agent_version, status.pid))
        }
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            let advice = "start it: `muster-agent run`; if it runs, does it run as this user with this data directory?";
            Check::fail("agent", format!("{error}{cause}"), advice)
        }
    }
}

/// Whether the certificate is valid by this device's clock.
pub(super) fn certificate(tls_pem: &str, now: Timestamp) -> Check {
    let name = "certificate";
    let life = match renew::life_of(tls_pem) {
        Ok(life) => life,
        Err(error) => return Check::fail(name, format!("{error:#}"), "enrol the device again"),
    };
    let (from, until) = (clock::in_words(life.not_before), clock::in_words(life.not_after));
    if now < life.not_before {
        let advice = "the clock is behind: set it";
        return Check::warn(name, format!("it is valid only from {from}, by this clock"), advice);
    }
    if now > life.not_after {
        let advice = "is the clock right? then let the agent run: it renews an expired certificate by itself";
        return Check::fail(name, format!("it ended {until}"), advice);
    }
    if life.is_pressing(now) {
        let advice = "it should have renewed itself long ago: can the server's HTTP address be reached?";
        return Check::warn(name, format!("it ends {until}"), advice);
    }
    Check::ok(name, format!("valid until {until}"))
}

/// Whether the broker can be reached over TCP and TLS with this device's certificate. No session is begun: the
/// daemon's would be ended by it.
pub(super) async fn server(identity: &Identity) -> Check {
    let name = "server";
    match timeout(CONNECT_PATIENCE, reach(identity)).await {
        Ok(Ok(())) => Check::ok(name, format!("{} answers over TLS", identity.mqtt)),
        Ok(Err(error)) => {
            let words = format!("{}: {error:#}", identity.mqtt);
            let doubt = clock::doubt(&words, clock::system_now());
            let advice = "is the server running, and is its address known to this network?";
            Check::fail(name, format!("{words}{doubt}"), advice)
        }
        Err(_) => {
            let words = format!("{} does not answer within {} s", identity.mqtt, CONNECT_PATIENCE.as_secs());
            Check::fail(name, words, "is there a way to the server from here? is a firewall between?")
        }
    }
}

async fn reach(identity: &Identity) -> anyhow::Result<()> {
    let config = tls::link_config(&identity.ca_pem, &identity.tls_pem, Clock::start(Timestamp(0)))?;
    let host = identity.mqtt.rsplit_once(':').map_or(identity.mqtt.as_str(), |(host, _)| host);
    let stream = TcpStream::connect(&identity.mqtt).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(ServerName::try_from(host.to_owned())?, stream).await?;
    match timeout(REFUSAL_PATIENCE, stream.read(&mut [0])).await {
        // It waits for the first word: it has let us in.
        Err(_) => Ok(()),
        Ok(Ok(_)) => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
        Ok(Err(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn pem_of(from_year: i32, to_year: i32) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(from_year, 1, 1);
        params.not_after = rcgen::date_time_ymd(to_year, 1, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_certificate_is_judged_by_the_clock_and_the_clock_by_the_certificate() {
        let now = Timestamp(1_800_000_000_000); // January 2027
        let state = |from, to| certificate(&pem_of(from, to), now).state;
        assert_eq!(state(2026, 2028), State::Ok);
        assert_eq!(state(2028, 2029), State::Warn);
        assert_eq!(state(2020, 2026), State::Fail);
        assert_eq!(certificate("nothing", now).state, State::Fail);
        // Two weeks are left of ten years.
        let pressing = certificate(&pem_of(2017, 2028), Timestamp(1_829_000_000_000));
        assert_eq!(pressing.state, State::Warn);
    }
}
