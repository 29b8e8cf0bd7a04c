//! Certificates for servers on loopback, made anew for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use crate::{Error, Result};

static AUTHORITIES: AtomicU32 = AtomicU32::new(0);

/// An authority of its own, and one certificate that it signed for `localhost` and `127.0.0.1`,
/// which serves a server or a client.
#[derive(Clone)]
pub struct Certificates {
    authority: String,
    certificate: String,
    expired: String,
    key: String,
}

impl Certificates {
    /// New ones; the certificate's common name is `postgres`.
    pub fn new() -> Result<Self> {
        make().map_err(|error| Error::because("certificates", error))
    }

    /// The authority to trust, PEM.
    pub fn authority_pem(&self) -> &str {
        &self.authority
    }

    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// One for the same names and the same key that expired years ago, PEM.
    pub fn expired_pem(&self) -> &str {
        &self.expired
    }

    /// The certificate's private key, PEM.
    pub fn key_pem(&self) -> &str {
        &self.key
    }
}

fn make() -> std::result::Result<Certificates, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Of two authorities with one name a client would say something else than of two strangers.
    let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
    let name = format!("pgherald test authority {number}");
    params.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "postgres");
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let expired = params.signed_by(&key, &authority)?;
    Ok(Certificates {
        authority: authority.pem(),
        certificate: certificate.pem(),
        expired: expired.pem(),
        key: key.serialize_pem(),
    })
}
