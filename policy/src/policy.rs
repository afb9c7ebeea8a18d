//! The compiled policy, and the snapshot of it that is in force.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    cases::Case,
    class::{Class, Subscriber},
    decide::Subject,
    host::HostName,
    rule::{Listing, Rule},
};

/// Where a node stands; a policy made for one is refused by the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// An emulated network.
    Lab,
    /// The operator's live network.
    Production,
    /// The operator's test network.
    Staging,
}

/// How a denied DNS question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsDenial {
    /// The name is not there (RFC 8020), with an SOA of the denied lifetime.
    Nxdomain,
    /// The name has no such record (RFC 2308 section 2.2).
    Nodata,
    /// The question is refused.
    Refused,
    /// The portal's address.
    Sinkhole,
}

/// How a denied HTTP request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpDenial {
    /// The connection is closed.
    Close,
    /// 511 Network Authentication Required (RFC 6585 section 6).
    #[serde(rename = "511")]
    NetworkAuthenticationRequired,
    /// 302 to the portal.
    Redirect,
}

/// What the node does with QUIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quic {
    /// It is refused, whatever the name.
    #[default]
    Reject,
    /// The hello is read, and its name judged as a TLS session's would be.
    Inspect,
}

/// How DNS speaks inside the garden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsTerms {
    /// The answer to a denied question.
    pub denied: DnsDenial,
    /// Seconds a denial may be remembered; at most 5, so that none outlives a purchase.
    pub denied_ttl: u32,
    /// Ceiling in seconds on answers inside the garden.
    pub max_ttl: u32,
}

/// How port 80 speaks inside the garden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTerms {
    /// The answer to a denied request.
    pub denied: HttpDenial,
    /// The portal's URL; present whenever `denied` is a redirect.
    pub portal: Option<Box<str>>,
}

/// What only a lab policy may say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabTerms {
    /// Addresses of names that are not asked of the upstream.
    pub resolve: BTreeMap<HostName, Vec<IpAddr>>,
    /// The origin's real port in place of the one that was asked for.
    pub ports: BTreeMap<u16, u16>,
    /// Address ranges that may be dialled although they are refused otherwise.
    pub networks: Vec<IpNet>,
}

/// A compiled policy. Made by [`compile`](crate::compile()) only.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) name: Arc<str>,
    pub(crate) serial: u64,
    pub(crate) environment: Environment,
    pub(crate) dns: DnsTerms,
    pub(crate) http: HttpTerms,
    pub(crate) lab: LabTerms,
    pub(crate) quic: Quic,
    pub(crate) rules: Vec<Rule>,
    /// In rising priority.
    pub(crate) classes: Vec<Class>,
    /// Index into `classes`.
    pub(crate) default_class: Option<usize>,
    pub(crate) asserts: Vec<Case>,
    pub(crate) sha256: Sha256,
}

/// SHA-256 of a document's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub(crate) [u8; 32]);

/// The policy in force, with its place in this process's history.
#[derive(Clone, Debug)]
pub struct Snapshot {
    policy: Policy,
    generation: u64,
}

impl Policy {
    /// The author's name for the policy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The author's number; only ever rises.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The environment it was made for.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// What the node it was compiled for does with QUIC.
    #[must_use]
    pub fn quic(&self) -> Quic {
        self.quic
    }

    /// How DNS speaks.
    #[must_use]
    pub fn dns(&self) -> DnsTerms {
        self.dns
    }

    /// How port 80 speaks.
    #[must_use]
    pub fn http(&self) -> &HttpTerms {
        &self.http
    }

    /// What only a lab policy may say; empty otherwise.
    #[must_use]
    pub fn lab(&self) -> &LabTerms {
        &self.lab
    }

    /// Every host entry of the host sets that some class uses.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The classes, in rising priority.
    #[must_use]
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class of this name.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.iter().find(|class| class.name() == name)
    }

    /// The class `subject` falls in: the first that holds it, else the default class. Among classes
    /// of equal priority one that lists the SIM by itself comes before one that holds it by a
    /// range. `None` means denied: the policy names no default, or no class has the name.
    #[must_use]
    pub fn class_of(&self, subject: Subject<'_>) -> Option<&Class> {
        match subject {
            Subject::Class(name) => self.class(name),
            Subject::Subscriber(subscriber) => self
                .holding(subscriber)
                .or_else(|| self.default_class.and_then(|index| self.classes.get(index))),
        }
    }

    fn holding(&self, subscriber: &Subscriber) -> Option<&Class> {
        let mut rest = self.classes.iter();
        let first = rest.by_ref().find(|class| class.holds(subscriber))?;
        let mut equals = rest.take_while(|class| class.priority == first.priority).peekable();
        if equals.peek().is_none() || first.lists(subscriber) {
            return Some(first);
        }
        equals.find(|class| class.lists(subscriber)).or(Some(first))
    }

    /// What the policy promises about itself.
    #[must_use]
    pub fn asserts(&self) -> &[Case] {
        &self.asserts
    }

    /// The rule that `listing` stands for.
    pub(crate) fn rule_of(&self, listing: &Listing) -> Option<&Rule> {
        usize::try_from(listing.rule).ok().and_then(|place| self.rules.get(place))
    }

    /// The digest of the document it was compiled from.
    #[must_use]
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }
}

impl Snapshot {
    /// Puts `policy` in place as the `generation`th of this process, from 1.
    #[must_use]
    pub fn new(policy: Policy, generation: u64) -> Self {
        Self { policy, generation }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many policies this process had in force, this one included.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl Environment {
    /// The environment's name in documents.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Production => "production",
            Self::Staging => "staging",
        }
    }
}

impl std::fmt::Display for Sha256 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|octet| write!(formatter, "{octet:02x}"))
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, formatter)
    }
}
