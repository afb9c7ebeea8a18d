//! How far the garden of a class has drifted from a published table, by verdict.
//!
//! The table is made a garden of its own, and the two gardens are compared cell by cell; so it
//! does not matter in which words, sets or patterns a policy lists what the table lists.

use jiff::Timestamp;

use crate::{
    builtin::{self, BuiltinSet, InvalidBuiltin},
    compile::{Source, compile},
    delta::{Access, Region, garden},
    policy::Policy,
};

/// Where a garden and a published table differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The table's name, with its date.
    pub against: Box<str>,
    /// Hosts of the table that the class does not let through at all.
    pub missing: Vec<DriftRow>,
    /// Hosts the class lets through that the table does not list.
    pub extra: Vec<DriftRow>,
    /// Hosts of both, by other schemes or on other ports.
    pub changed: Vec<DriftRow>,
}

/// Hosts on which a garden and a table differ alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriftRow {
    /// The hosts.
    pub region: Region,
    /// What the table lets through.
    pub published: Vec<Access>,
    /// What the class lets through.
    pub allowed: Vec<Access>,
}

/// Why there is nothing to compare.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDrift {
    /// The policy has no class of the name.
    #[error("no class `{name}`")]
    UnknownClass {
        /// The name.
        name: Box<str>,
    },
    /// The table names no host by itself.
    #[error(transparent)]
    Builtin(#[from] InvalidBuiltin),
    /// The table is not one of the built-in ones.
    #[error("`{name}` cannot be made a garden")]
    Foreign {
        /// The table's name.
        name: Box<str>,
    },
}

impl Drift {
    /// Whether the two let the same requests through.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.changed.is_empty()
    }
}

/// Compares the class called `class` with the table `set` at `now`.
///
/// # Errors
///
/// There is no such class, or the table needs network codes.
pub fn drift(
    policy: &Policy,
    class: &str,
    set: &BuiltinSet,
    now: Timestamp,
) -> Result<Drift, InvalidDrift> {
    if policy.class(class).is_none() {
        return Err(InvalidDrift::UnknownClass { name: class.into() });
    }
    let table = published(set)?;
    let mut drift = Drift {
        against: set.name().into(),
        missing: Vec::new(),
        extra: Vec::new(),
        changed: Vec::new(),
    };
    for (published, allowed, regions) in garden::compare((&table, CLASS), (policy, class), now) {
        let rows = match (published.is_empty(), allowed.is_empty()) {
            (false, true) => &mut drift.missing,
            (true, false) => &mut drift.extra,
            (false, false) => &mut drift.changed,
            (true, true) => continue,
        };
        rows.extend(regions.into_iter().map(|region| DriftRow {
            region,
            published: published.clone(),
            allowed: allowed.clone(),
        }));
    }
    for rows in [&mut drift.missing, &mut drift.extra, &mut drift.changed] {
        rows.sort_unstable();
    }
    Ok(drift)
}

/// Compares one table, as if it were in force, with another.
///
/// # Errors
///
/// One of the tables needs network codes.
pub fn drift_sets(in_force: &BuiltinSet, against: &BuiltinSet) -> Result<Drift, InvalidDrift> {
    drift(&published(in_force)?, CLASS, against, Timestamp::UNIX_EPOCH)
}

/// The class of a table's garden.
const CLASS: &str = "published";

/// A policy whose only class lets through what `set` lists, and nothing else.
fn published(set: &BuiltinSet) -> Result<Policy, InvalidDrift> {
    builtin::resolve(set.name())?;
    let text = format!(
        "schema = 1\nname = \"{CLASS}\"\nserial = 1\nenvironment = \"production\"\n\
         default_class = \"{CLASS}\"\n[[class]]\nname = \"{CLASS}\"\npriority = 1\n\
         action = \"garden\"\nhostsets = [\"{}{}\"]\n",
        builtin::PREFIX,
        set.name()
    );
    let source = Source { name: set.name(), text: &text };
    compile(&source, set.date())
        .map(|compiled| compiled.policy)
        .map_err(|_| InvalidDrift::Foreign { name: set.name().into() })
}

#[cfg(test)]
mod tests;
