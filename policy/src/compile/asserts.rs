//! Asserts: what a policy promises about itself.

use toml::Spanned;

use super::{Promises, Terms};
use crate::{
    cases::{Case, Expectation, Who},
    code::Code,
    decide::{Subject, Verdict},
    diagnostic::{Fault, Findings},
    document::{Assert, Document},
    nearest::suggest,
    policy::Policy,
    target::Target,
};

/// Holds every assert against the policy at the beginning of the day, UTC.
pub(super) fn check(
    document: &Document<'_>,
    policy: &Policy,
    terms: &Terms,
    findings: &mut Findings,
) {
    for assert in &document.asserts {
        let Some(class) = &assert.class else { continue };
        let name = *class.get_ref();
        if policy.class(name).is_none() {
            let message = format!("no class is named `{}`", crate::document::short(name));
            let help = suggest(name, policy.classes().iter().map(crate::class::Class::name));
            findings.add(class.span(), Fault::new(Code::UnknownClass, message).maybe_help(help));
            continue;
        }
        if terms.promises == Promises::Listed {
            continue;
        }
        for target in &assert.allow {
            hold(assert, name, target, Verdict::Allow, policy, terms, findings);
        }
        for target in &assert.deny {
            hold(assert, name, target, Verdict::Deny, policy, terms, findings);
        }
    }
}

/// The asserts as cases that can be held again.
pub(super) fn list(document: &Document<'_>, terms: &Terms) -> Vec<Case> {
    let place = |span: std::ops::Range<usize>| terms.layout.place(&span);
    let expectation = |target: &Spanned<Target>, promised| Expectation {
        target: target.get_ref().clone(),
        promised,
        place: place(target.span()),
    };
    let case = |assert: &Assert<'_>| {
        let class = assert.class.as_ref()?;
        let allow = assert.allow.iter().map(|target| expectation(target, Verdict::Allow));
        let deny = assert.deny.iter().map(|target| expectation(target, Verdict::Deny));
        Some(Case {
            name: assert.name.map(Into::into),
            who: Who::Class((*class.get_ref()).into()),
            at: None,
            expectations: allow.chain(deny).collect(),
            place: place(class.span()),
        })
    };
    document.asserts.iter().filter_map(case).collect()
}

fn hold(
    assert: &Assert<'_>,
    class: &str,
    target: &Spanned<Target>,
    promised: Verdict,
    policy: &Policy,
    terms: &Terms,
    findings: &mut Findings,
) {
    let Some(midnight) = terms.midnight() else { return };
    let decision = target.get_ref().decide(policy, Subject::Class(class), midnight);
    if decision.verdict() == promised {
        return;
    }
    let label = match promised {
        Verdict::Allow => "allowed",
        Verdict::Deny => "denied",
        Verdict::Observe => "observed",
    };
    let message = format!(
        "{} is promised to be {label} for class `{class}`, but the verdict is `{}`: {}",
        crate::document::short(target.get_ref().as_str()),
        decision.verdict().label(),
        decision.reason(),
    );
    let rule = decision.rule().map(|rule| format!("`{}` in {}", rule.pattern(), rule.place()));
    let promise = assert.name.map(|name| format!("promise: {name}"));
    let help = match (rule, promise) {
        (Some(rule), Some(promise)) => Some(format!("see {rule}; {promise}")),
        (Some(rule), None) => Some(format!("see {rule}")),
        (None, promise) => promise,
    };
    findings.add(target.span(), Fault::new(Code::BrokenPromise, message).maybe_help(help));
}
