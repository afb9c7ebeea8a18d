//! The lab's certificate authority: made at start, valid for a day, constrained to the names of the
//! emulated Internet. Its key never leaves the process; only fake SIMs trust it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    NameConstraints, SerialNumber,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{clock, places::places};

/// A certificate authority for one world.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    leaf_key: KeyPair,
    crl: Vec<u8>,
    issued: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl Authority {
    /// Makes the key and the root certificate.
    ///
    /// # Errors
    /// When the cryptographic provider cannot make a key.
    pub(crate) fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Postern lab, one day only");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted().into_iter().map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: Vec::new(),
        });
        let (since, until) = lifetime();
        params.not_before = since.into();
        params.not_after = until.into();
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let crl = CertificateRevocationListParams {
            this_update: since.into(),
            next_update: until.into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&issuer)?
        .der()
        .to_vec();
        Ok(Self { issuer, leaf_key: KeyPair::generate()?, crl, issued: Mutex::default() })
    }

    /// The root certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// An empty revocation list in DER, signed by the root.
    pub(crate) fn crl(&self) -> &[u8] {
        &self.crl
    }

    /// A server configuration that answers every name with its own certificate.
    pub(crate) fn server(self: &Arc<Self>) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        Arc::new(config)
    }

    /// A client configuration that trusts this root and nothing else, and resumes no session, so
    /// that every connection shows a full handshake.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("our own root is well formed");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    fn issue(&self, name: &str) -> Result<Arc<CertifiedKey>, rcgen::Error> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (since, until) = lifetime();
        params.not_before = since.into();
        params.not_after = until.into();
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let key = provider().key_provider.load_private_key(key).expect("our own key loads");
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        Ok(Arc::new(CertifiedKey::new(chain, key)))
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let mut issued = self.issued.lock().unwrap();
        if let Some(key) = issued.get(&name) {
            return Some(Arc::clone(key));
        }
        let key = self.issue(&name).ok()?;
        issued.insert(name, Arc::clone(&key));
        Some(key)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The registrable domains of all places: what the root may vouch for.
fn permitted() -> BTreeSet<String> {
    places()
        .map(|place| {
            let mut labels: Vec<_> = place.name.rsplit('.').take(2).collect();
            labels.reverse();
            labels.join(".")
        })
        .collect()
}

fn lifetime() -> (SystemTime, SystemTime) {
    let now = clock::wall();
    (now - CLOCK_SLACK, now + LIFETIME)
}

const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const CLOCK_SLACK: Duration = Duration::from_secs(5 * 60);
