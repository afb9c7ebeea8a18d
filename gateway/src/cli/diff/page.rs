//! The comparison for people: as text, and as Markdown for a change ticket.

use std::fmt::Write;

use policy::{
    Access, Change, Condition, Cover, Group, Move, Presence, ReachChange, Region, Scope, Words,
};

use super::{Comparison, Side};

/// Names and values, plain or set off for Markdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Style {
    Text,
    Markdown,
}

pub(super) fn text(comparison: &Comparison, most: usize) -> String {
    let Comparison { old, new, delta, at } = comparison;
    let mut page = String::new();
    for (word, Side { file, policy }) in [("old", old), ("new", new)] {
        let (name, serial, sha256) = (policy.name(), policy.serial(), policy.sha256());
        line(&mut page, &format!("{word}  {file}: {name}, serial {serial}, sha256 {sha256}"));
    }
    if let Some(at) = at {
        line(&mut page, &format!("at   {at}"));
    }
    for class in delta.classes() {
        let said = match class.presence {
            Presence::Both if class.changes.is_empty() && class.later.is_empty() => {
                ": nothing changes"
            }
            Presence::Both => "",
            Presence::Added => ": added; before, nobody could be in it",
            Presence::Removed => ": removed",
        };
        line(&mut page, &format!("\nclass {}{said}", class.name));
        rows(&mut page, &class.changes, (class.old, class.new), most);
        for (at, changes) in &class.later {
            line(&mut page, &format!("  from {at} on, by schedule:"));
            rows(&mut page, changes, (class.old, class.new), most);
        }
    }
    match delta.moves() {
        None => line(&mut page, &format!("\n{TOO_INTRICATE}")),
        Some(moves) => {
            for moved in moves {
                let (from, to) = ends(moved, Style::Text);
                line(&mut page, &format!("\nsubscribers move from {from} to {to}"));
                for group in moved.who.iter().take(most) {
                    line(&mut page, &format!("  who        {}", who(group, most, Style::Text)));
                }
                more(&mut page, "  ", moved.who.len(), most);
                rows(&mut page, &moved.changes, (moved.old, moved.new), most);
            }
        }
    }
    if !delta.terms().is_empty() {
        line(&mut page, "\nsettings");
    }
    for term in delta.terms() {
        let class =
            term.class.as_ref().map_or_else(String::new, |class| format!("class {class}: "));
        line(&mut page, &format!("  {class}{}: {} -> {}", term.key, term.old, term.new));
    }
    line(&mut page, &format!("\n{}", summary(comparison)));
    page
}

pub(super) fn markdown(comparison: &Comparison, most: usize) -> String {
    let Comparison { old, new, delta, at } = comparison;
    let mut page = format!("# Policy change: {} to {}\n\n", title(old), title(new));
    line(&mut page, "| | old | new |\n|---|---|---|");
    let mut cells = |what: &str, of: fn(&Side) -> String| {
        line(&mut page, &format!("| {what} | {} | {} |", of(old), of(new)));
    };
    cells("file", |side| code(&side.file));
    cells("name", |side| code(side.policy.name()));
    cells("serial", |side| side.policy.serial().to_string());
    cells("sha256", |side| code(&side.policy.sha256().to_string()));
    line(&mut page, &format!("\n**{}**", summary(comparison)));
    if let Some(at) = at {
        line(&mut page, &format!("\nJudged at {at}."));
    }
    for class in delta.classes() {
        let said = match class.presence {
            Presence::Both => "",
            Presence::Added => " (added)",
            Presence::Removed => " (removed)",
        };
        line(&mut page, &format!("\n## Class {}{said}\n", code(&class.name)));
        table(&mut page, &class.changes, (class.old, class.new), most);
        for (at, changes) in &class.later {
            line(&mut page, &format!("\nFrom {at} on, by schedule:\n"));
            table(&mut page, changes, (class.old, class.new), most);
        }
    }
    match delta.moves() {
        None => line(&mut page, &format!("\n## Moves\n\n{TOO_INTRICATE}")),
        Some(moves) => {
            for moved in moves {
                let (from, to) = ends(moved, Style::Markdown);
                line(&mut page, &format!("\n## Subscribers move from {from} to {to}\n"));
                for group in moved.who.iter().take(most) {
                    line(&mut page, &format!("- {}", who(group, most, Style::Markdown)));
                }
                more(&mut page, "- ", moved.who.len(), most);
                line(&mut page, "");
                table(&mut page, &moved.changes, (moved.old, moved.new), most);
            }
        }
    }
    if !delta.terms().is_empty() {
        line(&mut page, "\n## Settings\n\n| where | key | old | new |\n|---|---|---|---|");
    }
    for term in delta.terms() {
        let class = term.class.as_ref().map_or_else(|| "policy".to_owned(), |class| code(class));
        let (key, old, new) = (code(term.key), code(&term.old), code(&term.new));
        line(&mut page, &format!("| {class} | {key} | {old} | {new} |"));
    }
    page
}

const TOO_INTRICATE: &str = "The match entries of the classes overlap in too many ways to be told \
                             apart; any subscriber may fall in another class.";

/// The first line to read, the last one written.
fn summary(comparison: &Comparison) -> String {
    let delta = &comparison.delta;
    let rows = || delta.classes().iter().flat_map(|class| &class.changes);
    let count = |label: &str| rows().filter(|row| row.change.label() == label).count();
    let mut parts = Vec::new();
    for (label, one, many) in [
        ("opens", "row opens", "rows open"),
        ("closes", "row closes", "rows close"),
        ("observed", "row is only observed", "rows are only observed"),
        ("listed", "row is no longer only observed", "rows are no longer only observed"),
        ("addresses", "row changes its addresses", "rows change their addresses"),
        ("until", "row changes its end", "rows change their end"),
        ("words", "row changes in words only", "rows change in words only"),
    ] {
        let count = count(label);
        if count > 0 {
            parts.push(format!("{count} {}", if count == 1 { one } else { many }));
        }
    }
    match delta.moves().map(<[Move]>::len) {
        None => parts.push("who moves cannot be told".to_owned()),
        Some(0) => {}
        Some(1) => parts.push("1 move between classes".to_owned()),
        Some(count) => parts.push(format!("{count} moves between classes")),
    }
    match delta.terms().len() {
        0 => {}
        1 => parts.push("1 setting changes".to_owned()),
        count => parts.push(format!("{count} settings change")),
    }
    let outcome = if delta.is_equal() { "equal" } else { "different" };
    if parts.is_empty() { outcome.to_owned() } else { format!("{outcome}: {}", parts.join(", ")) }
}

fn title(side: &Side) -> String {
    format!("{} {}", code(side.policy.name()), side.policy.serial())
}

/// Rows of one kind after the other, the verdicts first; those that differ in words only, by the
/// words.
fn kinds(changes: &[ReachChange]) -> impl Iterator<Item = &[ReachChange]> {
    changes.chunk_by(|one, other| {
        let label = one.change.label() == other.change.label();
        label && (!one.change.is_of_words() || one.change == other.change)
    })
}

/// What a whole kind of rows comes to, where a class that lets everything pass is on one side. The
/// rows would be those of the other side turned inside out.
fn in_short(change: &Change, scopes: (Scope, Scope)) -> Option<&'static str> {
    match (change, scopes) {
        (Change::Opens, (Scope::Listed, Scope::Everything)) => {
            Some("everything that did not pass before")
        }
        (Change::Closes, (Scope::Everything, Scope::Listed)) => {
            Some("everything that is not listed now")
        }
        _ => None,
    }
}

fn rows(page: &mut String, changes: &[ReachChange], scopes: (Scope, Scope), most: usize) {
    let mut words = false;
    for kind in kinds(changes) {
        let Some(first) = kind.first() else { continue };
        let label = first.change.label();
        let note = note(&first.change, Style::Text);
        if first.change.is_of_words() {
            if !words {
                line(page, "  same verdict, other rule:");
            }
            words = true;
            let hosts = names(kind, most, Style::Text);
            line(page, &format!("  {label:<11}{}: {hosts}", note.unwrap_or_default()));
            continue;
        }
        if let Some(short) = in_short(&first.change, scopes) {
            line(page, &format!("  {label:<11}{short}"));
            continue;
        }
        for row in kind.iter().take(most) {
            let (hosts, requests) = (hosts(&row.region, most, Style::Text), requests(&row.access));
            let note = self::note(&row.change, Style::Text);
            let note = note.map_or_else(String::new, |note| format!(": {note}"));
            line(page, &format!("  {label:<11}{hosts} [{requests}]{note}"));
        }
        more(page, "  ", kind.len(), most);
    }
}

fn table(page: &mut String, changes: &[ReachChange], scopes: (Scope, Scope), most: usize) {
    if changes.is_empty() {
        return line(page, "Nothing changes.");
    }
    line(page, "| change | hosts | requests | |\n|---|---|---|---|");
    for kind in kinds(changes) {
        let Some(first) = kind.first() else { continue };
        let label = first.change.label();
        let label =
            if first.change.is_of_verdict() { format!("**{label}**") } else { label.to_owned() };
        if first.change.is_of_words() {
            let hosts = names(kind, most, Style::Markdown);
            let note = note(&first.change, Style::Markdown).unwrap_or_default();
            line(page, &format!("| {label} | {hosts} | | {note} |"));
            continue;
        }
        if let Some(short) = in_short(&first.change, scopes) {
            line(page, &format!("| {label} | {short} | | |"));
            continue;
        }
        for row in kind.iter().take(most) {
            let hosts = hosts(&row.region, most, Style::Markdown);
            let requests = requests(&row.access);
            let note = note(&row.change, Style::Markdown).unwrap_or_default();
            line(page, &format!("| {label} | {hosts} | {requests} | {note} |"));
        }
        if let Some(left) = kind.len().checked_sub(most).filter(|left| *left > 0) {
            line(page, &format!("| | and {left} more | | |"));
        }
    }
}

/// The hosts of rows that are told together.
fn names(rows: &[ReachChange], most: usize, style: Style) -> String {
    let told: Vec<String> =
        rows.iter().take(most).map(|row| hosts(&row.region, most, style)).collect();
    match rows.len().checked_sub(most) {
        Some(left) if left > 0 => format!("{} and {left} more", told.join(", ")),
        Some(_) | None => told.join(", "),
    }
}

fn note(change: &Change, style: Style) -> Option<String> {
    let day = |day: &Option<jiff::civil::Date>| {
        day.map_or_else(|| "no end".to_owned(), |day| day.to_string())
    };
    let list = |ranges: &[Box<str>]| {
        if ranges.is_empty() { "public ones only".to_owned() } else { ranges.join(", ") }
    };
    match change {
        Change::Opens | Change::Closes | Change::Observed | Change::Listed => None,
        Change::Addresses { old, new } => Some(format!("{} -> {}", list(old), list(new))),
        Change::Until { old, new } => Some(format!("{} -> {}", day(old), day(new))),
        Change::Words(words) => {
            let (what, old, new) = match words {
                Words::HostSet { old, new } => {
                    ("host set ", style.set_off(old), style.set_off(new))
                }
                Words::Pattern { old, new } => ("", style.set_off(old), style.set_off(new)),
                Words::Reason { old, new } => {
                    let quoted = |reason: &Option<Box<str>>| match reason {
                        Some(reason) => style.set_off(&format!("{reason:?}")),
                        None => "none".to_owned(),
                    };
                    ("reason ", quoted(old), quoted(new))
                }
            };
            Some(format!("{what}{old} -> {new}"))
        }
    }
}

/// A region in words.
pub(in crate::cli) fn hosts(region: &Region, most: usize, style: Style) -> String {
    let words = |cover: &Cover| match cover {
        Cover::Everything => "every host".to_owned(),
        Cover::Exact(name) => style.set_off(name.as_str()),
        Cover::Below(name) => format!("everything below {}", style.set_off(name.as_str())),
        Cover::Both(name) => format!("{} and everything below it", style.set_off(name.as_str())),
        Cover::Suffix(name) => format!("every name ending in {}", style.set_off(name.as_str())),
    };
    let mut text = words(&region.cover);
    let except: Vec<String> = region.except.iter().take(most).map(words).collect();
    if !except.is_empty() {
        text.push_str(&format!(", except {}", except.join(", ")));
    }
    if let Some(left) = region.except.len().checked_sub(most).filter(|left| *left > 0) {
        text.push_str(&format!(" and {left} more"));
    }
    text
}

/// Channels and ports in words.
pub(in crate::cli) fn requests(access: &[Access]) -> String {
    access.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn ends(moved: &Move, style: Style) -> (String, String) {
    let name = |class: &Option<Box<str>>| match class {
        Some(class) => style.set_off(class),
        None => "no class".to_owned(),
    };
    (name(&moved.from), name(&moved.to))
}

fn who(group: &Group, most: usize, style: Style) -> String {
    let conditions: Vec<String> =
        group.conditions().iter().map(|it| condition(it, most, style)).collect();
    if conditions.is_empty() { "everybody".to_owned() } else { conditions.join("; ") }
}

fn condition(condition: &Condition, most: usize, style: Style) -> String {
    let Condition { key, within, values } = condition;
    let key = style.set_off(key);
    let listed: Vec<String> = values.iter().take(most).map(|value| style.set_off(value)).collect();
    let more = match values.len().checked_sub(most) {
        Some(left) if left > 0 => format!(" and {left} more"),
        Some(_) | None => String::new(),
    };
    match (within, values.is_empty()) {
        (true, true) => format!("{key} unknown"),
        (false, true) => format!("{key} known"),
        (true, false) => format!("{key} {}{more}", listed.join(", ")),
        (false, false) => format!("{key} not {}{more}", listed.join(", ")),
    }
}

fn more(page: &mut String, indent: &str, count: usize, most: usize) {
    if let Some(left) = count.checked_sub(most).filter(|left| *left > 0) {
        line(page, &format!("{indent}and {left} more"));
    }
}

fn line(page: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{text}");
}

fn code(text: &str) -> String {
    Style::Markdown.set_off(text)
}

impl Style {
    /// A name or a value as it was written. In Markdown it cannot end its cell or its code span.
    pub(in crate::cli) fn set_off(self, text: &str) -> String {
        match self {
            Self::Text => text.to_owned(),
            Self::Markdown => {
                let text = text.replace(['\r', '\n'], " ").replace('|', "\\|");
                let runs = text.split(|letter| letter != '`').map(str::len).max();
                match runs.unwrap_or_default() {
                    0 => format!("`{text}`"),
                    longest => {
                        let fence = "`".repeat(longest + 1);
                        format!("{fence} {text} {fence}")
                    }
                }
            }
        }
    }
}
