//! Who is where, as the kernel must know it.

use std::time::Duration;

use ipnet::IpNet;
use policy::Subscriber;

/// Everybody who is bound to an address.
pub(crate) trait Residents: Send + Sync {
    /// Whoever is bound to `block`; `None`: nobody.
    fn at(&self, block: IpNet) -> Option<Resident>;

    /// Every binding.
    fn each(&self, visit: &mut dyn FnMut(IpNet, &Resident));
}

/// Whoever is bound to a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resident {
    /// Who it is.
    pub(crate) subscriber: Subscriber,
    /// The grant it has.
    pub(crate) grant: Option<Pass>,
}

/// What is left of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The grant's number.
    pub(crate) number: u64,
    /// How long it still lasts.
    pub(crate) left: Duration,
    /// Bytes it was given, both directions together.
    pub(crate) bytes: u64,
    /// Bytes it has used.
    pub(crate) used: u64,
}
