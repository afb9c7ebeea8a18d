//! Vendors' tables: older ones in use, rows copied by hand, hosts that were dropped.

use std::collections::BTreeMap;

use super::{gardens, written};
use crate::{
    builtin::{self, BuiltinEntry, BuiltinSet},
    class::Class,
    code::Code,
    diagnostic::{Fault, Findings},
    document::Document,
    host::HostPattern,
    policy::Policy,
    rule::Scheme,
};

pub(super) fn review(document: &Document<'_>, policy: &Policy, findings: &mut Findings) {
    for class in &document.classes {
        for written in &class.hostsets {
            if let Some(fault) = older(written.get_ref()) {
                findings.add(written.span(), fault);
            }
        }
    }
    let Ok(newest) = builtin::find(FAMILY) else { return };
    let dropped = dropped(&newest);
    for entry in written(document) {
        if let Some(table) = dropped.get(entry.pattern) {
            let message = format!(
                "`{}` was in `{}{table}`, and is not in the newest table, `{}{}`",
                entry.pattern,
                builtin::PREFIX,
                builtin::PREFIX,
                newest.name()
            );
            let fault = Fault::new(Code::ObsoleteVendorHost, message)
                .help("remove the entry, unless devices in the field still ask for it");
            let fault = fault.of_hostset(entry.hostset).of_pattern(entry.pattern);
            findings.add(entry.span, fault);
        }
    }
    for (written, class) in gardens(document, policy) {
        let Some(name) = &written.name else { continue };
        if let Some(fault) = missing(policy, class, &newest) {
            findings.add(name.span(), fault.of_class(class.name()));
        }
    }
}

/// What there is to say about naming a dated table.
fn older(written: &str) -> Option<Fault> {
    let called = written.strip_prefix(builtin::PREFIX)?;
    let (family, _) = called.split_once('@')?;
    let set = builtin::find(called).ok()?;
    let newest = builtin::find(family).ok().filter(|newest| newest.name() != set.name())?;
    let message = format!("`{written}` is older than `{}{}`", builtin::PREFIX, newest.name());
    let help = format!("`{}{family}` is always the newest", builtin::PREFIX);
    Some(Fault::new(Code::OlderVendorTable, message).help(help).of_hostset(written))
}

/// The patterns that the newest table does not let through, with the latest table that lists them.
fn dropped(newest: &BuiltinSet) -> BTreeMap<&'static HostPattern, &'static str> {
    let family = |set: &&BuiltinSet| set.name().split('@').next() == Some(FAMILY);
    let known = |pattern: &HostPattern| {
        newest.entries().iter().any(|row| row.pattern().matches(pattern.base()))
    };
    builtin::all()
        .iter()
        .filter(family)
        .flat_map(|set| set.entries().iter().map(|row| (row.pattern(), set.name())))
        .filter(|(pattern, _)| !known(pattern))
        .collect()
}

/// What a class that copies the vendor's table by hand leaves out.
fn missing(policy: &Policy, class: &Class, newest: &BuiltinSet) -> Option<Fault> {
    let by_name = |name: &str| {
        name.strip_prefix(builtin::PREFIX).and_then(|name| name.split('@').next()) == Some(FAMILY)
    };
    if class.hostsets().any(by_name) {
        return None;
    }
    let (there, absent): (Vec<&BuiltinEntry>, Vec<&BuiltinEntry>) =
        newest.entries().iter().partition(|row| passes(policy, class, row));
    if there.len() < COPIED || absent.is_empty() {
        return None;
    }
    let mut names: Vec<String> =
        absent.iter().take(SHOWN).map(|row| format!("`{}`", row.pattern())).collect();
    if absent.len() > SHOWN {
        names.push(format!("{} more", absent.len() - SHOWN));
    }
    let message = format!(
        "class `{}` lets {} of the {} rows of `{}{}` through; it lacks {}",
        class.name(),
        there.len(),
        newest.entries().len(),
        builtin::PREFIX,
        newest.name(),
        names.join(", ")
    );
    let help = format!("name `{}{FAMILY}` in `hostsets`", builtin::PREFIX);
    Some(Fault::new(Code::MissingVendorRows, message).help(help))
}

/// Whether the class lets the row through by all its schemes.
fn passes(policy: &Policy, class: &Class, row: &BuiltinEntry) -> bool {
    let decisive = class.table.visit(row.pattern().base(), |indices| {
        let rules = indices.filter_map(|at| policy.rule_of(at));
        let schemes: Vec<Scheme> = rules.flat_map(|rule| rule.schemes()).copied().collect();
        std::ops::ControlFlow::Break(row.schemes().iter().all(|scheme| schemes.contains(scheme)))
    });
    decisive.unwrap_or(false)
}

/// The tables that lint holds documents against.
const FAMILY: &str = "mobile-plans";
/// Rows from which on the table counts as copied.
const COPIED: usize = 5;
/// Rows that a message names.
const SHOWN: usize = 5;
