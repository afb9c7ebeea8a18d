//! The table of a replay, for people and for programs.

use serde_json::{Value, json};

use super::{Notes, Row, tally::Ruling};

/// The table for people; nothing but the rows and what was not judged.
pub(crate) fn text(rows: &[Row], notes: &Notes) -> String {
    let compares = rows.iter().any(|row| row.candidate.is_some());
    let mut lines = vec![head(compares)];
    lines.extend(rows.iter().map(|row| cells(row, compares)));
    let mut widths = vec![0; lines.first().map_or(0, Vec::len)];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut page = String::new();
    if rows.is_empty() {
        page.push_str("nothing was asked\n");
        lines.clear();
    }
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        page.push_str(cells.join("  ").trim_end());
        page.push('\n');
    }
    let met: Vec<String> =
        notes.met().map(|(note, count)| format!("{} {count}", note.label())).collect();
    if !met.is_empty() {
        page.push_str(&format!("\nnot judged: {}\n", met.join(", ")));
    }
    page
}

/// The rows and what was not judged, for programs.
pub(crate) fn json(rows: &[Row], notes: &Notes) -> (Value, Value) {
    let rows = rows.iter().map(|row| {
        json!({
            "protocol": row.asked.protocol.label(),
            "host": match &row.asked.host {
                super::Host::Name(host) => Some(host.as_str()),
                super::Host::Missing(_) => None,
            },
            "port": row.asked.port,
            "many": row.folded,
            "count": row.count,
            "subscribers": row.subscribers,
            "subscribers_at_least": row.at_least,
            "now": ruling(&row.now),
            "candidate": row.candidate.as_ref().map(ruling),
            "change": row.candidate.as_ref().map(|_| row.change().label()),
            "logged": row.logged,
        })
    });
    let notes: serde_json::Map<String, Value> =
        notes.met().map(|(note, count)| (note.label().into(), count.into())).collect();
    (rows.collect(), notes.into())
}

fn ruling(ruling: &Ruling) -> Value {
    json!({
        "class": *ruling.class,
        "verdict": ruling.verdict.label(),
        "reason": ruling.reason.label(),
        "rule": ruling.rule,
    })
}

fn head(compares: bool) -> Vec<String> {
    let (now, what): (&[&str], &[&str]) =
        (&["now"], &["count", "sims", "class", "protocol", "host", "port", "reason"]);
    let names = if compares { [&["change", "now", "candidate"], what] } else { [now, what] };
    names.concat().into_iter().map(str::to_owned).collect()
}

fn cells(row: &Row, compares: bool) -> Vec<String> {
    let mut cells = Vec::new();
    if compares {
        cells.push(row.change().label().to_owned());
    }
    cells.push(row.now.verdict.label().to_owned());
    let (mut class, mut reason) = (row.now.class.to_string(), row.now.reason.label().to_owned());
    if let Some(candidate) = &row.candidate {
        cells.push(candidate.verdict.label().to_owned());
        if candidate.class != row.now.class {
            class.push_str(&format!(" -> {}", candidate.class));
        }
        if candidate.reason != row.now.reason {
            reason.push_str(&format!(" -> {}", candidate.reason.label()));
        }
    }
    let more = if row.at_least { "+" } else { "" };
    cells.extend([
        row.count.to_string(),
        format!("{}{more}", row.subscribers),
        class,
        row.asked.protocol.label().to_owned(),
        row.host().to_owned(),
        row.asked.port.to_string(),
        reason,
    ]);
    cells
}
