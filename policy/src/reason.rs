//! Why a request was allowed or denied: a closed list, also the metric label.

/// The reason of a verdict.
///
/// The first group is given by [`decide`](crate::decide()) from the policy; the second by the part
/// that reads the bytes, when it cannot even ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A host entry of the class names this host, scheme and port.
    Listed,
    /// No host entry of the class names this host.
    NotListed,
    /// The host is listed, but for another scheme.
    SchemeNotListed,
    /// The host is listed with this scheme, but on other ports.
    PortNotListed,
    /// Every entry that names this host is past its `expires` day, or outside the window of its
    /// schedule.
    Expired,
    /// The class is open: nothing is asked.
    Open,
    /// The class drops everything.
    Barred,
    /// No class holds this subscriber, and the policy names no default class.
    UnknownSubscriber,
    /// The name is a connectivity probe, and the class's `ncsi` mode says what becomes of it.
    Ncsi,
    /// The request is QUIC and QUIC is refused.
    Quic,
    /// No policy is loaded.
    NoPolicy,

    /// The hello names no server (RFC 6066 section 3).
    NoSni,
    /// The hello's server name is not a host name, or ends in a dot.
    BadSni,
    /// An extension stands twice in the hello (RFC 8446 section 4.2).
    DuplicateExtension,
    /// The bytes are not a TLS handshake record with a ClientHello.
    NotTls,
    /// The hello is longer than the limit, or spread over too many records.
    HelloTooLarge,
    /// The hello was not complete in time.
    HelloTimeout,
    /// The hello after a HelloRetryRequest, a later one of a QUIC connection, or the one behind a
    /// CONNECT names another server; or octets of a QUIC hello came twice and differed.
    HelloChanged,
    /// The HTTP request has no Host.
    NoHost,
    /// The HTTP request has a Host that is not a host name, or more than one.
    BadHost,
    /// The name on the wire is an address.
    IpLiteral,
    /// The HTTP method is CONNECT, or the request asks for another protocol.
    MethodNotAllowed,
    /// A limit was reached.
    Limit,
    /// The connection would lead back to the gateway.
    Loop,
    /// The name resolves only to addresses that must not be dialled.
    UpstreamAddressRefused,
}

impl Reason {
    /// Every reason, in the order of the type.
    pub const ALL: [Self; 25] = [
        Self::Listed,
        Self::NotListed,
        Self::SchemeNotListed,
        Self::PortNotListed,
        Self::Expired,
        Self::Open,
        Self::Barred,
        Self::UnknownSubscriber,
        Self::Ncsi,
        Self::Quic,
        Self::NoPolicy,
        Self::NoSni,
        Self::BadSni,
        Self::DuplicateExtension,
        Self::NotTls,
        Self::HelloTooLarge,
        Self::HelloTimeout,
        Self::HelloChanged,
        Self::NoHost,
        Self::BadHost,
        Self::IpLiteral,
        Self::MethodNotAllowed,
        Self::Limit,
        Self::Loop,
        Self::UpstreamAddressRefused,
    ];

    /// The name of the reason in metrics, logs and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::NotListed => "not-listed",
            Self::SchemeNotListed => "scheme-not-listed",
            Self::PortNotListed => "port-not-listed",
            Self::Expired => "expired",
            Self::Open => "open",
            Self::Barred => "barred",
            Self::UnknownSubscriber => "unknown-subscriber",
            Self::Ncsi => "ncsi",
            Self::Quic => "quic",
            Self::NoPolicy => "no-policy",
            Self::NoSni => "no-sni",
            Self::BadSni => "bad-sni",
            Self::DuplicateExtension => "duplicate-extension",
            Self::NotTls => "not-tls",
            Self::HelloTooLarge => "hello-too-large",
            Self::HelloTimeout => "hello-timeout",
            Self::HelloChanged => "hello-changed",
            Self::NoHost => "no-host",
            Self::BadHost => "bad-host",
            Self::IpLiteral => "ip-literal",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Limit => "limit",
            Self::Loop => "loop",
            Self::UpstreamAddressRefused => "upstream-address-refused",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Reason;

    #[test]
    fn labels_are_distinct_and_fit_a_metric() {
        let labels: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        for label in labels {
            assert!(
                label.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-'),
                "{label}"
            );
        }
    }
}
