//! What a new policy opens and closes, by verdict and not by text.
//!
//! Complete: every host, channel, port and subscriber is weighed by the one [`decide`] through a
//! representative of the cell it lies in; nothing is sampled. See the modules for what makes a
//! cell.
//!
//! [`decide`]: crate::decide()

mod cells;
pub(crate) mod garden;
mod membership;
mod ports;
mod reach;
mod region;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use membership::{Condition, Group};
pub use ports::Ports;
pub use reach::{Access, Change, Channel, ReachChange, Words};
pub use region::{Cover, Region};

use cells::Cells;
use reach::{Side, compare};

use crate::{
    class::{Action, Class, Limits},
    policy::{DnsDenial, HttpDenial, Policy},
};

/// Every difference between two policies at one moment.
#[derive(Clone, Debug)]
pub struct Delta {
    classes: Vec<ClassDelta>,
    moves: Option<Vec<Move>>,
    terms: Vec<Term>,
}

/// What a subscriber who stays in the class gains and loses.
#[derive(Clone, Debug)]
pub struct ClassDelta {
    /// The class's name.
    pub name: Box<str>,
    /// Which of the policies has it.
    pub presence: Presence,
    /// How much passed before.
    pub old: Scope,
    /// How much passes after.
    pub new: Scope,
    /// What changes, in order; where only one policy has the class, the other denies everything.
    pub changes: Vec<ReachChange>,
    /// Verdicts that change from a later moment on, at which a window of a schedule opens or
    /// closes, and do not yet.
    pub later: Vec<(Timestamp, Vec<ReachChange>)>,
}

/// Which policies have a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// The old and the new one.
    Both,
    /// The new one alone.
    Added,
    /// The old one alone.
    Removed,
}

/// Subscribers who fall in another class than before, and what that gives and takes.
#[derive(Clone, Debug)]
pub struct Move {
    /// The class before; `None`: none, so that everything was denied.
    pub from: Option<Box<str>>,
    /// The class after.
    pub to: Option<Box<str>>,
    /// Who they are: those of any of the groups, which do not overlap.
    pub who: Vec<Group>,
    /// How much passed for them before.
    pub old: Scope,
    /// How much passes for them after.
    pub new: Scope,
    /// What changes for them, in order.
    pub changes: Vec<ReachChange>,
}

/// How much of all traffic a class lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Nothing: the class drops, or there is no class.
    Nothing,
    /// What the host sets of the class list.
    Listed,
    /// Everything, be it under observation.
    Everything,
}

/// A setting that shapes how verdicts are carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The class it belongs to; `None`: the policy.
    pub class: Option<Box<str>>,
    /// The key, as documents write it.
    pub key: &'static str,
    /// Its value before.
    pub old: String,
    /// Its value after.
    pub new: String,
}

/// Compares what `old` and `new` say at `now`.
#[must_use]
pub fn delta(old: &Policy, new: &Policy, now: Timestamp) -> Delta {
    let cells = Cells::of(old, new);
    let windows = old.rules().iter().chain(new.rules()).filter_map(|rule| rule.window());
    let moments: BTreeSet<Timestamp> = windows
        .flat_map(|window| [window.from(), window.until()])
        .filter(|moment| *moment > now)
        .collect();
    let names: BTreeSet<&str> =
        old.classes().iter().chain(new.classes()).map(Class::name).collect();
    let classes = names.iter().filter_map(|name| {
        let presence = match (old.class(name), new.class(name)) {
            (Some(_), Some(_)) => Presence::Both,
            (None, Some(_)) => Presence::Added,
            (Some(_), None) => Presence::Removed,
            (None, None) => return None,
        };
        let changes = compare(&cells, Side::of(old, Some(name)), Side::of(new, Some(name)), now);
        let mut known = changes.clone();
        let mut later = Vec::new();
        for at in &moments {
            let rows = compare(&cells, Side::of(old, Some(name)), Side::of(new, Some(name)), *at);
            let fresh = |row: &&ReachChange| row.change.is_of_verdict() && !known.contains(row);
            let fresh: Vec<ReachChange> = rows.iter().filter(fresh).cloned().collect();
            if !fresh.is_empty() {
                later.push((*at, fresh));
            }
            known = rows;
        }
        let (old, new) = (Scope::of(old.class(name)), Scope::of(new.class(name)));
        Some(ClassDelta { name: (*name).into(), presence, old, new, changes, later })
    });
    let classes = classes.collect();
    let moves = membership::crossings(old, new).map(|crossings| {
        let moves = crossings.into_iter().map(|crossing| {
            let membership::Crossing { from, to, who } = crossing;
            let before = Side::of(old, from.as_deref());
            let changes = compare(&cells, before, Side::of(new, to.as_deref()), now);
            let scope = |policy: &Policy, class: &Option<Box<str>>| {
                Scope::of(class.as_deref().and_then(|name| policy.class(name)))
            };
            let (old, new) = (scope(old, &from), scope(new, &to));
            Move { from, to, who, old, new, changes }
        });
        moves.collect()
    });
    Delta { classes, moves, terms: terms(old, new) }
}

impl Delta {
    /// The classes of both policies, by name; also those in which nothing changes.
    #[must_use]
    pub fn classes(&self) -> &[ClassDelta] {
        &self.classes
    }

    /// Who falls in another class than before. `None`: the match entries overlap in too many ways
    /// to be told apart, so any subscriber may.
    #[must_use]
    pub fn moves(&self) -> Option<&[Move]> {
        self.moves.as_deref()
    }

    /// Settings that differ.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// What concerns one class: its own changes, whoever comes and goes, its settings and those of
    /// the policy.
    #[must_use]
    pub fn of_class(mut self, name: &str) -> Self {
        let is = |class: &Option<Box<str>>| class.as_deref() == Some(name);
        self.classes.retain(|class| *class.name == *name);
        if let Some(moves) = &mut self.moves {
            moves.retain(|moved| is(&moved.from) || is(&moved.to));
        }
        self.terms.retain(|term| term.class.is_none() || is(&term.class));
        self
    }

    /// Whether every request of every subscriber has the same fate under both policies. Words may
    /// differ all the same.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.terms.is_empty()
            && self.moves.as_ref().is_some_and(Vec::is_empty)
            && self.classes.iter().all(|class| {
                class.presence == Presence::Both
                    && class.changes.iter().all(|row| row.change.is_of_words())
                    && class.later.is_empty()
            })
    }
}

impl ReachChange {
    /// Whether a request for `host` by `channel` on `port` is meant; DNS has no port.
    #[must_use]
    pub fn covers(&self, host: &crate::HostName, channel: Channel, port: u16) -> bool {
        self.region.contains(host)
            && self.access.iter().any(|access| access.contains(channel, port))
    }
}

impl Scope {
    fn of(class: Option<&Class>) -> Self {
        match class.map(Class::action) {
            None | Some(Action::Drop) => Self::Nothing,
            Some(Action::Garden) => Self::Listed,
            Some(Action::Observe | Action::Open) => Self::Everything,
        }
    }
}

impl Presence {
    /// The word for it in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

/// The settings that differ, of the policy and of classes that both have.
fn terms(old: &Policy, new: &Policy) -> Vec<Term> {
    let mut terms = differing(None, settings(old), settings(new));
    for class in old.classes() {
        if let Some(after) = new.class(class.name()) {
            let (before, after) = (class_settings(class), class_settings(after));
            terms.extend(differing(Some(class.name()), before, after));
        }
    }
    terms.sort_by(|one, other| (&one.class, one.key).cmp(&(&other.class, other.key)));
    terms
}

fn differing(class: Option<&str>, before: Settings, after: Settings) -> Vec<Term> {
    let both = before.into_iter().zip(after).filter(|(old, new)| old != new);
    both.map(|((key, old), (_, new))| Term { class: class.map(Into::into), key, old, new })
        .collect()
}

/// Keys and values, always the same keys in the same order.
type Settings = Vec<(&'static str, String)>;

const ABSENT: &str = "none";

fn settings(policy: &Policy) -> Settings {
    let default = policy.default_class.and_then(|index| policy.classes.get(index));
    let (dns, http, lab) = (policy.dns(), policy.http(), policy.lab());
    let denied = match dns.denied {
        DnsDenial::Nxdomain => "nxdomain",
        DnsDenial::Nodata => "nodata",
        DnsDenial::Refused => "refused",
        DnsDenial::Sinkhole => "sinkhole",
    };
    let refused = match http.denied {
        HttpDenial::Close => "close",
        HttpDenial::NetworkAuthenticationRequired => "511",
        HttpDenial::Redirect => "redirect",
    };
    vec![
        ("default_class", default.map_or(ABSENT, Class::name).to_owned()),
        ("dns.denied", denied.to_owned()),
        ("dns.denied_ttl", format!("{} s", dns.denied_ttl)),
        ("dns.max_ttl", format!("{} s", dns.max_ttl)),
        ("environment", policy.environment().label().to_owned()),
        ("http.denied", refused.to_owned()),
        ("http.portal", http.portal.as_deref().unwrap_or(ABSENT).to_owned()),
        ("lab.networks", format!("{:?}", lab.networks)),
        ("lab.ports", format!("{:?}", lab.ports)),
        ("lab.resolve", format!("{:?}", lab.resolve)),
    ]
}

fn class_settings(class: &Class) -> Settings {
    let Limits { dns_qps, sessions, sessions_per_second, bytes_per_day } = class.limits();
    let number =
        |limit: Option<u64>| limit.map_or_else(|| ABSENT.to_owned(), |limit| limit.to_string());
    vec![
        ("action", class.action().label().to_owned()),
        ("limits.bytes_per_day", number(bytes_per_day)),
        ("limits.dns_qps", number(dns_qps.map(u64::from))),
        ("limits.sessions", number(sessions.map(u64::from))),
        ("limits.sessions_per_second", number(sessions_per_second.map(u64::from))),
        ("ncsi", class.ncsi().label().to_owned()),
        ("on_denial", class.on_denial().label().to_owned()),
    ]
}

#[cfg(test)]
mod tests;
