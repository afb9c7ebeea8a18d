//! `gateway.toml`: listeners, limits and keys; read once, at start.
//!
//! Durations and sizes are text with a unit. Every finding about the file is reported at once;
//! paths in it are relative to the file.

mod read;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use dns::{Nat64, Upstream};
use ipnet::IpNet;
use policy::{Diagnostic, Environment, Quic, Severity};

use crate::{
    grants::GrantLimits,
    proxy::{Egress, Limits},
    sims::{Bounds, HOME, store::redis::RedisConfig},
};

/// A checked `gateway.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The node's name in logs and metrics of a fleet.
    pub(crate) node: String,
    /// The environment; the policy's must be equal.
    pub(crate) environment: Environment,
    /// The policy file.
    pub(crate) policy: PathBuf,
    /// Files with the public keys of which one must have signed the policy; empty: none need.
    pub(crate) require_signature: Vec<PathBuf>,
    /// Where a copy of the last good policy is kept, for a start with a policy file that is not.
    pub(crate) last_good: Option<PathBuf>,
    /// Where policies are pulled from; absent where the file is all there is.
    pub(crate) policy_source: Option<PolicySourceConfig>,
    /// How traffic comes to the listeners.
    pub(crate) steering: SteeringConfig,
    /// The resolver.
    pub(crate) dns: DnsConfig,
    /// The proxy; absent where an operator wants the resolver alone.
    pub(crate) proxy: Option<ProxyConfig>,
    /// The admin listener.
    pub(crate) admin: AdminConfig,
    /// RADIUS; absent where nobody tells who has which address.
    pub(crate) radius: Option<RadiusConfig>,
    /// What is known of SIMs, and where it is kept.
    pub(crate) state: StateConfig,
    /// The captive-portal API, if it is served.
    pub(crate) captive_portal: Option<EncryptedConfig>,
    /// The decision and audit logs.
    pub(crate) log: LogConfig,
    /// Bounded open access.
    pub(crate) grants: GrantConfig,
    /// Signed messages from and to the operator's systems.
    pub(crate) webhook: WebhookConfig,
}

/// Where policies are pulled from.
#[derive(Clone, Debug)]
pub(crate) struct PolicySourceConfig {
    /// What is asked for.
    pub(crate) url: http::Uri,
    /// The certificate authorities of an https:// source.
    pub(crate) ca: Option<PathBuf>,
    /// From one pull to the next, a tenth more or less.
    pub(crate) interval: Duration,
}

/// The RADIUS listeners' settings.
#[derive(Clone, Debug)]
pub(crate) struct RadiusConfig {
    /// Addresses for accounting.
    pub(crate) listen: Vec<SocketAddr>,
    /// Addresses for orders (RFC 5176).
    pub(crate) coa: Vec<SocketAddr>,
    /// Who may send.
    pub(crate) clients: Vec<ClientConfig>,
}

/// One that may send RADIUS.
#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    /// Its name in logs.
    pub(crate) name: String,
    /// Its source address.
    pub(crate) address: IpAddr,
    /// The file of the shared secret.
    pub(crate) secret_file: PathBuf,
    /// Whether accounting needs a Message-Authenticator.
    pub(crate) signed: bool,
    /// Whether orders need an Event-Timestamp.
    pub(crate) dated: bool,
    /// Whether a Stop without 3GPP-Session-Stop-Indicator ends one bearer only.
    pub(crate) keeps_without_indicator: bool,
    /// Seconds without a word until a binding lapses; 0: never.
    pub(crate) lifetime: u32,
    /// The routing domain of its addresses; absent: this node's.
    pub(crate) domain: Option<String>,
}

/// What is known of SIMs, and where it is kept.
#[derive(Clone, Debug)]
pub(crate) struct StateConfig {
    /// The store; without one, a restart forgets everything.
    pub(crate) engine: Option<StateEngine>,
    /// How long the store may be away before nobody is known any more.
    pub(crate) stale_max: Duration,
    /// Bounds of the table.
    pub(crate) bounds: Bounds,
    /// The routing domain of the traffic that passes here.
    pub(crate) domain: String,
    /// The file that maps ICCID to IMSI and MSISDN.
    pub(crate) identities: Option<PathBuf>,
    /// Whether ICCIDs are mapped at all, by the file or over the admin API.
    pub(crate) maps_iccid: bool,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateEngine {
    /// A file of this node.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// Servers shared with other nodes.
    Redis(RedisConfig),
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            engine: None,
            stale_max: STALE_MAX,
            bounds: Bounds::default(),
            domain: HOME.to_owned(),
            identities: None,
            maps_iccid: false,
        }
    }
}

/// How long a store may be away before nobody is known any more.
pub(crate) const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How traffic comes to the listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SteeringConfig {
    /// The mechanism.
    pub(crate) mode: SteeringMode,
    /// Interfaces towards subscribers.
    pub(crate) interfaces: Vec<String>,
    /// Whether this program loads the nftables table and the routes.
    pub(crate) install: bool,
    /// The packet mark of steered traffic.
    pub(crate) mark: u32,
    /// The routing table that delivers marked packets here.
    pub(crate) table: u32,
    /// Whether origins are dialled from subscribers' addresses, so that what they answer has to be
    /// brought here as well.
    pub(crate) brings_back: bool,
    /// Addresses of the proxy that DNS answers lead to; only where nothing else does.
    pub(crate) addresses: Vec<IpAddr>,
}

/// The mechanism that brings subscribers' traffic to the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SteeringMode {
    /// DNS answers for listed names lead to the proxy. Whoever knows an address goes around it.
    Dns,
    /// Traffic is sent to the listeners' own addresses.
    None,
    /// Destination translation on this host; the original destination is asked of conntrack.
    Redirect,
    /// TPROXY: the listener's socket carries the original destination.
    Tproxy,
}

/// The resolver's settings.
#[derive(Clone, Debug)]
pub(crate) struct DnsConfig {
    /// Addresses for UDP and TCP.
    pub(crate) listen: Vec<SocketAddr>,
    /// Interfaces by which questions are taken; empty means all.
    pub(crate) interfaces: Vec<String>,
    /// Resolvers that are asked about allowed names, in order.
    pub(crate) upstreams: Vec<Upstream>,
    /// PEM file with the certificate authorities of encrypted upstreams, beside the web's.
    pub(crate) upstream_authorities: Option<PathBuf>,
    /// File with the secrets of DNS cookies, which nodes may share.
    pub(crate) cookie_secrets: Option<PathBuf>,
    /// The prefix of the operator's NAT64, behind which DNS64 makes addresses.
    pub(crate) dns64: Option<Nat64>,
    /// DNS over TLS.
    pub(crate) tls: Option<EncryptedConfig>,
    /// DNS over HTTPS.
    pub(crate) https: Option<EncryptedConfig>,
    /// Its bounds.
    pub(crate) limits: dns::Limits,
}

/// An encrypted listener of the resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncryptedConfig {
    /// Addresses for TCP.
    pub(crate) listen: Vec<SocketAddr>,
    /// PEM file with the chain.
    pub(crate) certificate: PathBuf,
    /// PEM file with the private key.
    pub(crate) key: PathBuf,
}

/// The proxy's settings.
#[derive(Clone, Debug)]
pub(crate) struct ProxyConfig {
    /// Addresses for port 80.
    pub(crate) http: Vec<SocketAddr>,
    /// Addresses for port 443.
    pub(crate) https: Vec<SocketAddr>,
    /// Threads that serve; one a core, if it is not said.
    pub(crate) workers: Option<usize>,
    /// The addresses that origins are dialled from.
    pub(crate) egress: Egress,
    /// Addresses for clients that know the gateway as their proxy.
    pub(crate) explicit: Vec<SocketAddr>,
    /// Load balancers that say for whom they connect (PROXY protocol, version 2).
    pub(crate) balancers: Vec<IpNet>,
    /// What becomes of QUIC.
    pub(crate) quic: Quic,
    /// Bounds.
    pub(crate) limits: Limits,
    /// What live sessions get to end by themselves at stop.
    pub(crate) drain_time: Duration,
    /// The same in the old process of an upgrade.
    pub(crate) upgrade_time: Duration,
}

/// The admin listener's settings.
#[derive(Clone, Debug)]
pub(crate) struct AdminConfig {
    /// Its address.
    pub(crate) listen: SocketAddr,
    /// The file that holds the bearer token; without one, nothing can be changed over the network.
    pub(crate) token_file: Option<PathBuf>,
    /// Certificate and key; demanded for every address that is not loopback.
    pub(crate) tls: Option<AdminTls>,
}

/// The admin listener's certificate.
#[derive(Clone, Debug)]
pub(crate) struct AdminTls {
    /// PEM file with the chain.
    pub(crate) certificate: PathBuf,
    /// PEM file with the private key.
    pub(crate) key: PathBuf,
}

/// Bounded open access.
#[derive(Clone, Debug)]
pub(crate) struct GrantConfig {
    /// Its bounds.
    pub(crate) limits: GrantLimits,
    /// Where grants are written down; without it, none outlives a restart.
    pub(crate) journal: Option<PathBuf>,
}

/// Signed messages from and to the operator's systems.
#[derive(Clone, Debug)]
pub(crate) struct WebhookConfig {
    /// Files with the keys of those who may set the state of a SIM; empty: nobody may.
    pub(crate) key_files: Vec<PathBuf>,
    /// How far the signed time of a message may lie from ours.
    pub(crate) window: Duration,
    /// Who is told when a SIM's state changes.
    pub(crate) to: Vec<WebhookTarget>,
}

/// A system that is told of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebhookTarget {
    /// Scheme, host and port.
    pub(crate) origin: String,
    /// Path and query.
    pub(crate) path: String,
    /// The file with the key that signs what it is sent.
    pub(crate) key_file: PathBuf,
    /// The file with its certificate authority.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Where the two logs go.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogConfig {
    /// Decisions: denials always, allows sampled; lossy under overload, with a counted gap.
    pub(crate) decisions: Option<PathBuf>,
    /// One of how many allows is kept.
    pub(crate) allow_sample: u32,
    /// Policy changes and admin actions; never dropped.
    pub(crate) audit: Option<PathBuf>,
    /// The key of the subscribers' pseudonyms; without one, they change with every start.
    pub(crate) pseudonym_key_file: Option<PathBuf>,
}

/// Why a `gateway.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file was read, and says something it may not.
    #[error("{} has {} errors", path.display(), diagnostics.iter().filter(|d| d.severity == Severity::Error).count())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Its text, for the report.
        text: String,
        /// Every finding.
        diagnostics: Vec<Diagnostic>,
    },
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has at least one error.
    pub(crate) fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        match Self::parse(path, &text) {
            Ok(found) => Ok(found),
            Err(diagnostics) => {
                Err(ConfigError::Invalid { path: path.to_owned(), text, diagnostics })
            }
        }
    }

    /// Checks the text of the file at `path`; returns the warnings beside the settings.
    ///
    /// # Errors
    ///
    /// Every finding, if one of them is an error.
    pub(crate) fn parse(
        path: &Path,
        text: &str,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        read::read(path, text)
    }
}

/// Reads a time with its unit, such as `250ms`, `5s`, `30m` or `2h`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) =
        text.split_at_checked(text.find(|letter: char| !letter.is_ascii_digit())?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// The codes of findings about a `gateway.toml`: stable, each with a name and what it means.
pub(crate) const CODES: [(&str, &str, &str, Severity); 6] = [
    ("GW0001", "syntax", "the text is not TOML, or not of the schema", Severity::Error),
    (
        "GW0002",
        "invalid-value",
        "the value is outside its bounds or cannot be read",
        Severity::Error,
    ),
    ("GW0004", "incomplete", "a part lacks what it cannot work without", Severity::Error),
    ("GW0005", "open-admin", "the admin listener would speak to others in clear", Severity::Error),
    ("GW0006", "never-lapses", "a lost message is never made good", Severity::Warning),
    ("GW0007", "weak-steering", "subscribers can go around the gateway", Severity::Warning),
];

#[cfg(test)]
mod tests;
