//! The certificate of a device renews itself, long before it ends and also long after.
//!
//! When two thirds of its life have passed, the device makes another key and asks the server for a certificate. The
//! request is signed with the key of its reports, so a device that was off for months comes back the same way. Key
//! and certificate change together, first on disk and then for the next connection. The server lets the old
//! certificate in until the new one was used, so a lost answer costs nothing but another attempt.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use muster_link::{Backoff, Link};
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use shared::{
    DeviceId, Timestamp,
    enroll::{RENEW_PATH, RenewRequest, RenewResponse},
    trust::{Signed, Signer},
};

use crate::{
    api,
    clock::{self, Clock},
    enroll::signing_request,
    identity::{Identity, tls_pem},
    tls::{self, CurrentTls},
};

/// Ten days are left at the first attempt: a server that is away for a weekend is asked a few times, not thousands.
const RETRY: Backoff = Backoff { min: Duration::from_secs(60), max: Duration::from_secs(6 * 3_600) };

/// How often a wait for a date looks whether the clock was set: an hour is nothing beside the ten days that are left.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// A certificate is pressing in the last such part of its life; and none is renewed younger than that, whatever a
/// wrong clock says.
const PRESSING_PART: u32 = 6;

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Before this moment it is not valid yet.
    pub not_before: Timestamp,
    /// After this moment it is not valid any more.
    pub not_after: Timestamp,
}

/// The life of the certificate in `tls_pem`.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn life_of(tls_pem: &str) -> anyhow::Result<Life> {
    Life::of_pem(tls_pem)
}

/// When a certificate that is valid from `not_before` to `not_after` shall be renewed.
#[must_use]
pub fn next_renewal(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    not_before + not_after.since(not_before) * 2 / 3
}

impl Life {
    fn of_pem(tls_pem: &str) -> anyhow::Result<Self> {
        let der = CertificateDer::from_pem_slice(tls_pem.as_bytes()).context("there is no certificate")?;
        let (_, certificate) =
            x509_parser::parse_x509_certificate(&der).context("the certificate cannot be read")?;
        let moment = |secs: i64| Timestamp(u64::try_from(secs).unwrap_or_default().saturating_mul(1_000));
        let validity = certificate.validity();
        Ok(Self {
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
        })
    }

    fn part(self) -> Duration {
        self.not_after.since(self.not_before) / PRESSING_PART
    }

    /// When a certificate that was made `now` is renewed.
    fn renewal_of_new(self, now: Timestamp) -> Timestamp {
        next_renewal(self.not_before, self.not_after).max(now + self.part())
    }

    /// True when it should have been renewed long ago.
    #[must_use]
    pub fn is_pressing(self, now: Timestamp) -> bool {
        now + self.part() > self.not_after
    }
}

/// Keeps the certificate of a device valid.
pub struct Renewal {
    device: DeviceId,
    data_dir: PathBuf,
    url: String,
    mqtt: String,
    ca_pem: String,
    report_signer: Arc<Signer>,
    clock: Clock,
    tls: CurrentTls,
    life: Life,
}

impl Renewal {
    /// For the device of `identity`, whose connections are made with `tls`.
    ///
    /// # Errors
    /// When its certificate is damaged.
    pub fn new(identity: &Identity, data_dir: &Path, tls: CurrentTls, clock: Clock) -> anyhow::Result<Self> {
        Ok(Self {
            device: identity.device.clone(),
            data_dir: data_dir.to_owned(),
            url: identity.url.clone(),
            mqtt: identity.mqtt.clone(),
            ca_pem: identity.ca_pem.clone(),
            report_signer: Arc::clone(&identity.report_signer),
            clock,
            tls,
            life: Life::of_pem(&identity.tls_pem).context("identity/tls.pem is damaged")?,
        })
    }

    /// Renews for as long as it is polled; `link` connects anew with each new certificate.
    pub async fn run(mut self, link: Link) {
        let mut due = next_renewal(self.life.not_before, self.life.not_after);
        let mut failures = 0;
        loop {
            self.wait_until(due).await;
            match self.renew().await {
                Ok(()) => {
                    failures = 0;
                    due = self.life.renewal_of_new(self.clock.now());
                    link.reconnect();
                }
                Err(error) => {
                    self.tell(&error);
                    due = self.clock.now() + RETRY.delay(failures, roll());
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// The clock may be set, and a device may sleep, while this waits; so it looks again and again.
    async fn wait_until(&self, due: Timestamp) {
        loop {
            let left = due.since(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        let key = KeyPair::generate().context("cannot make a TLS key")?;
        let request = RenewRequest {
            device: self.device.clone(),
            at: self.clock.now(),
            csr_pem: signing_request(&key, Some(&self.device))?,
        };
        let signed = Signed::sign(&request, &[&*self.report_signer])?;
        let tls = tls::renewal_config(&self.ca_pem, self.clock.clone())?;
        let response = api::post(tls, &self.url, RENEW_PATH, &signed).await?;
        self.accept(&key, &response)
    }

    /// Nothing changes before the answer has proved to be of use.
    fn accept(&mut self, key: &KeyPair, response: &RenewResponse) -> anyhow::Result<()> {
        let tls_pem = tls_pem(key, &response.certificate_pem);
        let life = Life::of_pem(&tls_pem).context("the server's answer is of no use")?;
        let config = tls::link_config(&self.ca_pem, &tls_pem, self.clock.clone())?;
        self.follow_broker(&response.mqtt)?;
        Identity::replace_tls(&self.data_dir, &tls_pem)?;
        self.tls.store(Arc::new(config));
        self.life = life;
        let until = clock::in_words(life.not_after);
        tracing::info!(device.id = %self.device, until, "the certificate was renewed");
        Ok(())
    }

    /// The running link keeps its address; the next start takes the new one.
    fn follow_broker(&mut self, mqtt: &str) -> anyhow::Result<()> {
        if mqtt != self.mqtt {
            Identity::replace_broker(&self.data_dir, mqtt)?;
            mqtt.clone_into(&mut self.mqtt);
            tracing::info!(device.id = %self.device, mqtt, "the broker has another address, which counts from the next start");
        }
        Ok(())
    }

    fn tell(&self, error: &anyhow::Error) {
        let (why, until) = (format!("{error:#}"), clock::in_words(self.life.not_after));
        if self.life.is_pressing(self.clock.now()) {
            tracing::warn!(device.id = %self.device, why, until, "the certificate ends and cannot be renewed; trying again");
        } else {
            tracing::info!(device.id = %self.device, why, until, "the certificate was not renewed; trying again");
        }
    }
}

/// Jitter need not be secret: without randomness every wait is the longest one.
fn roll() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arc_swap::ArcSwap;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
    use shared::{device::Labels, enroll::EnrollResponse, trust::Envelope};

    use crate::identity::NewKeys;

    const DAY_MS: u64 = 86_400_000;
    const MADE: Timestamp = Timestamp(1_800_000_000_000);
    const MONTH: Life = Life { not_before: MADE, not_after: Timestamp(MADE.0 + 30 * DAY_MS) };

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_have_passed() {
        assert_eq!(next_renewal(MONTH.not_before, MONTH.not_after), Timestamp(MADE.0 + 20 * DAY_MS));
        assert_eq!(
            next_renewal(MONTH.not_after, MONTH.not_before),
            MONTH.not_after,
            "nonsense is due at once"
        );
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_renew_without_end() {
        let wrong = Timestamp(MADE.0 + 25 * DAY_MS);
        assert_eq!(MONTH.renewal_of_new(wrong), Timestamp(wrong.0 + 5 * DAY_MS));
        assert_eq!(MONTH.renewal_of_new(MADE), Timestamp(MADE.0 + 20 * DAY_MS));
    }

    #[test]
    fn failures_are_pressing_in_the_last_days_and_after_the_end() {
        let pressing = [24, 26, 40].map(|day| MONTH.is_pressing(Timestamp(MADE.0 + day * DAY_MS)));
        assert_eq!(pressing, [false, true, true]);
    }

    /// The CA of a fleet with one device.
    struct World {
        dir: tempfile::TempDir,
        issuer: Issuer<'static, KeyPair>,
        renewal: Renewal,
    }

    impl World {
        fn new() -> Self {
            let (ca_key, keys) = (KeyPair::generate().unwrap(), NewKeys::generate().unwrap());
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let ca_pem = params.self_signed(&ca_key).unwrap().pem();
            let issuer = Issuer::new(params, ca_key);
            let response = EnrollResponse {
                device: DeviceId::new("cam-1").unwrap(),
                certificate_pem: certificate(&issuer, &keys.tls),
                ca_pem,
                mqtt: "localhost:8883".into(),
                root: Envelope { signed: serde_json::json!({}), signatures: Vec::new() },
                labels: Labels::new(),
            };
            let dir = tempfile::tempdir().unwrap();
            Identity::create(dir.path(), &keys, "https://localhost:8443", &response).unwrap();
            let identity = Identity::load(dir.path()).unwrap();
            let clock = Clock::start(MADE);
            let config = tls::link_config(&identity.ca_pem, &identity.tls_pem, clock.clone()).unwrap();
            let tls = Arc::new(ArcSwap::from_pointee(config));
            let renewal = Renewal::new(&identity, dir.path(), tls, clock).unwrap();
            Self { dir, issuer, renewal }
        }

        fn answer(&self, key: &KeyPair) -> RenewResponse {
            let certificate_pem = certificate(&self.issuer, key);
            RenewResponse { certificate_pem, mqtt: "elsewhere:8883".into() }
        }

        fn stored(&self) -> Identity {
            Identity::load(self.dir.path()).unwrap()
        }
    }

    fn certificate(issuer: &Issuer<'_, KeyPair>, key: &KeyPair) -> String {
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2027, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 31);
        params.signed_by(key, issuer).unwrap().pem()
    }

    #[test]
    fn an_accepted_answer_counts_for_the_next_connection_and_the_next_start() {
        let mut world = World::new();
        let (stored, used) = (world.stored(), world.renewal.tls.load_full());
        let key = KeyPair::generate().unwrap();
        let answer = world.answer(&key);
        world.renewal.accept(&key, &answer).unwrap();
        assert_eq!(world.stored().tls_pem, tls_pem(&key, &answer.certificate_pem));
        assert_ne!(world.stored().tls_pem, stored.tls_pem);
        assert_eq!(world.stored().mqtt, "elsewhere:8883");
        assert!(!Arc::ptr_eq(&used, &world.renewal.tls.load_full()));
        assert_eq!(world.renewal.life.not_after.since(world.renewal.life.not_before).as_secs(), 30 * 86_400);
    }

    #[test]
    fn a_certificate_for_another_key_changes_nothing() {
        let mut world = World::new();
        let (stored, used) = (world.stored(), world.renewal.tls.load_full());
        let answer = world.answer(&KeyPair::generate().unwrap());
        let nonsense = RenewResponse { certificate_pem: "nonsense".into(), ..answer.clone() };
        for answer in [answer, nonsense] {
            assert!(world.renewal.accept(&KeyPair::generate().unwrap(), &answer).is_err());
            assert_eq!(
                (world.stored().tls_pem, world.stored().mqtt),
                (stored.tls_pem.clone(), stored.mqtt.clone())
            );
            assert!(Arc::ptr_eq(&used, &world.renewal.tls.load_full()));
        }
    }
}
