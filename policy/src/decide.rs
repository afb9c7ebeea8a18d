//! The decision: one pure, total function from policy, subject, request and time to a verdict.
//!
//! DNS, HTTP, TLS, QUIC and every report call [`decide`]; nothing else in the program weighs a
//! host name. What is not allowed by a rule is denied.

use std::ops::ControlFlow;

use jiff::Timestamp;

use crate::{
    class::{Action, Class, Ncsi, Subscriber},
    host::HostName,
    policy::{Policy, Quic},
    probe::Probe,
    reason::Reason,
    rule::{Listing, Rule, Scheme},
};

/// For whom a decision is asked.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Any subscriber of the class of this name.
    Class(&'a str),
    /// This subscriber, in whatever class it falls.
    Subscriber(&'a Subscriber),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A DNS question about this name, whatever its type.
    Dns {
        /// The question's name.
        host: &'a HostName,
    },
    /// An HTTP request.
    Http {
        /// The request's Host.
        host: &'a HostName,
        /// The port the subscriber connected to.
        port: u16,
    },
    /// A TLS session.
    Https {
        /// The hello's server name.
        host: &'a HostName,
        /// The port the subscriber connected to.
        port: u16,
    },
    /// A QUIC connection.
    Quic {
        /// The hello's server name.
        host: &'a HostName,
        /// The port the subscriber sent to.
        port: u16,
    },
    /// A connection that carries no name.
    Tcp {
        /// The name the auditor has in mind.
        host: &'a HostName,
        /// The port the subscriber connected to.
        port: u16,
    },
}

/// Whether traffic passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
    /// The garden would refuse it, but the class only observes: it passes.
    Observe,
}

/// A verdict with its grounds.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Decision<'p> {
    verdict: Verdict,
    reason: Reason,
    class: Option<&'p Class>,
    rule: Option<&'p Rule>,
}

/// Judges one request under `policy` at `now`.
pub fn decide<'p>(
    policy: &'p Policy,
    subject: Subject<'_>,
    request: Request<'_>,
    now: Timestamp,
) -> Decision<'p> {
    decide_in(policy, policy.class_of(subject), request, now)
}

/// As [`decide`], where the subject's class is known already.
pub fn decide_in<'p>(
    policy: &'p Policy,
    class: Option<&'p Class>,
    request: Request<'_>,
    now: Timestamp,
) -> Decision<'p> {
    judge(class, now, |class| match weigh_probe(class, request) {
        Some(verdict) => (verdict, Reason::Ncsi, None),
        None => match weigh(policy, class, request, now) {
            (Reason::Listed, rule) => (Verdict::Allow, Reason::Listed, rule),
            (reason, rule) => (Verdict::Deny, reason, rule),
        },
    })
}

/// Judges a request that names no host, for the `reason` its reader found: a class that lets
/// everything through lets it through, every other one denies it.
pub fn decide_nameless<'p>(
    policy: &'p Policy,
    subject: Subject<'_>,
    reason: Reason,
    now: Timestamp,
) -> Decision<'p> {
    judge(policy.class_of(subject), now, |_| (Verdict::Deny, reason, None))
}

/// Asks `garden` what the garden of `class` says, if it has one.
fn judge<'p>(
    class: Option<&'p Class>,
    now: Timestamp,
    garden: impl FnOnce(&'p Class) -> (Verdict, Reason, Option<&'p Rule>),
) -> Decision<'p> {
    let (verdict, reason, rule) = match class.map(|class| (class, class.action_at(now))) {
        None => (Verdict::Deny, Reason::UnknownSubscriber, None),
        Some((_, Action::Open)) => (Verdict::Allow, Reason::Open, None),
        Some((_, Action::Drop)) => (Verdict::Deny, Reason::Barred, None),
        Some((class, Action::Garden)) => garden(class),
        Some((class, Action::Observe)) => match garden(class) {
            (Verdict::Deny, reason, rule) => (Verdict::Observe, reason, rule),
            passing @ (Verdict::Allow | Verdict::Observe, _, _) => passing,
        },
    };
    Decision { verdict, reason, class, rule }
}

/// What becomes of a connectivity probe that the class does not treat like any other name. A class
/// that observes asks its host sets alone.
///
/// Allowed ones are answered by the gateway itself, and go to no origin. A redirect leads every
/// request to the portal, and leaves the DNS probe alone: answered, it would say that the portal
/// need not be visited.
fn weigh_probe(class: &Class, request: Request<'_>) -> Option<Verdict> {
    if class.ncsi == Ncsi::Pass || class.action != Action::Garden {
        return None;
    }
    match (class.ncsi, request, Probe::of(request.host())?) {
        (Ncsi::Pass, _, _) => None,
        (Ncsi::Deny, _, _) => Some(Verdict::Deny),
        (Ncsi::Answer, Request::Dns { .. }, Probe::Dns { .. } | Probe::Web { .. }) => {
            Some(Verdict::Allow)
        }
        (Ncsi::Answer, Request::Http { .. }, Probe::Web { .. }) => Some(Verdict::Allow),
        (Ncsi::Redirect, Request::Dns { .. }, Probe::Web { .. }) => Some(Verdict::Allow),
        (Ncsi::Redirect, Request::Http { .. }, Probe::Web { .. }) => Some(Verdict::Deny),
        (Ncsi::Answer | Ncsi::Redirect, _, _) => None,
    }
}

/// What the garden of `class` says: [`Reason::Listed`] with the rule, or why not with the nearest.
fn weigh<'p>(
    policy: &'p Policy,
    class: &'p Class,
    request: Request<'_>,
    now: Timestamp,
) -> (Reason, Option<&'p Rule>) {
    if policy.quic == Quic::Reject && matches!(request, Request::Quic { .. }) {
        return (Reason::Quic, None);
    }
    let mut expired = None;
    let decided = class.table.visit(request.host(), |listings| {
        let mut nearest = None;
        for listing in listings {
            let Some(rule) = policy.rule_of(listing) else { continue };
            if listing.is_expired(rule, now) {
                expired.get_or_insert(rule);
                continue;
            }
            let reason = weigh_listing(listing, rule, request, policy.quic);
            if reason == Reason::Listed {
                return ControlFlow::Break((reason, Some(rule)));
            }
            // A port that is not listed is nearer than a scheme that is not.
            let nearer =
                |known| known == Reason::SchemeNotListed && reason == Reason::PortNotListed;
            if nearest.is_none_or(|(known, _)| nearer(known)) {
                nearest = Some((reason, rule));
            }
        }
        match nearest {
            Some((reason, rule)) => ControlFlow::Break((reason, Some(rule))),
            None => ControlFlow::Continue(()),
        }
    });
    match (decided, expired) {
        (Some(grounds), _) => grounds,
        (None, Some(rule)) => (Reason::Expired, Some(rule)),
        (None, None) => (Reason::NotListed, None),
    }
}

/// What one rule that names the host says about the rest of the request.
///
/// The listing answers the usual case; the rule lies elsewhere in memory.
pub(crate) fn weigh_listing(
    listing: &Listing,
    rule: &Rule,
    request: Request<'_>,
    quic: Quic,
) -> Reason {
    let (scheme, port) = match request {
        Request::Dns { .. } => return Reason::Listed,
        Request::Http { port, .. } => (Scheme::Http, port),
        Request::Https { port, .. } => (Scheme::Https, port),
        Request::Quic { port, .. } => match quic {
            Quic::Reject => return Reason::Quic,
            Quic::Inspect => (Scheme::Https, port),
        },
        Request::Tcp { port, .. } => {
            let known = rule.schemes.iter().any(|scheme| rule.ports(*scheme).any(|p| p == port));
            return if known { Reason::SchemeNotListed } else { Reason::PortNotListed };
        }
    };
    if !listing.lists(scheme) {
        return Reason::SchemeNotListed;
    }
    let lists_port = listing
        .lists_port(scheme, port)
        .unwrap_or_else(|| rule.ports(scheme).any(|listed| listed == port));
    if lists_port { Reason::Listed } else { Reason::PortNotListed }
}

impl<'p> Decision<'p> {
    /// Whether traffic passes.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether traffic passes, be it under observation.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self.verdict {
            Verdict::Allow | Verdict::Observe => true,
            Verdict::Deny => false,
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The class the subject fell in.
    #[must_use]
    pub fn class(&self) -> Option<&'p Class> {
        self.class
    }

    /// The class's name, or the metric label for none.
    #[must_use]
    pub fn class_label(&self) -> &'p str {
        self.class.map_or("none", Class::name)
    }

    /// The host entry that allowed the request, or the nearest that did not.
    #[must_use]
    pub fn rule(&self) -> Option<&'p Rule> {
        self.rule
    }
}

impl<'a> Request<'a> {
    /// The name that is judged.
    #[must_use]
    pub fn host(&self) -> &'a HostName {
        match self {
            Self::Dns { host }
            | Self::Http { host, .. }
            | Self::Https { host, .. }
            | Self::Quic { host, .. }
            | Self::Tcp { host, .. } => host,
        }
    }

    /// The protocol's name in metrics and logs.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "dns",
            Self::Http { .. } => "http",
            Self::Https { .. } => "https",
            Self::Quic { .. } => "quic",
            Self::Tcp { .. } => "tcp",
        }
    }
}

impl Verdict {
    /// The verdict's name in metrics, logs and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Observe => "observe",
        }
    }
}

#[cfg(test)]
mod tests;
