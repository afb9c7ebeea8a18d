//! Denied names of a decision log as a proposed host set, with the evidence for each.
//!
//! A proposal is text for a person: nothing is applied, and a denied name is no proof that it is
//! needed. What looks dangerous is said beside the entry.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write,
};

use jiff::Timestamp;
use policy::{HostName, Policy, Reason, Scheme, Subject, Verdict};
use serde_json::{Value, json};

use super::{Asked, Host, LogLine, Protocol, Who};

/// Gathers denials.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    found: BTreeMap<HostName, Found>,
    nameless: u64,
    folded: u64,
}

/// One name that was denied.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) host: HostName,
    /// Scheme and port of each way it was asked; none if only DNS was.
    pub(crate) asked: BTreeSet<(Scheme, u16)>,
    /// Why it is denied now.
    pub(crate) reason: Reason,
    /// Where an entry that names it stands, which allows it otherwise.
    pub(crate) listed: Option<Box<str>>,
    /// The shared zone it lies in, where strangers can register names.
    pub(crate) zone: Option<Box<str>>,
    pub(crate) classes: BTreeSet<Box<str>>,
    pub(crate) count: u64,
    pub(crate) subscribers: usize,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

/// Why it was denied, and where the nearest entry stands.
type Grounds = (Reason, Option<Box<str>>);

#[derive(Debug)]
struct Found {
    asked: BTreeMap<(Protocol, u16), Grounds>,
    classes: BTreeSet<Box<str>>,
    who: HashSet<Who>,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Proposals {
    /// Takes a decision; those that are no denial of a name for want of an entry are passed over.
    pub(crate) fn add(&mut self, line: LogLine) {
        let LogLine { time, class, who, asked, verdict, reason, rule } = line;
        let curable = matches!(
            reason,
            Reason::NotListed
                | Reason::SchemeNotListed
                | Reason::PortNotListed
                | Reason::Expired
                | Reason::Quic
        );
        if verdict == Verdict::Allow {
            return;
        }
        let Asked { protocol, host: Host::Name(host), port } = asked else {
            self.nameless += 1;
            return;
        };
        if !curable {
            return;
        }
        if self.found.len() >= MAX_NAMES && !self.found.contains_key(&host) {
            self.folded += 1;
            return;
        }
        let found = self.found.entry(host).or_insert_with(|| Found {
            asked: BTreeMap::new(),
            classes: BTreeSet::new(),
            who: HashSet::new(),
            count: 0,
            first: time,
            last: time,
        });
        found.count += 1;
        found.first = found.first.min(time);
        found.last = found.last.max(time);
        if found.classes.len() < MAX_CLASSES {
            found.classes.insert(class);
        }
        if found.who.len() < MAX_SUBSCRIBERS {
            found.who.insert(who);
        }
        if found.asked.len() < MAX_WAYS {
            found.asked.insert((protocol, port), (reason, rule));
        }
    }

    /// The proposals, those that most subscribers wait for first. What `policy` allows by now to
    /// every class that was denied it is left out.
    pub(crate) fn into_sorted(self, policy: Option<&Policy>, at: Timestamp) -> Vec<Proposal> {
        let mut all: Vec<Proposal> = self
            .found
            .into_iter()
            .filter_map(|(host, found)| found.into_proposal(host, policy, at))
            .collect();
        all.sort_by(|a, b| {
            (b.subscribers, b.count, &a.host).cmp(&(a.subscribers, a.count, &b.host))
        });
        all
    }

    /// Denials that named no host.
    pub(crate) fn nameless(&self) -> u64 {
        self.nameless
    }

    /// Denials of names beyond the bound.
    pub(crate) fn folded(&self) -> u64 {
        self.folded
    }
}

impl Found {
    fn into_proposal(
        self,
        host: HostName,
        policy: Option<&Policy>,
        at: Timestamp,
    ) -> Option<Proposal> {
        let mut asked = BTreeSet::new();
        let mut worst: Option<Grounds> = None;
        let ways: Vec<_> = self.asked.into_iter().collect();
        // A question about a name says nothing once the name itself was asked for.
        let is_dns_only = ways.iter().all(|((protocol, _), _)| *protocol == Protocol::Dns);
        for ((protocol, port), (reason, rule)) in ways {
            let scheme = match protocol {
                Protocol::Http => Some(Scheme::Http),
                // A browser that may not use QUIC uses TLS.
                Protocol::Https | Protocol::Quic => Some(Scheme::Https),
                Protocol::Dns if is_dns_only => None,
                Protocol::Dns | Protocol::Tcp | Protocol::Udp => continue,
            };
            let judged = match policy {
                Some(policy) => {
                    match still_denied(policy, &self.classes, scheme, &host, port, at) {
                        Some(judged) => judged,
                        None => continue,
                    }
                }
                None if reason == Reason::Quic => (Reason::NotListed, None),
                None => (reason, rule),
            };
            if let Some(scheme) = scheme {
                asked.insert((scheme, port));
            }
            if worst.as_ref().is_none_or(|(known, _)| *known == Reason::NotListed) {
                worst = Some(judged);
            }
        }
        let (reason, rule) = worst?;
        let listed = rule.filter(|_| reason != Reason::NotListed);
        let zone = psl::suffix(host.as_str().as_bytes())
            .filter(|suffix| suffix.typ() == Some(psl::Type::Private))
            .and_then(|suffix| std::str::from_utf8(suffix.as_bytes()).ok())
            .map(Into::into);
        Some(Proposal {
            host,
            asked,
            reason,
            listed,
            zone,
            classes: self.classes,
            count: self.count,
            subscribers: self.who.len(),
            first: self.first,
            last: self.last,
        })
    }
}

/// Why one of the classes is still denied it, with the nearest entry; `None` if none is.
fn still_denied(
    policy: &Policy,
    classes: &BTreeSet<Box<str>>,
    scheme: Option<Scheme>,
    host: &HostName,
    port: u16,
    at: Timestamp,
) -> Option<Grounds> {
    let protocol = match scheme {
        None => Protocol::Dns,
        Some(Scheme::Http) => Protocol::Http,
        Some(Scheme::Https) => Protocol::Https,
    };
    let asked = Asked::named(protocol, host.clone(), port);
    classes.iter().find_map(|class| {
        let decision = asked.decide(policy, Subject::Class(class), at);
        let rule = decision.rule().map(|rule| rule.place().to_string().into());
        (decision.verdict() != Verdict::Allow).then(|| (decision.reason(), rule))
    })
}

impl Proposal {
    /// Whether a new entry is proposed; otherwise an entry that is there has to be changed.
    pub(crate) fn is_new(&self) -> bool {
        self.listed.is_none()
    }

    fn evidence(&self) -> String {
        let Self { count, subscribers, first, last, .. } = self;
        let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
        let sims = if *subscribers == 1 { "SIM" } else { "SIMs" };
        format!("denied {times} to {subscribers} {sims}, {first:.0} to {last:.0}; {}", self.ways())
    }

    fn ways(&self) -> String {
        if self.asked.is_empty() {
            return "asked of DNS only, the scheme is a guess".to_owned();
        }
        let ways: Vec<String> =
            self.asked.iter().map(|(scheme, port)| format!("{scheme} {port}")).collect();
        format!("asked by {}", ways.join(", "))
    }

    /// The entries: one, or one a scheme if ports have to be told apart.
    fn entries(&self) -> Vec<(Vec<Scheme>, Vec<u16>)> {
        if self.asked.is_empty() {
            return vec![(vec![Scheme::Https], Vec::new())];
        }
        let usual = |(scheme, port): &(Scheme, u16)| *port == scheme.default_port();
        if self.asked.iter().all(usual) {
            return vec![(self.asked.iter().map(|(scheme, _)| *scheme).collect(), Vec::new())];
        }
        let ports = |scheme| {
            let of_scheme = self.asked.iter().filter(move |(asked, _)| *asked == scheme);
            of_scheme.map(|(_, port)| *port).collect::<Vec<u16>>()
        };
        let entries = Scheme::ALL.into_iter().map(|scheme| (vec![scheme], ports(scheme)));
        entries.filter(|(_, ports)| !ports.is_empty()).collect()
    }

    /// The proposal for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "match": self.host.as_str(),
            "kind": if self.is_new() { "new" } else { "change" },
            "reason": self.reason.label(),
            "listed": self.listed.as_deref(),
            "shared_zone": self.zone.as_deref(),
            "asked": self
                .asked
                .iter()
                .map(|(scheme, port)| json!({ "scheme": scheme.label(), "port": port }))
                .collect::<Vec<_>>(),
            "classes": self.classes,
            "count": self.count,
            "subscribers": self.subscribers,
            "first": self.first.to_string(),
            "last": self.last.to_string(),
        })
    }

    /// The proposals as TOML that can be added to a policy as it is.
    pub(crate) fn toml(all: &[Self]) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = write_toml(all, &mut page);
        page
    }
}

fn write_toml(all: &[Proposal], page: &mut String) -> std::fmt::Result {
    let (Some(first), Some(last)) =
        (all.iter().map(|one| one.first).min(), all.iter().map(|one| one.last).max())
    else {
        return writeln!(page, "# Nothing was denied that an entry could allow.");
    };
    let classes: BTreeSet<&str> =
        all.iter().flat_map(|one| one.classes.iter().map(|class| &**class)).collect();
    let classes: Vec<&str> = classes.into_iter().collect();
    writeln!(page, "# A proposal, applied nowhere. A denied name is no proof that it is needed.")?;
    for one in all.iter().filter(|one| !one.is_new()) {
        let (host, reason) = (&one.host, one.reason);
        let place = one.listed.as_deref().unwrap_or_default();
        writeln!(page, "#\n# change: {host} is named at {place}, but {reason};")?;
        writeln!(page, "#   {}", one.evidence())?;
    }
    if !all.iter().any(Proposal::is_new) {
        return Ok(());
    }
    writeln!(page, "# To use it, name \"{SET}\" in the hostsets of: {}", classes.join(", "))?;
    let day = |time: Timestamp| jiff::tz::Offset::UTC.to_datetime(time).date();
    writeln!(page, "\n[[hostset]]\nname   = \"{SET}\"")?;
    writeln!(page, "source = \"decision log, {} to {}\"", day(first), day(last))?;
    for one in all.iter().filter(|one| one.is_new()) {
        writeln!(page)?;
        if let Some(zone) = &one.zone {
            writeln!(page, "# shared zone: anybody can register names under {zone}")?;
        }
        for (schemes, ports) in one.entries() {
            let schemes: Vec<String> = schemes.iter().map(|s| format!("\"{s}\"")).collect();
            writeln!(page, "[[hostset.host]]\nmatch   = \"{}\"", one.host)?;
            writeln!(page, "schemes = [{}]", schemes.join(", "))?;
            if !ports.is_empty() {
                writeln!(page, "ports   = {ports:?}")?;
            }
            writeln!(page, "reason  = \"{}\"", one.evidence())?;
        }
    }
    Ok(())
}

/// The name of the proposed host set.
const SET: &str = "suggested";
/// Names gathered.
const MAX_NAMES: usize = 10_000;
/// Subscribers told apart for one name.
const MAX_SUBSCRIBERS: usize = 10_000;
/// Classes kept for one name.
const MAX_CLASSES: usize = policy::limits::MAX_CLASSES;
/// Ways kept in which one name was asked for.
const MAX_WAYS: usize = 64;
