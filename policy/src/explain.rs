//! The grounds of one decision: the class and why, every rule weighed, and what was nearly asked.

use std::ops::ControlFlow;

use jiff::Timestamp;

use crate::{
    class::{Action, Class, ClassMatch},
    decide::{Decision, Subject, Verdict, weigh_listing},
    host::HostName,
    nearest::edits,
    policy::Policy,
    reason::Reason,
    rule::Rule,
    target::Target,
};

/// A decision with everything that led to it.
#[derive(Clone, Debug)]
pub struct Explanation<'p> {
    decision: Decision<'p>,
    choice: ClassChoice<'p>,
    weighed: Vec<Weighed<'p>>,
    misses: Vec<NearMiss<'p>>,
}

/// Why the subject fell in its class.
#[derive(Clone, Copy, Debug)]
pub enum ClassChoice<'p> {
    /// The question named the class.
    Asked,
    /// The class's match entry at this place of its list, from 1, holds the subscriber.
    Matched {
        /// The place in the list, from 1.
        number: usize,
        /// The entry.
        entry: &'p ClassMatch,
    },
    /// No class holds the subscriber; this one is the default.
    Default,
    /// No class holds the subscriber, and there is no default, or none has the name asked for.
    Nothing,
}

/// One rule whose pattern matches the host, and what it says about the request.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// What the rule says by itself.
    pub reason: Reason,
    /// Whether the verdict rests on this rule.
    pub decisive: bool,
}

/// A rule that does not match the host, but a similar one.
#[derive(Clone, Copy, Debug)]
pub struct NearMiss<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// How it is similar.
    pub nearness: Nearness,
}

/// How a rule that does not match comes near the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nearness {
    /// The pattern's text is the host's up to a few letters.
    Spelling {
        /// Letters to change, add, drop or swap.
        edits: usize,
    },
    /// The pattern stands for a parent or a child of the host.
    Related,
    /// Pattern and host have one registered domain.
    SameDomain,
}

/// Explains how `target` is judged for `subject` at `now`.
#[must_use]
pub fn explain<'p>(
    policy: &'p Policy,
    subject: Subject<'_>,
    target: &Target,
    now: Timestamp,
) -> Explanation<'p> {
    let decision = target.decide(policy, subject, now);
    let class = decision.class();
    let weighed =
        class.map_or_else(Vec::new, |class| weigh_all(policy, class, target, now, &decision));
    let misses = match (decision.verdict(), class, target.host()) {
        (Verdict::Deny | Verdict::Observe, Some(class), Some(host)) if asks_rules(class, now) => {
            near_misses(policy, class, host)
        }
        (Verdict::Allow | Verdict::Deny | Verdict::Observe, _, _) => Vec::new(),
    };
    Explanation { decision, choice: choose(subject, class), weighed, misses }
}

/// Near misses that are kept, the nearest first.
pub(crate) const MAX_MISSES: usize = 5;

/// Edits within which two names count as misspelt.
const MAX_EDITS: usize = 2;

fn choose<'p>(subject: Subject<'_>, class: Option<&'p Class>) -> ClassChoice<'p> {
    match (subject, class) {
        (_, None) => ClassChoice::Nothing,
        (Subject::Class(_), Some(_)) => ClassChoice::Asked,
        (Subject::Subscriber(subscriber), Some(class)) => {
            class.matches.iter().enumerate().find(|(_, entry)| entry.holds(subscriber)).map_or(
                ClassChoice::Default,
                |(index, entry)| ClassChoice::Matched { number: index + 1, entry },
            )
        }
    }
}

fn asks_rules(class: &Class, now: Timestamp) -> bool {
    match class.action_at(now) {
        Action::Garden | Action::Observe => true,
        Action::Open | Action::Drop => false,
    }
}

fn weigh_all<'p>(
    policy: &'p Policy,
    class: &'p Class,
    target: &Target,
    now: Timestamp,
    decision: &Decision<'p>,
) -> Vec<Weighed<'p>> {
    let Some(request) = target.request().filter(|_| asks_rules(class, now)) else {
        return Vec::new();
    };
    let mut weighed = Vec::new();
    let _: Option<()> = class.table.visit(request.host(), |listings| {
        for listing in listings {
            let Some(rule) = policy.rule_of(listing) else { continue };
            let expired = listing.is_expired(rule, now);
            let reason = if expired {
                Reason::Expired
            } else {
                weigh_listing(listing, rule, request, policy.quic)
            };
            let decisive = decision.rule().is_some_and(|known| std::ptr::eq(known, rule));
            weighed.push(Weighed { rule, reason, decisive });
        }
        ControlFlow::Continue(())
    });
    weighed
}

fn near_misses<'p>(policy: &'p Policy, class: &'p Class, host: &HostName) -> Vec<NearMiss<'p>> {
    let mut misses: Vec<(Nearness, usize, NearMiss<'p>)> = Vec::new();
    let domain = psl::domain_str(host.as_str());
    let used = |rule: &Rule| class.hostsets.iter().any(|name| **name == *rule.hostset);
    for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| used(rule)) {
        if let Some(nearness) = nearness(rule, host, domain) {
            misses.push((nearness, index, NearMiss { rule, nearness }));
        }
    }
    misses.sort_by_key(|(nearness, index, _)| (*nearness, *index));
    misses.truncate(MAX_MISSES);
    misses.into_iter().map(|(_, _, miss)| miss).collect()
}

fn nearness(rule: &Rule, host: &HostName, domain: Option<&str>) -> Option<Nearness> {
    if rule.pattern.matches(host) {
        return None;
    }
    let base = rule.pattern.base();
    if host == base || host.is_below(base) || base.is_below(host) {
        return Some(Nearness::Related);
    }
    let (host, base) = (host.as_str(), base.as_str());
    if host.len().abs_diff(base.len()) <= MAX_EDITS {
        let edits = edits(host, base);
        if edits <= MAX_EDITS {
            return Some(Nearness::Spelling { edits });
        }
    }
    (domain.is_some() && domain == psl::domain_str(base)).then_some(Nearness::SameDomain)
}

impl<'p> Explanation<'p> {
    /// The decision.
    pub fn decision(&self) -> &Decision<'p> {
        &self.decision
    }

    /// Why the class is the one it is.
    #[must_use]
    pub fn choice(&self) -> ClassChoice<'p> {
        self.choice
    }

    /// Every rule whose pattern matches the host, most specific first.
    #[must_use]
    pub fn weighed(&self) -> &[Weighed<'p>] {
        &self.weighed
    }

    /// Rules of the class that do not match but come near, at most `MAX_MISSES`; none if the
    /// request passes.
    #[must_use]
    pub fn misses(&self) -> &[NearMiss<'p>] {
        &self.misses
    }
}

impl ClassChoice<'_> {
    /// The kind's name in reports.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Matched { .. } => "matched",
            Self::Default => "default",
            Self::Nothing => "nothing",
        }
    }
}

impl Nearness {
    /// The kind's name in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Spelling { .. } => "spelling",
            Self::Related => "related",
            Self::SameDomain => "same-domain",
        }
    }
}

#[cfg(test)]
mod tests;
