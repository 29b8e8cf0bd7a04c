//! Certificates for servers on loopback, made anew for each test.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{Error, Result};

/// An authority of its own, and one certificate that it signed for `localhost` and `127.0.0.1`,
/// which serves a server or a client.
#[derive(Clone)]
pub struct Certificates {
    authority: String,
    certificate: String,
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

    /// The certificate's private key, PEM.
    pub fn key_pem(&self) -> &str {
        &self.key
    }
}

fn make() -> std::result::Result<Certificates, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "pgherald test authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "postgres");
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok(Certificates {
        authority: authority.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}
