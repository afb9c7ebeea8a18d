//! The table `[dns]`.

use std::path::{Path, PathBuf};

use dns::Upstream;
use serde::Deserialize;
use toml::Spanned;

use super::{
    super::{DnsConfig, EncryptedConfig},
    Findings,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dns {
    listen: Vec<Spanned<String>>,
    #[serde(default)]
    interfaces: Vec<Spanned<String>>,
    upstreams: Spanned<Vec<Spanned<String>>>,
    upstream_authorities: Option<PathBuf>,
    cookie_secrets: Option<PathBuf>,
    dns64: Option<Spanned<String>>,
    tls: Option<Encrypted>,
    https: Option<Encrypted>,
    #[serde(default)]
    limits: DnsLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Encrypted {
    listen: Spanned<Vec<Spanned<String>>>,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DnsLimits {
    qps_per_subscriber: Option<Spanned<u32>>,
    wildcard_names_per_minute: Option<Spanned<u32>>,
    udp_threads: Option<Spanned<u32>>,
}

impl Dns {
    pub(super) fn check(self, folder: &Path, findings: &mut Findings) -> DnsConfig {
        if self.listen.is_empty() {
            findings.error("GW0004", 0..0, "the resolver has no address to listen on", None);
        }
        let span = self.upstreams.span();
        let upstreams: Vec<Upstream> = self
            .upstreams
            .into_inner()
            .into_iter()
            .filter_map(|text| findings.parse(text))
            .collect();
        if upstreams.is_empty() {
            let message = "no upstream resolver can be asked about allowed names";
            findings.error("GW0004", span, message, Some("for example \"udp://198.51.100.53\""));
        }
        let mut limits = dns::Limits::default();
        if let Some(qps) = self.limits.qps_per_subscriber {
            limits.questions_per_second = findings.limit(&qps);
        }
        if let Some(names) = self.limits.wildcard_names_per_minute {
            limits.wildcard_names_per_minute = findings.limit(&names);
        }
        if let Some(threads) = self.limits.udp_threads {
            let number = findings.limit(&threads);
            if number > MAX_THREADS {
                let message = format!("at most {MAX_THREADS} threads can share an address");
                let help = "as many as the node has cores is best, and the default";
                findings.error("GW0002", threads.span(), &message, Some(help));
            }
            limits.udp_threads = usize::try_from(number).unwrap_or(1);
        }
        DnsConfig {
            listen: findings.addresses(self.listen),
            interfaces: findings.interfaces(self.interfaces),
            upstreams,
            cookie_secrets: self.cookie_secrets.map(|path| folder.join(path)),
            upstream_authorities: self.upstream_authorities.map(|path| folder.join(path)),
            dns64: self.dns64.and_then(|prefix| findings.parse(prefix)),
            tls: self.tls.map(|tls| tls.check(folder, findings)),
            https: self.https.map(|https| https.check(folder, findings)),
            limits,
        }
    }
}

impl Encrypted {
    pub(super) fn check(self, folder: &Path, findings: &mut Findings) -> EncryptedConfig {
        let Self { listen, certificate, key } = self;
        if listen.get_ref().is_empty() {
            let message = "the encrypted listener has no address to listen on";
            findings.error("GW0004", listen.span(), message, None);
        }
        EncryptedConfig {
            listen: findings.addresses(listen.into_inner()),
            certificate: folder.join(certificate),
            key: folder.join(key),
        }
    }
}

/// Threads of one address.
const MAX_THREADS: u32 = 256;
