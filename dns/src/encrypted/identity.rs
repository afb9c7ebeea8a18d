//! The certificate an encrypted listener shows, and the key that goes with it.

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use policy::HostName;
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use webpki::EndEntityCert;

/// A certificate chain with its private key, which are known to fit.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// Why files do not make an [`Identity`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvalidIdentity {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// A file does not hold what it should.
    #[error("{} holds no usable PEM of a {kind}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: &'static str,
    },
    /// TLS cannot be spoken with certificate and key.
    #[error("certificate and key do not work together")]
    Tls(#[from] rustls::Error),
}

impl Identity {
    /// Reads a PEM file with the chain, the server's own certificate first, and one with the key.
    ///
    /// # Errors
    ///
    /// A file cannot be read or holds something else, or the two do not fit.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, InvalidIdentity> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
            .map_err(|error| failed(certificate, "certificate", error))?;
        if chain.is_empty() {
            return Err(failed(certificate, "certificate", pem::Error::NoItemsFound));
        }
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, "private key", error))?;
        Ok(Self(Arc::new(CertifiedKey::from_der(chain, key, &default_provider())?)))
    }

    /// The first name the certificate is for, wildcards apart.
    pub(crate) fn name(&self) -> Option<HostName> {
        self.certificate()?.valid_dns_names().find_map(|name| HostName::parse(name).ok())
    }

    /// Whether the certificate is for `address` (an iPAddress of its subjectAltName).
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        let name = ServerName::IpAddress(address.into());
        self.certificate()
            .is_some_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    }

    fn certificate(&self) -> Option<EndEntityCert<'_>> {
        EndEntityCert::try_from(self.0.cert.first()?).ok()
    }

    /// TLS for a server that speaks `protocol` to whoever asks for any by name.
    pub(super) fn configuration(&self, protocol: &[u8]) -> Result<ServerConfig, InvalidIdentity> {
        let key = SingleCertAndKey::from(CertifiedKey::clone(&self.0));
        let mut configuration = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(key));
        configuration.alpn_protocols = vec![protocol.to_vec()];
        Ok(configuration)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is nobody's business.
        formatter.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn failed(path: &Path, kind: &'static str, error: pem::Error) -> InvalidIdentity {
    let path = path.to_owned();
    if let pem::Error::Io(source) = error {
        return InvalidIdentity::Read { path, source: Arc::new(source) };
    }
    InvalidIdentity::Pem { path, kind }
}
