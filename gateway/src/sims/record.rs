//! What is said about sessions and addresses, whoever says it: the ledger's input.

use policy::Apn;
use smallvec::SmallVec;

use super::{claim::Seconds, identity::Identities, prefix::Prefix};

/// Addresses in one routing domain: pools of different domains may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The domain, by its place among the names.
    pub(crate) domain: u16,
    /// The addresses.
    pub(crate) prefix: Prefix,
}

/// One message about a session.
#[derive(Clone, Debug)]
pub(crate) struct Record<'r> {
    /// Start, Interim or Stop.
    pub(crate) kind: Kind,
    /// Which NAS says so; one name for whatever its messages came through.
    pub(crate) nas: &'r str,
    /// Digest of the session's name at that NAS.
    pub(crate) session: u64,
    /// The routing domain.
    pub(crate) domain: &'r str,
    /// The addresses the session has, as far as the message tells.
    pub(crate) prefixes: SmallVec<[Prefix; 3]>,
    /// Whose session it is.
    pub(crate) identities: Identities,
    /// The access point name.
    pub(crate) apn: Option<Apn>,
    /// When it happened, by the NAS.
    pub(crate) at: Seconds,
    /// Seconds without another message until the claim lapses; 0: it never does.
    pub(crate) lifetime: u32,
}

/// What a message says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It began.
    Start,
    /// It goes on.
    Interim,
    /// It ended.
    Stop,
}

/// Why a message could not be taken. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No room for another address.
    #[error("all {limit} places for bindings are taken")]
    Bindings {
        /// How many there may be.
        limit: usize,
    },
    /// No room for another SIM.
    #[error(transparent)]
    Sims(#[from] super::registry::Full),
    /// No room for another name of a NAS or a routing domain.
    #[error("too many different names of NAS or routing domains")]
    Names,
}

impl Refusal {
    /// The refusal's name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Bindings { .. } => "bindings-full",
            Self::Sims(_) => "sims-full",
            Self::Names => "names-full",
        }
    }
}
