//! One compiled host entry: which hosts, by which schemes, on which ports, until when.

use std::{fmt, ops::Range, sync::Arc};

use ipnet::IpNet;
use jiff::{Timestamp, civil::Date};

use crate::host::HostPattern;

/// A protocol that carries the host name in clear at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP/1 with a Host header; port 80 unless listed otherwise.
    Http,
    /// TLS over TCP with a server name; port 443 unless listed otherwise.
    Https,
}

/// A compiled host entry of a host set.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) hostset: Arc<str>,
    pub(crate) pattern: HostPattern,
    /// One of the lists of [`Scheme::lists`].
    pub(crate) schemes: &'static [Scheme],
    /// Empty: the default port of each scheme.
    pub(crate) ports: Vec<u16>,
    pub(crate) expires: Option<Date>,
    /// Absent: at all times.
    pub(crate) window: Option<Arc<Window>>,
    pub(crate) networks: Vec<IpNet>,
    pub(crate) reason: Option<Box<str>>,
    pub(crate) place: Place,
}

/// When a schedule adds its host sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub(crate) schedule: Arc<str>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// What a decision usually needs of a rule, small enough to lie in the table of hosts itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing {
    /// The rule's place in the policy.
    pub(crate) rule: u32,
    http: bool,
    https: bool,
    usual_ports: bool,
    /// The rule itself knows until when, or in which window, it holds.
    bounded: bool,
}

/// Where in which text a thing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The document's name: a path, or `builtin:NAME@DATE`.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// The bytes of the text.
    pub span: Range<usize>,
}

impl Rule {
    /// The host set that holds the entry.
    #[must_use]
    pub fn hostset(&self) -> &str {
        &self.hostset
    }

    /// The hosts it names.
    #[must_use]
    pub fn pattern(&self) -> &HostPattern {
        &self.pattern
    }

    /// The schemes it lists, in order; never empty.
    #[must_use]
    pub fn schemes(&self) -> &[Scheme] {
        self.schemes
    }

    /// The ports it lists for `scheme`, whether the scheme is listed or not.
    pub fn ports(&self, scheme: Scheme) -> impl Iterator<Item = u16> + '_ {
        let default = self.ports.is_empty().then(|| scheme.default_port());
        self.ports.iter().copied().chain(default)
    }

    /// The last day on which the entry holds, in UTC.
    #[must_use]
    pub fn expires(&self) -> Option<Date> {
        self.expires
    }

    /// Address ranges that the name may resolve to although such addresses are refused otherwise.
    #[must_use]
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// The author's words about why the entry is there.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Where the entry was written.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The window in which the entry holds, if a schedule adds it.
    #[must_use]
    pub fn window(&self) -> Option<&Window> {
        self.window.as_deref()
    }

    /// Whether the entry allows nothing at `now`: its last day is over, or the window of its
    /// schedule is not open.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.window.as_ref().is_some_and(|window| !window.is_open(now))
            || self.expires.is_some_and(|last| jiff::tz::Offset::UTC.to_datetime(now).date() > last)
    }
}

impl Window {
    /// The schedule's name.
    #[must_use]
    pub fn schedule(&self) -> &str {
        &self.schedule
    }

    /// The first moment.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// The first moment after it.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether `now` lies in it.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl Listing {
    /// The listing of `rule`, which stands at `place` in the policy.
    pub(crate) fn new(place: u32, rule: &Rule) -> Self {
        Self {
            rule: place,
            http: rule.schemes.contains(&Scheme::Http),
            https: rule.schemes.contains(&Scheme::Https),
            usual_ports: rule.ports.is_empty(),
            bounded: rule.window.is_some() || rule.expires.is_some(),
        }
    }

    /// As [`Rule::is_expired`], of the `rule` it stands for.
    pub(crate) fn is_expired(&self, rule: &Rule, now: Timestamp) -> bool {
        self.bounded && rule.is_expired(now)
    }

    /// Whether the rule lists `scheme`.
    pub(crate) fn lists(&self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Http => self.http,
            Scheme::Https => self.https,
        }
    }

    /// Whether the rule lists `port` for `scheme`; `None` if the rule itself has to be asked.
    pub(crate) fn lists_port(&self, scheme: Scheme, port: u16) -> Option<bool> {
        self.usual_ports.then(|| port == scheme.default_port())
    }
}

impl Scheme {
    /// Both schemes, in order.
    pub const ALL: [Self; 2] = [Self::Http, Self::Https];

    /// The schemes that are in `listed`, in order, as a list that needs no memory of its own.
    pub(crate) fn lists(listed: &[Self]) -> &'static [Self] {
        match (listed.contains(&Self::Http), listed.contains(&Self::Https)) {
            (true, true) => &Self::ALL,
            (true, false) => &[Self::Http],
            (false, true) => &[Self::Https],
            (false, false) => &[],
        }
    }

    /// The scheme's name as written in documents and targets.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The TCP port when none is listed (RFC 9110 sections 4.2.1 and 4.2.2).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.label())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}
