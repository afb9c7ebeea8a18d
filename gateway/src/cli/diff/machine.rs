//! The comparison for programs: always complete.

use policy::{Access, Change, ClassDelta, Cover, Move, Policy, Ports, ReachChange, Region, Words};
use serde_json::{Value, json};

use super::{Comparison, Side};

pub(super) fn json(comparison: &Comparison) -> Value {
    let Comparison { old, new, delta, at } = comparison;
    let outcome = if delta.is_equal() { "equal" } else { "different" };
    json!({
        "format_version": 1,
        "outcome": outcome,
        "at": at.map(|at| at.to_string()),
        "old": side(old),
        "new": side(new),
        "classes": delta.classes().iter().map(class).collect::<Vec<_>>(),
        "moves": delta.moves().map(|moves| moves.iter().map(moved).collect::<Vec<_>>()),
        "settings": delta.terms().iter().map(|term| json!({
            "class": term.class,
            "key": term.key,
            "old": term.old,
            "new": term.new,
        })).collect::<Vec<_>>(),
    })
}

fn side(side: &Side) -> Value {
    let Side { file, policy } = side;
    let mut value = header(policy);
    if let Value::Object(value) = &mut value {
        value.insert("file".into(), file.as_str().into());
    }
    value
}

/// What tells one policy from another.
pub(in crate::cli) fn header(policy: &Policy) -> Value {
    json!({
        "name": policy.name(),
        "serial": policy.serial(),
        "sha256": policy.sha256().to_string(),
    })
}

fn class(class: &ClassDelta) -> Value {
    json!({
        "name": class.name,
        "presence": class.presence.label(),
        "changes": class.changes.iter().map(row).collect::<Vec<_>>(),
        "later": class.later.iter().map(|(at, changes)| json!({
            "at": at.to_string(),
            "changes": changes.iter().map(row).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn moved(moved: &Move) -> Value {
    let who = moved.who.iter().map(|group| {
        let conditions = group.conditions().into_iter().map(|condition| {
            json!({
                "key": condition.key,
                "within": condition.within,
                "values": condition.values,
            })
        });
        conditions.collect::<Vec<_>>()
    });
    json!({
        "from": moved.from,
        "to": moved.to,
        "who": who.collect::<Vec<_>>(),
        "changes": moved.changes.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &ReachChange) -> Value {
    let (key, old, new) = match &row.change {
        Change::Opens | Change::Closes | Change::Observed | Change::Listed => {
            (None, Value::Null, Value::Null)
        }
        Change::Addresses { old, new } => (Some("networks"), json!(old), json!(new)),
        Change::Until { old, new } => (
            Some("expires"),
            json!(old.map(|day| day.to_string())),
            json!(new.map(|day| day.to_string())),
        ),
        Change::Words(Words::HostSet { old, new }) => (Some("hostset"), json!(old), json!(new)),
        Change::Words(Words::Pattern { old, new }) => (Some("match"), json!(old), json!(new)),
        Change::Words(Words::Reason { old, new }) => (Some("reason"), json!(old), json!(new)),
    };
    let mut value = json!({
        "change": row.change.label(),
        "hosts": hosts(&row.region),
        "requests": requests(&row.access),
    });
    if let (Value::Object(value), Some(key)) = (&mut value, key) {
        value.insert("key".into(), key.into());
        value.insert("old".into(), old);
        value.insert("new".into(), new);
    }
    value
}

/// A region as patterns; `*` is every host.
pub(in crate::cli) fn hosts(region: &Region) -> Value {
    json!({
        "cover": region.cover.pattern(),
        "except": region.except.iter().map(Cover::pattern).collect::<Vec<_>>(),
    })
}

/// Channels with their ports; DNS has none.
pub(in crate::cli) fn requests(access: &[Access]) -> Vec<Value> {
    let one = |access: &Access| {
        let channel = access.channel.label();
        match &access.ports {
            Some(Ports::Only(ports)) => json!({ "channel": channel, "ports": ports }),
            Some(Ports::Except(ports)) => json!({ "channel": channel, "ports_except": ports }),
            None => json!({ "channel": channel }),
        }
    };
    access.iter().map(one).collect()
}
