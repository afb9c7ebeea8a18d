//! Whose certificates an encrypted upstream may show.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};

/// The certificate authorities that encrypted upstreams are held to: the public web roots, and
/// perhaps the operator's own.
#[derive(Clone, Debug)]
pub struct Trust(ClientConfig);

/// Why a file does not name certificate authorities.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvalidTrust {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The file does not hold what it should.
    #[error("{} holds no usable PEM of a certificate", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be spoken at all.
    #[error("TLS towards upstreams could not be set up")]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// The public web roots.
    ///
    /// # Errors
    ///
    /// TLS cannot be spoken at all.
    pub fn web() -> Result<Self, InvalidTrust> {
        Self::with(Vec::new(), Path::new(""))
    }

    /// The public web roots, and the certificates in the PEM file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no certificate or one that cannot be an authority's.
    pub fn load(path: &Path) -> Result<Self, InvalidTrust> {
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
            .map_err(|error| failed(path, error))?;
        if certificates.is_empty() {
            return Err(InvalidTrust::Pem { path: path.to_owned() });
        }
        Self::with(certificates, path)
    }

    fn with(certificates: Vec<CertificateDer<'_>>, path: &Path) -> Result<Self, InvalidTrust> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in certificates {
            roots.add(certificate).map_err(|_| InvalidTrust::Pem { path: path.to_owned() })?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(config))
    }

    pub(super) fn config(&self) -> ClientConfig {
        self.0.clone()
    }
}

fn failed(path: &Path, error: pem::Error) -> InvalidTrust {
    let path = path.to_owned();
    if let pem::Error::Io(source) = error {
        return InvalidTrust::Read { path, source: Arc::new(source) };
    }
    InvalidTrust::Pem { path }
}
