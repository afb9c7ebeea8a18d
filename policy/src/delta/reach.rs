//! What two classes make of the same requests, cell by cell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{Timestamp, civil::Date};

use super::{
    cells::{Cell, Cells},
    ports::{self, Ports},
    region::{Region, regions},
};
use crate::{
    decide::{Decision, Request, Subject, Verdict, decide},
    host::HostName,
    policy::Policy,
    rule::Rule,
};

/// How a subscriber asks for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// A DNS question.
    Dns,
    /// An HTTP request.
    Http,
    /// A TLS session.
    Https,
    /// A QUIC connection.
    Quic,
    /// A connection that carries no name.
    Tcp,
}

/// Requests that change alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReachChange {
    /// What changes.
    pub change: Change,
    /// For which hosts.
    pub region: Region,
    /// By which channels on which ports; a DNS question has no port.
    pub access: Vec<Access>,
}

/// Channel and ports of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The channel.
    pub channel: Channel,
    /// The ports; `None` for DNS.
    pub ports: Option<Ports>,
}

/// How the fate of a request changes. The first four are changes of the verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was denied and passes.
    Opens,
    /// It passed and is denied.
    Closes,
    /// It was allowed; it passes under observation only.
    Observed,
    /// It passed under observation only; it is allowed.
    Listed,
    /// It is allowed; the addresses that are excepted from the dial guard differ.
    Addresses {
        /// The ranges before.
        old: Vec<Box<str>>,
        /// The ranges after.
        new: Vec<Box<str>>,
    },
    /// It is allowed before and after, but not until the same day.
    Until {
        /// The last day before; `None`: without end.
        old: Option<Date>,
        /// The last day after.
        new: Option<Date>,
    },
    /// It is allowed before and after, by rules that differ in words only.
    Words(Words),
}

/// What tells two rules apart that allow the same request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Words {
    /// They stand in different host sets.
    HostSet {
        /// The host set before.
        old: Box<str>,
        /// The host set after.
        new: Box<str>,
    },
    /// They write the hosts differently.
    Pattern {
        /// The pattern before.
        old: Box<str>,
        /// The pattern after.
        new: Box<str>,
    },
    /// They give different reasons.
    Reason {
        /// The reason before.
        old: Option<Box<str>>,
        /// The reason after.
        new: Option<Box<str>>,
    },
}

/// One class of one policy; no class, or one that the policy lacks, denies everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<'p> {
    policy: &'p Policy,
    class: Option<&'p str>,
}

/// What changes from `old` to `new`, in order.
pub(super) fn compare(
    cells: &Cells,
    old: Side<'_>,
    new: Side<'_>,
    now: Timestamp,
) -> Vec<ReachChange> {
    let mut groups: BTreeMap<(Change, Access), BTreeSet<Cell>> = BTreeMap::new();
    for (cell, host, listed) in cells.iter() {
        for channel in Channel::ALL {
            for key in judge(channel, host, listed, old, new, now) {
                groups.entry(key).or_default().insert(cell);
            }
        }
    }
    let mut merged: BTreeMap<(Change, Region), Vec<Access>> = BTreeMap::new();
    for ((change, access), members) in groups {
        for region in regions(cells, &members) {
            merged.entry((change.clone(), region)).or_default().push(access.clone());
        }
    }
    merged
        .into_iter()
        .map(|((change, region), access)| ReachChange { change, region, access })
        .collect()
}

/// What changes for one host on one channel, by ports.
fn judge(
    channel: Channel,
    host: &HostName,
    listed: &BTreeSet<u16>,
    old: Side<'_>,
    new: Side<'_>,
    now: Timestamp,
) -> Vec<(Change, Access)> {
    let fate = |port| changes(channel.request(host, port), old, new, now);
    if channel == Channel::Dns {
        let access = Access { channel, ports: None };
        return fate(0).into_iter().map(|change| (change, access.clone())).collect();
    }
    let mut found: BTreeMap<Change, BTreeSet<u16>> = BTreeMap::new();
    for port in listed.iter().copied().chain(ports::other(listed)) {
        for change in fate(port) {
            found.entry(change).or_default().insert(port);
        }
    }
    found
        .into_iter()
        .filter_map(|(change, on)| {
            let ports = Ports::that(listed, |port| on.contains(&port))?;
            Some((change, Access { channel, ports: Some(ports) }))
        })
        .collect()
}

fn changes(request: Request<'_>, old: Side<'_>, new: Side<'_>, now: Timestamp) -> Vec<Change> {
    let (before, after) = (old.decide(request, now), new.decide(request, now));
    let mut changes = Vec::new();
    match (before.verdict(), after.verdict()) {
        (Verdict::Deny, Verdict::Allow | Verdict::Observe) => changes.push(Change::Opens),
        (Verdict::Allow | Verdict::Observe, Verdict::Deny) => changes.push(Change::Closes),
        (Verdict::Allow, Verdict::Observe) => changes.push(Change::Observed),
        (Verdict::Observe, Verdict::Allow) => changes.push(Change::Listed),
        (Verdict::Allow, Verdict::Allow)
        | (Verdict::Deny, Verdict::Deny)
        | (Verdict::Observe, Verdict::Observe) => {}
    }
    let (was, is) = (allowing(&before), allowing(&after));
    if let Some(is) = is {
        let ranges = |rule: &Rule| -> Vec<Box<str>> {
            let written: BTreeSet<_> = rule.networks.iter().collect();
            written.into_iter().map(|network| network.to_string().into()).collect()
        };
        let (old, new) = (was.map(ranges).unwrap_or_default(), ranges(is));
        if old != new {
            changes.push(Change::Addresses { old, new });
        }
    }
    if let (Some(was), Some(is)) = (was, is) {
        if end(was).is_some() || end(is).is_some() {
            let (old, new) = (old.until(request, now), new.until(request, now));
            if old != new {
                changes.push(Change::Until { old, new });
            }
        }
        changes.extend(words(was, is).map(Change::Words));
    }
    changes
}

fn allowing<'p>(decision: &Decision<'p>) -> Option<&'p Rule> {
    decision.rule().filter(|_| decision.verdict() == Verdict::Allow)
}

fn words(old: &Rule, new: &Rule) -> Option<Words> {
    if old.hostset != new.hostset {
        let (old, new) = (old.hostset().into(), new.hostset().into());
        return Some(Words::HostSet { old, new });
    }
    if old.pattern != new.pattern {
        let (old, new) = (old.pattern.to_string().into(), new.pattern.to_string().into());
        return Some(Words::Pattern { old, new });
    }
    (old.reason != new.reason)
        .then(|| Words::Reason { old: old.reason.clone(), new: new.reason.clone() })
}

impl<'p> Side<'p> {
    pub(super) fn of(policy: &'p Policy, class: Option<&'p str>) -> Self {
        Self { policy, class }
    }

    pub(super) fn decide(self, request: Request<'_>, now: Timestamp) -> Decision<'p> {
        // No class has the empty name.
        decide(self.policy, Subject::Class(self.class.unwrap_or_default()), request, now)
    }

    /// The last day on which the request is allowed without a break from `now` on.
    fn until(self, request: Request<'_>, now: Timestamp) -> Option<Date> {
        let mut at = now;
        let mut last = None;
        loop {
            let Some(rule) = allowing(&self.decide(request, at)) else { return last };
            // A rule that holds at `at` ends later than `at`, so each turn is a later moment.
            at = end(rule)?;
            let before = at.checked_sub(jiff::SignedDuration::from_nanos(1)).ok()?;
            last = Some(jiff::tz::Offset::UTC.to_datetime(before).date());
        }
    }
}

/// The first moment after the rule's last day and its schedule's window.
fn end(rule: &Rule) -> Option<Timestamp> {
    let over = rule.expires.and_then(|last| last.tomorrow().ok());
    let over = over.and_then(|day| jiff::tz::Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok());
    let shut = rule.window().map(crate::rule::Window::until);
    over.into_iter().chain(shut).min()
}

impl Channel {
    /// Every channel, in order.
    pub const ALL: [Self; 5] = [Self::Dns, Self::Http, Self::Https, Self::Quic, Self::Tcp];

    /// The request for `host` on `port`; DNS asks by name alone.
    #[must_use]
    pub fn request(self, host: &HostName, port: u16) -> Request<'_> {
        match self {
            Self::Dns => Request::Dns { host },
            Self::Http => Request::Http { host, port },
            Self::Https => Request::Https { host, port },
            Self::Quic => Request::Quic { host, port },
            Self::Tcp => Request::Tcp { host, port },
        }
    }

    /// The channel's name in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Http => "http",
            Self::Https => "https",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

impl Access {
    /// Whether a request by `channel` on `port` is meant.
    #[must_use]
    pub fn contains(&self, channel: Channel, port: u16) -> bool {
        self.channel == channel && self.ports.as_ref().is_none_or(|ports| ports.contains(port))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ports {
            Some(ports) => write!(formatter, "{} {ports}", self.channel.label()),
            None => formatter.write_str(self.channel.label()),
        }
    }
}

impl Change {
    /// Whether the verdict itself changes.
    #[must_use]
    pub fn is_of_verdict(&self) -> bool {
        match self {
            Self::Opens | Self::Closes | Self::Observed | Self::Listed => true,
            Self::Addresses { .. } | Self::Until { .. } | Self::Words(_) => false,
        }
    }

    /// Whether nothing changes but the words of a rule.
    #[must_use]
    pub fn is_of_words(&self) -> bool {
        match self {
            Self::Words(_) => true,
            Self::Opens
            | Self::Closes
            | Self::Observed
            | Self::Listed
            | Self::Addresses { .. }
            | Self::Until { .. } => false,
        }
    }

    /// The kind of change, as reports call it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Opens => "opens",
            Self::Closes => "closes",
            Self::Observed => "observed",
            Self::Listed => "listed",
            Self::Addresses { .. } => "addresses",
            Self::Until { .. } => "until",
            Self::Words(_) => "words",
        }
    }
}
