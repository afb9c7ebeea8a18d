//! Cases: what somebody expects of a policy, held against it with the function that also judges
//! the traffic.
//!
//! A policy carries its own cases, the asserts; others stand in files of `[[case]]` tables beside
//! it. [`Coverage`] says which host entries no case came to.

mod read;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use crate::{
    class::Subscriber,
    decide::{Decision, Subject, Verdict},
    policy::Policy,
    rule::{Place, Rule},
    target::Target,
};

pub use read::read_cases;

/// What is expected for one class or one subscriber.
#[derive(Clone, Debug)]
pub struct Case {
    pub(crate) name: Option<Box<str>>,
    pub(crate) who: Who,
    pub(crate) at: Option<Timestamp>,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) place: Place,
}

/// For whom something is expected.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// Any subscriber of the class of this name.
    Class(Arc<str>),
    /// A subscriber of whom this is known.
    Subscriber(Box<Subscriber>),
}

/// One target with the verdict that is expected for it.
#[derive(Clone, Debug)]
pub struct Expectation {
    pub(crate) target: Target,
    pub(crate) promised: Verdict,
    pub(crate) place: Place,
}

/// An expectation held against a policy.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Held<'c, 'p> {
    case: &'c Case,
    expectation: &'c Expectation,
    decision: Decision<'p>,
}

/// Which host entries of a policy decided a case.
#[derive(Clone, Debug)]
pub struct Coverage<'p> {
    rules: &'p [Rule],
    /// Addresses of entries; their order is never shown.
    touched: BTreeSet<*const Rule>,
}

impl Case {
    /// The author's words.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// When the case plays, if it says so.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.at
    }

    /// The expectations, those of `allow` first.
    #[must_use]
    pub fn expectations(&self) -> &[Expectation] {
        &self.expectations
    }

    /// Where the case was written.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Holds every expectation against `policy`, at the case's own time or at `now`.
    pub fn hold<'c, 'p>(
        &'c self,
        policy: &'p Policy,
        now: Timestamp,
    ) -> impl Iterator<Item = Held<'c, 'p>> {
        let subject = match &self.who {
            Who::Class(name) => Subject::Class(name),
            Who::Subscriber(subscriber) => Subject::Subscriber(subscriber),
        };
        let at = self.at.unwrap_or(now);
        self.expectations.iter().map(move |expectation| {
            let decision = expectation.target.decide(policy, subject, at);
            Held { case: self, expectation, decision }
        })
    }
}

impl Expectation {
    /// What is asked for.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The verdict that is expected.
    #[must_use]
    pub fn promised(&self) -> Verdict {
        self.promised
    }

    /// Where it was written.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl<'c, 'p> Held<'c, 'p> {
    /// Whether the verdict is the expected one.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.decision.verdict() == self.expectation.promised
    }

    /// The case it belongs to.
    #[must_use]
    pub fn case(&self) -> &'c Case {
        self.case
    }

    /// What was expected.
    #[must_use]
    pub fn expectation(&self) -> &'c Expectation {
        self.expectation
    }

    /// What was decided.
    pub fn decision(&self) -> Decision<'p> {
        self.decision
    }
}

impl<'p> Coverage<'p> {
    /// Nothing is covered yet.
    #[must_use]
    pub fn of(policy: &'p Policy) -> Self {
        Self { rules: policy.rules(), touched: BTreeSet::new() }
    }

    /// Counts the entry that `decision` rests on: the one that allowed it, or the nearest that
    /// did not.
    pub fn touch(&mut self, decision: &Decision<'p>) {
        self.touched.extend(decision.rule().map(std::ptr::from_ref));
    }

    /// How many host entries there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.rules.len()
    }

    /// How many of them a case came to.
    #[must_use]
    pub fn touched(&self) -> usize {
        self.touched.len()
    }

    /// The entries no case came to, in the order of the policy.
    pub fn untouched(&self) -> impl Iterator<Item = &'p Rule> {
        self.rules.iter().filter(|rule| !self.touched.contains(&std::ptr::from_ref(*rule)))
    }

    /// The covered part in whole percent, rounded down; 100 if there is nothing to cover.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let percent = (self.touched() * 100).checked_div(self.total());
        percent.and_then(|percent| u8::try_from(percent).ok()).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests;
