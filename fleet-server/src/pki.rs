//! The fleet's certificate authority: one P-256 key that signs the server's certificate and those of devices.
//!
//! The CA lives ten years; certificates below it are short. A device is who its certificate says; the request it
//! sends contributes nothing but its public key, so no name or extension of its choice ever gets signed.

mod server_certificate;

use std::{path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use shared::{DeviceId, Digest, Timestamp};
use thiserror::Error;

use crate::data_dir::{DataDir, DataDirError, read_secret, write_atomically, write_secret};

pub use server_certificate::{ServerCertificate, mutual_tls_config, tls_config};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Life of the CA. Devices pin its fingerprint, so it must outlive them or be replaced with care.
const CA_LIFE: Duration = Duration::from_secs(10 * YEAR.as_secs());

/// Clocks of small devices run late, and time zones are set wrong; a certificate is valid since a day before it was made.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// A short certificate is backdated by this part of its life at most, or its end would be near when it is made.
const BACKDATED_PART: u32 = 30;

/// Why something about certificates failed.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// A key or certificate cannot be made or read.
    #[error("cannot {act}")]
    Certificate {
        /// What was tried.
        act: &'static str,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A request cannot be signed.
    #[error("the certificate signing request is refused: {0}")]
    Request(String),
    /// TLS cannot be set up with the key and certificate at hand.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// A stored certificate cannot be read.
    #[error("cannot read the certificate {0}")]
    Unreadable(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// The certificate authority of one fleet.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    fingerprint: Digest,
    device_life: Duration,
}

/// A certificate for a device.
#[derive(Debug, Clone)]
pub struct DeviceCertificate {
    /// As PEM.
    pub pem: String,
    /// Its serial number in hexadecimal digits; only the newest one of a device is let in.
    pub serial: String,
}

impl Authority {
    /// Reads the CA of `data_dir`, or makes it at the first start. Devices get certificates that last `device_life`.
    ///
    /// # Errors
    /// When files cannot be read or written, one of the two is lost, or others may read the key.
    pub fn open(data_dir: &DataDir, device_life: Duration, now: Timestamp) -> Result<Self, PkiError> {
        let (certificate, key) = (data_dir.join("ca.pem"), data_dir.join("ca.key"));
        if !data_dir.has_all(&["ca.key", "ca.pem"])? {
            Self::create(&certificate, &key, now)?;
        }
        Self::read(&certificate, &key, device_life)
    }

    fn create(certificate: &Path, key: &Path, now: Timestamp) -> Result<(), PkiError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed("make the CA's key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Muster fleet CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now, CA_LIFE);
        params.serial_number = Some(random_serial()?);
        let made = params.self_signed(&pair).map_err(failed("sign the CA's certificate"))?;
        write_secret(key, pair.serialize_pem().as_bytes())?;
        write_atomically(certificate, made.pem().as_bytes())?;
        Ok(())
    }

    fn read(certificate: &Path, key: &Path, device_life: Duration) -> Result<Self, PkiError> {
        let key = read_secret(key)?;
        let key = String::from_utf8_lossy(&key);
        let pair = KeyPair::from_pem(&key).map_err(failed("read the CA's key"))?;
        let unreadable = || PkiError::Unreadable(certificate.display().to_string());
        let pem = std::fs::read_to_string(certificate).map_err(|_| unreadable())?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable())?;
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(failed("read the CA's certificate"))?;
        Ok(Self { issuer, fingerprint: Digest::of(&der), pem, device_life })
    }

    /// The CA's certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the CA's certificate in DER form, as enrolment tokens carry it.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Signs the public key of a request for `device`.
    ///
    /// # Errors
    /// When the request is not one for a P-256 key, or not signed by that key.
    pub fn issue_device(
        &self,
        csr_pem: &str,
        device: &DeviceId,
        now: Timestamp,
    ) -> Result<DeviceCertificate, PkiError> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| PkiError::Request(error.to_string()))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(PkiError::Request("it must be for a P-256 key".into()));
        }
        let serial = random_serial()?;
        let hex = serial.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        request.params = leaf(device.as_str(), ExtendedKeyUsagePurpose::ClientAuth, now, self.device_life);
        request.params.serial_number = Some(serial);
        let certificate = request.signed_by(&self.issuer).map_err(failed("sign the device's certificate"))?;
        Ok(DeviceCertificate { pem: certificate.pem(), serial: hex })
    }
}

fn leaf(name: &str, usage: ExtendedKeyUsagePurpose, now: Timestamp, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, now, life);
    params
}

fn set_life(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let moment = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(now.as_millis());
    params.not_before = moment - BACKDATED.min(life / BACKDATED_PART);
    params.not_after = moment + life;
}

/// 120 random bits below a first byte that is neither zero nor has its top bit set, so that the number has one
/// spelling in DER and in the database.
fn random_serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(PkiError::Random)?;
    bytes[0] = 0x40 | (bytes[0] & 0x3f);
    Ok(SerialNumber::from_slice(&bytes))
}

fn failed(act: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |source| PkiError::Certificate { act, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const LIFE: Duration = Duration::from_secs(3_600);

    fn authority() -> (tempfile::TempDir, DataDir, Authority) {
        let root = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&root.path().join("data")).unwrap();
        let authority = Authority::open(&data_dir, LIFE, NOW).unwrap();
        (root, data_dir, authority)
    }

    fn request(key: &KeyPair, name: &str) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_device_gets_the_name_the_server_gives_and_not_the_one_it_asks_for() {
        let (_root, _data_dir, authority) = authority();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let device = DeviceId::new("cam-7").unwrap();
        let issued = authority.issue_device(&request(&key, "admin"), &device, NOW).unwrap();
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=cam-7");
        assert!(!issued.pem.contains("admin") && parsed.subject_alternative_name().unwrap().is_none());
        assert_eq!(parsed.raw_serial_as_string().replace(':', ""), issued.serial);
    }

    #[test]
    fn a_request_for_another_kind_of_key_is_refused() {
        let (_root, _data_dir, authority) = authority();
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let device = DeviceId::new("cam-7").unwrap();
        assert!(matches!(
            authority.issue_device(&request(&key, "cam-7"), &device, NOW),
            Err(PkiError::Request(_))
        ));
        assert!(matches!(authority.issue_device("nonsense", &device, NOW), Err(PkiError::Request(_))));
    }

    #[test]
    fn the_authority_survives_a_restart() {
        let (_root, data_dir, first) = authority();
        let second = Authority::open(&data_dir, LIFE, NOW).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
    }
}
