//! The client's side of TLS: the system's certificates, ours besides them, and rustls on ring.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{HttpSettings, error::HttpError, settings::TlsFiles};

/// Reads the files; blocks.
pub(crate) fn config(settings: &HttpSettings) -> Result<ClientConfig, HttpError> {
    let roots = match settings.uses_tls() {
        true => roots(&settings.tls)?,
        false => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(roots);
    let Some((certificate, key)) = &settings.tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    builder.with_client_auth_cert(chain, private).map_err(|error| unusable(certificate, error))
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    // A system without certificates, or with some that cannot be read, still has ours; a server
    // that nobody vouches for is refused at its handshake.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &files.ca {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| unusable(path, error))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error| unusable(path, error))?;
    match found.is_empty() {
        true => Err(unusable(path, "it holds no certificate in PEM")),
        false => Ok(found),
    }
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HttpError {
    HttpError::File { path: path.display().to_string(), source: source.into() }
}
