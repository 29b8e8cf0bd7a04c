//! The client's side of TLS: the system's certificates, ours besides them, and rustls on ring.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use pgherald_core::Pem;

use crate::{error::HttpError, settings::TlsFiles};

/// Reads the files; blocks.
pub(crate) fn config(files: &TlsFiles, uses_tls: bool) -> Result<ClientConfig, HttpError> {
    let roots = match uses_tls {
        true => roots(files)?,
        false => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(roots);
    let Some((certificate, key)) = &files.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("tls.cert_file", certificate)?;
    let private = private_key(key)?;
    let client = builder.with_client_auth_cert(chain, private);
    client.map_err(|error| unusable("tls.cert_file", certificate, error))
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, HttpError> {
    const KEY: &str = "tls.ca_file";
    let mut roots = RootCertStore::empty();
    // A system without certificates, or with some that cannot be read, still has ours; a server
    // that nobody vouches for is refused at its handshake.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &files.ca {
        for certificate in certificates(KEY, path)? {
            roots.add(certificate).map_err(|error| unusable(KEY, path, error))?;
        }
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let content = read(key, path, Pem::Certificates)?;
    let found = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
    found.map_err(|error| unusable(key, path, error))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, HttpError> {
    const KEY: &str = "tls.key_file";
    let content = read(KEY, path, Pem::PrivateKey)?;
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| unusable(KEY, path, error))
}

fn read(key: &'static str, path: &Path, wanted: Pem) -> Result<Vec<u8>, HttpError> {
    let content = std::fs::read(path).map_err(|error| unusable(key, path, error))?;
    match wanted.problem(path, &content) {
        Some(why) => Err(unusable(key, path, why)),
        None => Ok(content),
    }
}

fn unusable(
    key: &'static str,
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> HttpError {
    HttpError::File { key, path: path.display().to_string(), source: source.into() }
}
