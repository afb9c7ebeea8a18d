//! Why a listener could not be had.

use std::{io, net::SocketAddr, sync::Arc};

use crate::encrypted::InvalidIdentity;

/// Why the resolver could not listen. Nothing is left bound.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be had on UDP.
    #[error("cannot listen on {address} over UDP{}", cure(source))]
    Udp {
        /// As given.
        address: SocketAddr,
        /// What the kernel says.
        source: Arc<io::Error>,
    },
    /// The address cannot be had on TCP.
    #[error("cannot listen on {address} over TCP{}", cure(source))]
    Tcp {
        /// As given, or with the port UDP got.
        address: SocketAddr,
        /// What the kernel says.
        source: Arc<io::Error>,
    },
    /// TLS cannot be spoken with the certificate.
    #[error("DNS over {protocol} cannot be served")]
    Identity {
        /// `TLS` or `HTTPS`.
        protocol: &'static str,
        /// What is wrong with it.
        source: InvalidIdentity,
    },
    /// The upstream is this very listener: every question would come back.
    #[error("the upstream {upstream} is the address {address} of this resolver itself")]
    Loop {
        /// As bound.
        address: SocketAddr,
        /// As configured.
        upstream: SocketAddr,
    },
    /// The kernel does not let us take packets for other addresses.
    #[error("cannot take steered packets on {address}; CAP_NET_ADMIN is needed for that")]
    Transparent {
        /// As given.
        address: SocketAddr,
        /// What the kernel says.
        source: Arc<io::Error>,
    },
}

/// What to do about it, where that is known.
fn cure(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::AddrInUse {
        "; another process has the port: stop it, or choose another address in [dns]"
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        "; ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or choose a higher one in [dns]"
    } else {
        ""
    }
}
