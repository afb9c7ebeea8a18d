//! RADIUS: accounting says who has which address (RFC 2866), orders change states (RFC 5176).
//!
//! An accounting record is answered only after it is stored; one that cannot be taken is not
//! answered, so that the NAS sends it again or elsewhere. Nothing is believed of who is not named
//! in the configuration, or does not know the secret.

mod cache;
mod clerk;
mod content;
mod metrics;
mod packet;
mod resets;
mod server;

use std::{collections::HashMap, io, net::IpAddr, path::PathBuf};

pub(crate) use self::{
    clerk::{Clerk, Service},
    metrics::Metrics,
    packet::Secret,
    server::{BindError, Server},
};

/// One that may send: a NAS, or an AAA server that forwards for many.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// What is shared with it.
    pub(crate) secret: Secret,
    /// Whether accounting without Message-Authenticator is refused; orders always need it.
    pub(crate) signed: bool,
    /// Whether orders without Event-Timestamp are refused.
    pub(crate) dated: bool,
    /// Whether a Stop without 3GPP-Session-Stop-Indicator ends one bearer only.
    pub(crate) keeps_without_indicator: bool,
    /// Seconds without a word until a binding lapses; 0: never.
    pub(crate) lifetime: u32,
    /// The routing domain of its addresses.
    pub(crate) domain: String,
}

/// Who may send, by source address.
pub(crate) type Clients = HashMap<IpAddr, Client>;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the RADIUS secret {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing is in it.
    #[error("the RADIUS secret {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// Reads a secret file.
    ///
    /// # Errors
    ///
    /// It cannot be read or is empty.
    pub(crate) fn load(path: &std::path::Path) -> Result<Self, SecretError> {
        let text = std::fs::read(path)
            .map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
        Self::new(&text).ok_or_else(|| SecretError::Empty { path: path.to_owned() })
    }
}
