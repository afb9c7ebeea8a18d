//! Classes: which rules a subscriber is under.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    host::HostTable,
    rule::{Listing, Place, Window},
    sim::{Iccid, IdentitySet, Imsi, SimState},
};

/// Whoever is behind one source address, as far as it is known.
///
/// A fact that is not known matches no class that asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriber {
    pub(crate) address: Option<IpAddr>,
    pub(crate) iccid: Option<Iccid>,
    pub(crate) imsi: Option<Imsi>,
    /// Shared: one is made for every packet, and the names are few.
    pub(crate) apn: Option<Arc<str>>,
    pub(crate) state: Option<SimState>,
}

/// An access point name; case does not matter (3GPP TS 23.003 section 9). Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Apn(Arc<str>);

/// What happens to a subscriber's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Refuse everything.
    Drop,
    /// Only listed hosts.
    Garden,
    /// Judge as the garden does, record the verdict, let everything through.
    Observe,
    /// Let everything through, unasked.
    Open,
}

/// What becomes of connectivity probes of Windows (NCSI) inside a garden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ncsi {
    /// Answer them here.
    Answer,
    /// Refuse them, listed or not.
    Deny,
    /// Judge them like any other name.
    Pass,
    /// Send them to the portal.
    Redirect,
}

/// What becomes of a live session that a new policy, or a new state of the SIM, denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDenial {
    /// It is closed at once.
    Cut,
    /// It gets the node's leave time to end by itself.
    Drain,
}

/// Bounds of one subscriber of the class. Absent: the node's own bound holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// DNS questions a second.
    pub dns_qps: Option<u32>,
    /// Sessions open at once.
    pub sessions: Option<u32>,
    /// New sessions a second.
    pub sessions_per_second: Option<u32>,
    /// Bytes relayed in one day, both directions together.
    pub bytes_per_day: Option<u64>,
}

/// One compiled class.
#[derive(Clone, Debug)]
pub struct Class {
    pub(crate) name: Arc<str>,
    pub(crate) priority: u32,
    pub(crate) action: Action,
    pub(crate) ncsi: Ncsi,
    pub(crate) on_denial: OnDenial,
    pub(crate) limits: Limits,
    pub(crate) matches: Vec<ClassMatch>,
    pub(crate) hostsets: Vec<Arc<str>>,
    /// Host sets that schedules add, and when.
    pub(crate) scheduled: Vec<(Arc<str>, Arc<Window>)>,
    pub(crate) table: HostTable<Listing>,
    pub(crate) place: Place,
}

/// One way into a class: every key that is present must hold.
#[derive(Clone, Debug, Default)]
pub struct ClassMatch {
    pub(crate) networks: Option<Vec<IpNet>>,
    pub(crate) iccid: Option<IdentitySet<Iccid>>,
    pub(crate) imsi: Option<IdentitySet<Imsi>>,
    pub(crate) apn: Option<Vec<Box<str>>>,
    pub(crate) state: Option<Vec<SimState>>,
    /// Where the entry was written, from 1.
    pub(crate) line: u32,
}

impl Subscriber {
    /// A subscriber of whom only the source address is known.
    ///
    /// An IPv4 address mapped into IPv6 is folded to IPv4 (RFC 4291 section 2.5.5.2).
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self { address: Some(address.to_canonical()), ..Self::default() }
    }

    /// Adds the SIM's ICCID.
    #[must_use]
    pub fn with_iccid(self, iccid: Iccid) -> Self {
        Self { iccid: Some(iccid), ..self }
    }

    /// Adds the SIM's IMSI.
    #[must_use]
    pub fn with_imsi(self, imsi: Imsi) -> Self {
        Self { imsi: Some(imsi), ..self }
    }

    /// Adds the access point name.
    #[must_use]
    pub fn with_apn(self, apn: Apn) -> Self {
        Self { apn: Some(apn.0), ..self }
    }

    /// Adds the SIM's state.
    #[must_use]
    pub fn with_state(self, state: SimState) -> Self {
        Self { state: Some(state), ..self }
    }

    /// The source address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The SIM's state, where one is known.
    #[must_use]
    pub fn state(&self) -> Option<SimState> {
        self.state
    }
}

impl Apn {
    /// Puts a name in its normal form.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_ascii_lowercase().into())
    }

    /// The name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Class {
    /// The class's name; also the metric label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Classes are asked in rising order; the first that holds wins.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// What happens to the traffic.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// What becomes of connectivity probes.
    #[must_use]
    pub fn ncsi(&self) -> Ncsi {
        self.ncsi
    }

    /// What becomes of a live session that is denied when it is judged again.
    #[must_use]
    pub fn on_denial(&self) -> OnDenial {
        self.on_denial
    }

    /// The bounds of each subscriber.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The host sets as written, built-in ones with their date.
    pub fn hostsets(&self) -> impl Iterator<Item = &str> {
        self.hostsets.iter().map(|name| &**name)
    }

    /// Where the class was written.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether `subscriber` falls in this class. A class without matches holds nobody.
    #[must_use]
    pub fn holds(&self, subscriber: &Subscriber) -> bool {
        self.matches.iter().any(|entry| entry.holds(subscriber))
    }

    /// Whether `subscriber` falls in this class by an entry that lists its SIM by itself, not by a
    /// range. Of two classes with equal priority the one that lists the SIM wins.
    #[must_use]
    pub fn lists(&self, subscriber: &Subscriber) -> bool {
        self.matches.iter().any(|entry| entry.lists(subscriber) && entry.holds(subscriber))
    }

    /// The host sets that schedules add, with their windows.
    pub fn scheduled(&self) -> impl Iterator<Item = (&str, &Window)> {
        self.scheduled.iter().map(|(name, window)| (&**name, &**window))
    }
}

impl ClassMatch {
    /// The line of the document where the entry begins.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The keys it asks for, as written in documents.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + '_ {
        [
            ("networks", self.networks.is_some()),
            ("iccid", self.iccid.is_some()),
            ("imsi", self.imsi.is_some()),
            ("apn", self.apn.is_some()),
            ("state", self.state.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, asked)| asked.then_some(key))
    }

    fn lists(&self, subscriber: &Subscriber) -> bool {
        let iccid = self.iccid.as_ref().zip(subscriber.iccid);
        let imsi = self.imsi.as_ref().zip(subscriber.imsi);
        iccid.is_some_and(|(set, iccid)| set.lists(iccid))
            || imsi.is_some_and(|(set, imsi)| set.lists(imsi))
    }

    pub(crate) fn holds(&self, subscriber: &Subscriber) -> bool {
        let Self { networks, iccid, imsi, apn, state, line: _ } = self;
        let empty = networks.is_none()
            && iccid.is_none()
            && imsi.is_none()
            && apn.is_none()
            && state.is_none();
        !empty
            && holds(networks.as_deref(), subscriber.address, |network, ip| network.contains(ip))
            && holds(iccid.as_ref().map(std::slice::from_ref), subscriber.iccid, |set, iccid| {
                set.contains(*iccid)
            })
            && holds(imsi.as_ref().map(std::slice::from_ref), subscriber.imsi, |set, imsi| {
                set.contains(*imsi)
            })
            && holds(apn.as_deref(), subscriber.apn.as_ref(), |listed, apn| **listed == ***apn)
            && holds(state.as_deref(), subscriber.state, |listed, state| listed == state)
    }
}

/// A key that is absent asks nothing; one that is present needs the fact to be known.
fn holds<L, F>(listed: Option<&[L]>, fact: Option<F>, fits: impl Fn(&L, &F) -> bool) -> bool {
    match (listed, fact) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(listed), Some(fact)) => listed.iter().any(|entry| fits(entry, &fact)),
    }
}

impl Action {
    /// The action's name in documents and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Garden => "garden",
            Self::Observe => "observe",
            Self::Open => "open",
        }
    }
}

impl Ncsi {
    /// The mode's name in documents and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Deny => "deny",
            Self::Pass => "pass",
            Self::Redirect => "redirect",
        }
    }
}

impl OnDenial {
    /// The name in a policy.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Drain => "drain",
        }
    }
}
