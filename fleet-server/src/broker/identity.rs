//! Who is at the other end: read from the verified client certificate and from nothing else.

use rustls::pki_types::CertificateDer;
use shared::{DeviceId, Digest};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A device whose certificate chain was verified by the TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The common name of its certificate.
    pub device: DeviceId,
    /// The serial number of its certificate, lower-case hexadecimal without leading zeros.
    pub serial: String,
    /// The digest of its certificate.
    pub fingerprint: Digest,
}

/// Why a certificate names no device.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The handshake asked for no certificate, or got none.
    #[error("there is no client certificate")]
    NoCertificate,
    /// It cannot be read.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// Not exactly one common name.
    #[error("the client certificate has {count} common names instead of one")]
    CommonNames {
        /// How many it has.
        count: usize,
    },
    /// The common name is not a device id.
    #[error("the common name is not a device id")]
    NotADevice,
}

impl Peer {
    /// Reads the first certificate of a verified chain.
    ///
    /// # Errors
    /// When it does not name exactly one device.
    pub fn from_chain(chain: Option<&[CertificateDer<'_>]>) -> Result<Self, IdentityError> {
        let der = chain.and_then(<[_]>::first).ok_or(IdentityError::NoCertificate)?;
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
        if !rest.is_empty() {
            return Err(IdentityError::Unreadable);
        }
        Ok(Self {
            device: common_name(&certificate)?,
            serial: certificate.serial.to_str_radix(16),
            fingerprint: Digest::of(der),
        })
    }
}

fn common_name(certificate: &X509Certificate<'_>) -> Result<DeviceId, IdentityError> {
    let names: Vec<_> = certificate.subject().iter_common_name().collect();
    let [name] = names[..] else { return Err(IdentityError::CommonNames { count: names.len() }) };
    let text = name.as_str().map_err(|_| IdentityError::NotADevice)?;
    DeviceId::new(text).map_err(|_| IdentityError::NotADevice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xbc]));
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_common_name_is_the_device() {
        let der = certificate(&["cam-7"]);
        let peer = Peer::from_chain(Some(std::slice::from_ref(&der))).unwrap();
        assert_eq!((peer.device.as_str(), peer.serial.as_str()), ("cam-7", "abc"));
        assert_eq!(peer.fingerprint, Digest::of(&der));
    }

    #[test]
    fn a_certificate_that_names_no_device_is_refused() {
        for names in [&[][..], &["cam 7"], &["cam/7"], &["+"], &[""]] {
            assert!(Peer::from_chain(Some(&[certificate(names)])).is_err(), "{names:?}");
        }
    }

    #[test]
    fn no_certificate_is_no_identity() {
        assert!(matches!(Peer::from_chain(None), Err(IdentityError::NoCertificate)));
        assert!(matches!(Peer::from_chain(Some(&[])), Err(IdentityError::NoCertificate)));
        let garbage = CertificateDer::from(vec![1, 2, 3]);
        assert!(matches!(Peer::from_chain(Some(&[garbage])), Err(IdentityError::Unreadable)));
    }
}
