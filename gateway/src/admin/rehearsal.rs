//! What a rehearsed reload would do: which classes change, and which live sessions.
//!
//! Lists are bounded and counted; `postern diff` gives the whole of what opens and closes.

use std::sync::Arc;

use policy::{Change, ClassDelta, Cover, Delta, Diagnostic, Move, Presence, Snapshot, Term};
use serde_json::{Value, json};

use super::Desk;
use crate::{
    clock,
    proxy::{SessionChange, Standing},
    report,
};

/// A reload that was rehearsed.
pub(super) struct Rehearsal {
    pub(super) candidate: Arc<Snapshot>,
    pub(super) running: Option<Arc<Snapshot>>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) sessions: Vec<SessionChange>,
}

/// What a rehearsal found; `desk` names subscribers as the decision log does.
pub(super) async fn report(rehearsal: Rehearsal, desk: &Desk) -> Value {
    let Rehearsal { candidate, running, warnings, sessions } = rehearsal;
    let (sha256, serial) = (candidate.policy().sha256().to_string(), candidate.policy().serial());
    // Large policies take a while, and the runtime's threads have traffic to carry.
    let delta = match running {
        Some(running) => tokio::task::spawn_blocking(move || {
            policy::delta(running.policy(), candidate.policy(), clock::now())
        })
        .await
        .ok(),
        None => None,
    };
    let closing = sessions.iter().filter(|change| !change.then.passes()).count();
    let shown = sessions.iter().take(SHOWN).map(|change| session(change, desk));
    json!({
        "outcome": "rehearsed",
        "serial": serial,
        "sha256": sha256,
        "changes_verdicts": delta.as_ref().map(|delta| !delta.is_equal()),
        "classes": delta.as_ref().map(classes),
        "moves": delta.as_ref().map(moves),
        "settings": delta.as_ref().map(|delta| delta.terms().iter().map(setting).collect::<Vec<_>>()),
        "sessions_to_close": closing,
        "sessions_changed": sessions.len(),
        "sessions": shown.collect::<Vec<_>>(),
        "warnings": warnings.iter().map(report::diagnostic).collect::<Vec<_>>(),
    })
}

/// The classes that change; a change in words alone is none.
fn classes(delta: &Delta) -> Vec<Value> {
    delta.classes().iter().filter_map(class).collect()
}

fn class(class: &ClassDelta) -> Option<Value> {
    let changes: Vec<_> = class.changes.iter().filter(|row| !row.change.is_of_words()).collect();
    if changes.is_empty() && class.presence == Presence::Both {
        return None;
    }
    let count = |what: &Change| changes.iter().filter(|row| row.change == *what).count();
    let shown = changes.iter().take(SHOWN).map(|row| {
        json!({
            "change": row.change.label(),
            "hosts": row.region.cover.pattern(),
            "except": row.region.except.iter().take(SHOWN).map(Cover::pattern).collect::<Vec<_>>(),
            "requests": row.access.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    Some(json!({
        "name": class.name,
        "presence": class.presence.label(),
        "opens": count(&Change::Opens),
        "closes": count(&Change::Closes),
        "changed": changes.len(),
        "changes": shown.collect::<Vec<_>>(),
    }))
}

/// Which class's subscribers fall in which; `null` where any may.
fn moves(delta: &Delta) -> Value {
    let one = |moved: &Move| json!({ "from": moved.from, "to": moved.to, "changed": moved.changes.len() });
    delta.moves().map(|moves| moves.iter().take(SHOWN).map(one).collect::<Vec<_>>()).into()
}

fn setting(term: &Term) -> Value {
    json!({ "class": term.class, "key": term.key, "old": term.old, "new": term.new })
}

fn session(change: &SessionChange, desk: &Desk) -> Value {
    let SessionChange { subscriber, protocol, host, port, now, then } = change;
    let standing = |standing: &Standing| {
        json!({
            "class": standing.class,
            "verdict": standing.verdict.label(),
            "reason": standing.reason.label(),
        })
    };
    json!({
        "subscriber": desk.pseudonyms.of(*subscriber),
        "protocol": protocol,
        "host": host.as_str(),
        "port": port,
        "closes": !then.passes(),
        "now": standing(now),
        "then": standing(then),
    })
}

/// Most items of one list; the rest are counted.
const SHOWN: usize = 100;
