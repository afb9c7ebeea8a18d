//! What was asked, judged under one policy or two, and counted.
//!
//! Each row is judged once: everything a verdict depends on is part of the row.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use policy::{Decision, Policy, Reason, Subject, Subscriber, Verdict};

use super::{Asked, Host, Map, Note, Notes, Set};

/// Counts by what was asked and by whom.
#[derive(Debug)]
pub(crate) struct Tally<'p> {
    now: &'p Policy,
    candidate: Option<&'p Policy>,
    class: Option<&'p str>,
    at: Timestamp,
    limits: Limits,
    /// The classes of a subscriber under both policies.
    classes: Vec<Classes>,
    addresses: Map<IpAddr, (u32, u32)>,
    subscribers: Map<Who, u32>,
    index: Map<(u32, Asked), usize>,
    folded: BTreeMap<(u32, Folded), usize>,
    rows: Vec<Row>,
    seen: Set<(usize, u32)>,
    notes: Notes,
}

type Classes = (Option<Box<str>>, Option<Box<str>>);
type Folded = (super::Protocol, Verdict, Option<Verdict>);

/// What a tally may keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    pub(crate) subscribers: usize,
    /// Pairs of a row and a subscriber.
    pub(crate) pairs: usize,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// The one at this address.
    Address(IpAddr),
    /// The one with this pseudonym.
    Pseudonym(Box<str>),
    /// Nobody knows.
    Unknown,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was asked; the host is missing in a row of many names.
    pub(crate) asked: Asked,
    /// Whether this row stands for many names, for want of room.
    pub(crate) folded: bool,
    /// Under the policy.
    pub(crate) now: Ruling,
    /// Under the other policy.
    pub(crate) candidate: Option<Ruling>,
    /// How often.
    pub(crate) count: u64,
    /// By how many subscribers.
    pub(crate) subscribers: u64,
    /// Whether there may have been more subscribers.
    pub(crate) at_least: bool,
    /// What a decision log said, by verdict.
    pub(crate) logged: BTreeMap<&'static str, u64>,
}

/// What one policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// The class; `none` without one.
    pub(crate) class: Box<str>,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    /// Where the host entry was written that decided.
    pub(crate) rule: Option<String>,
}

/// How two verdicts differ, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    NewlyAllowed,
    NewlyDenied,
    /// It passes under both, under one of them only observed.
    Observed,
    None,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: MAX_ROWS, subscribers: MAX_SUBSCRIBERS, pairs: MAX_PAIRS }
    }
}

impl<'p> Tally<'p> {
    /// `class`, if given, is the class of everybody.
    pub(crate) fn new(
        now: &'p Policy,
        candidate: Option<&'p Policy>,
        class: Option<&'p str>,
        at: Timestamp,
        limits: Limits,
    ) -> Self {
        Self {
            now,
            candidate,
            class,
            at,
            limits,
            classes: Vec::new(),
            addresses: Map::default(),
            subscribers: Map::default(),
            index: Map::default(),
            folded: BTreeMap::new(),
            rows: Vec::new(),
            seen: Set::default(),
            notes: Notes::default(),
        }
    }

    /// Counts what the subscriber at `address` asked.
    pub(crate) fn add(&mut self, address: IpAddr, asked: Asked) {
        let (subscriber, classes) = match self.addresses.get(&address) {
            Some(known) => *known,
            None => {
                let classes = self.classes_at(address);
                let subscriber = self.subscriber(Who::Address(slash64(address)));
                if self.addresses.len() < self.limits.subscribers {
                    self.addresses.insert(address, (subscriber, classes));
                }
                (subscriber, classes)
            }
        };
        let row = self.row(classes, asked);
        self.count(row, subscriber);
    }

    /// Counts what a decision log says `who` of `class` asked, with the verdict it had.
    pub(crate) fn add_logged(&mut self, who: Who, class: &str, asked: Asked, verdict: Verdict) {
        let class: Box<str> = self.class.unwrap_or(class).into();
        let classes = self.classes((Some(class.clone()), Some(class)));
        let subscriber = self.subscriber(who);
        let row = self.row(classes, asked);
        self.count(row, subscriber);
        if let Some(row) = self.rows.get_mut(row) {
            *row.logged.entry(verdict.label()).or_default() += 1;
        }
    }

    /// Counts what was met and not judged.
    pub(crate) fn add_notes(&mut self, notes: &Notes) {
        self.notes.add_all(notes);
    }

    /// The table, what changes first, then what is denied; then by class, protocol, host and port.
    pub(crate) fn into_rows(self) -> (Vec<Row>, Notes) {
        let mut rows = self.rows;
        rows.sort_by(|a, b| key(a).cmp(&key(b)));
        (rows, self.notes)
    }

    fn classes_at(&mut self, address: IpAddr) -> u32 {
        let subscriber = Subscriber::at(address);
        let class_of = |policy: &Policy| match self.class {
            Some(class) => Some(class.into()),
            None => {
                policy.class_of(Subject::Subscriber(&subscriber)).map(|class| class.name().into())
            }
        };
        let classes = (class_of(self.now), self.candidate.and_then(class_of));
        self.classes(classes)
    }

    fn classes(&mut self, classes: Classes) -> u32 {
        let place = self.classes.iter().position(|known| *known == classes);
        let place = place.unwrap_or_else(|| {
            self.classes.push(classes);
            self.classes.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    fn subscriber(&mut self, who: Who) -> u32 {
        if let Some(known) = self.subscribers.get(&who) {
            return *known;
        }
        if self.subscribers.len() >= self.limits.subscribers {
            self.notes.add(Note::SubscriberFolded);
            return u32::MAX;
        }
        let number = u32::try_from(self.subscribers.len()).unwrap_or(u32::MAX);
        self.subscribers.insert(who, number);
        number
    }

    /// The row of what was asked; judged if it is new.
    fn row(&mut self, classes: u32, asked: Asked) -> usize {
        let key = (classes, asked);
        if let Some(known) = self.index.get(&key) {
            return *known;
        }
        let row = self.judge(classes, &key.1);
        let place = self.rows.len();
        if self.index.len() < self.limits.rows {
            self.index.insert(key, place);
            self.rows.push(row);
            return place;
        }
        self.notes.add(Note::RowFolded);
        let verdicts = (row.now.verdict, row.candidate.as_ref().map(|ruling| ruling.verdict));
        let folded = (row.asked.protocol, verdicts.0, verdicts.1);
        let known = *self.folded.entry((classes, folded)).or_insert(place);
        if known == place {
            let reason = row.now.reason;
            let asked = Asked::nameless(row.asked.protocol, reason, 0);
            self.rows.push(Row { asked, folded: true, ..row });
        }
        known
    }

    fn judge(&self, classes: u32, asked: &Asked) -> Row {
        let classes = usize::try_from(classes).ok().and_then(|place| self.classes.get(place));
        let rule = |policy: &Policy, class: Option<&str>| {
            // No class has an empty name, so that the nameless one is nobody's.
            let subject = Subject::Class(class.unwrap_or_default());
            Ruling::of(&asked.decide(policy, subject, self.at))
        };
        let now = rule(self.now, classes.and_then(|classes| classes.0.as_deref()));
        let candidate = self
            .candidate
            .map(|policy| rule(policy, classes.and_then(|classes| classes.1.as_deref())));
        Row {
            asked: asked.clone(),
            folded: false,
            now,
            candidate,
            count: 0,
            subscribers: 0,
            at_least: false,
            logged: BTreeMap::new(),
        }
    }

    fn count(&mut self, place: usize, subscriber: u32) {
        let Some(row) = self.rows.get_mut(place) else { return };
        row.count = row.count.saturating_add(1);
        if self.seen.contains(&(place, subscriber)) {
            return;
        }
        if self.seen.len() >= self.limits.pairs {
            row.at_least = true;
            return;
        }
        self.seen.insert((place, subscriber));
        row.subscribers += 1;
    }
}

impl Row {
    /// How the verdicts differ.
    pub(crate) fn change(&self) -> Change {
        let Some(candidate) = &self.candidate else { return Change::None };
        match (self.now.verdict, candidate.verdict) {
            (Verdict::Deny, Verdict::Allow | Verdict::Observe) => Change::NewlyAllowed,
            (Verdict::Allow | Verdict::Observe, Verdict::Deny) => Change::NewlyDenied,
            (Verdict::Allow, Verdict::Observe) | (Verdict::Observe, Verdict::Allow) => {
                Change::Observed
            }
            (Verdict::Allow, Verdict::Allow)
            | (Verdict::Deny, Verdict::Deny)
            | (Verdict::Observe, Verdict::Observe) => Change::None,
        }
    }

    /// Whether the policy denies it.
    pub(crate) fn is_denied(&self) -> bool {
        self.now.verdict == Verdict::Deny
    }

    /// The name, or what stands for it.
    pub(crate) fn host(&self) -> &str {
        match &self.asked.host {
            Host::Name(host) => host.as_str(),
            Host::Missing(_) if self.folded => "(more)",
            Host::Missing(_) => "-",
        }
    }
}

impl Ruling {
    fn of(decision: &Decision<'_>) -> Self {
        Self {
            class: decision.class_label().into(),
            verdict: decision.verdict(),
            reason: decision.reason(),
            rule: decision.rule().map(|rule| rule.place().to_string()),
        }
    }
}

impl Change {
    /// The change's name in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NewlyAllowed => "newly-allowed",
            Self::NewlyDenied => "newly-denied",
            Self::Observed => "observed",
            Self::None => "same",
        }
    }
}

fn key(row: &Row) -> impl Ord + '_ {
    let candidate = row.candidate.as_ref().map(|ruling| (&ruling.class, ruling.verdict));
    let verdict = (!row.is_denied(), row.change());
    (verdict.1, verdict.0, &row.now.class, row.folded, &row.asked, candidate)
}

/// A subscriber has one IPv4 address or one /64 (RFC 6459 section 5.2).
fn slash64(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

/// Rows of the table.
const MAX_ROWS: usize = 1 << 18;
/// Subscribers told apart.
const MAX_SUBSCRIBERS: usize = 1 << 20;
/// Pairs of a row and a subscriber told apart.
const MAX_PAIRS: usize = 1 << 22;
