//! TLS hosts whose certificates nobody can check for revocation from inside the garden.

use std::collections::BTreeSet;

use super::{data::REVOCATION, gardens};
use crate::{
    builtin,
    class::{Action, Class},
    code::Code,
    diagnostic::{Fault, Findings},
    document::Document,
    policy::Policy,
    rule::{Rule, Scheme},
};

pub(super) fn review(document: &Document<'_>, policy: &Policy, findings: &mut Findings) {
    for (written, class) in gardens(document, policy) {
        let Some(name) = written.name.as_ref().filter(|_| class.action == Action::Garden) else {
            continue;
        };
        let https = rules(policy, class).find(|rule| {
            rule.schemes.contains(&Scheme::Https) && !rule.hostset().starts_with(builtin::PREFIX)
        });
        let checked = || {
            let mut plain =
                rules(policy, class).filter(|rule| rule.schemes.contains(&Scheme::Http));
            plain.any(serves_revocation)
        };
        if let Some(https) = https
            && !checked()
        {
            let message = format!(
                "class `{}` lists TLS hosts such as `{}`, but no host of a revocation list or of \
                 OCSP",
                class.name(),
                https.pattern
            );
            let help = "add `builtin:ms-pki-extra`, or the hosts that the certificates name";
            let fault = Fault::new(Code::RevocationUnreachable, message).help(help);
            findings.add(name.span(), fault.of_class(class.name()));
        }
    }
}

fn rules<'p>(policy: &'p Policy, class: &'p Class) -> impl Iterator<Item = &'p Rule> {
    let used: BTreeSet<&str> = class.hostsets().collect();
    policy.rules().iter().filter(move |rule| rule.window.is_none() && used.contains(rule.hostset()))
}

fn serves_revocation(rule: &Rule) -> bool {
    let base = rule.pattern.base().as_str();
    // A private authority's hosts are known by their label only.
    let first = base.split('.').next().unwrap_or_default();
    first.contains("ocsp") || first.contains("crl") || REVOCATION.reached(&rule.pattern).is_some()
}
