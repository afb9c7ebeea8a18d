//! Explanations of verdicts, for people and for programs.

use std::fmt::Write;

use policy::{ClassChoice, Explanation, NearMiss, Nearness, Rule, Target, Verdict, Weighed};
use serde_json::{Value, json};

/// An explanation for programs.
pub(crate) fn explanation(target: &Target, explanation: &Explanation<'_>) -> Value {
    let decision = explanation.decision();
    json!({
        "target": target.as_str(),
        "protocol": target.protocol(),
        "verdict": decision.verdict().label(),
        "reason": decision.reason().label(),
        "class": decision.class().map(|class| json!({
            "name": class.name(),
            "action": class.action().label(),
            "place": class.place().to_string(),
            "choice": choice(explanation.choice()),
        })),
        "rule": decision.rule().map(rule),
        "weighed": explanation.weighed().iter().map(weighed).collect::<Vec<_>>(),
        "nearest": explanation.misses().iter().map(miss).collect::<Vec<_>>(),
    })
}

/// An explanation for people: the verdict on the first line, its grounds below.
pub(crate) fn explanation_text(target: &Target, explanation: &Explanation<'_>) -> String {
    let decision = explanation.decision();
    let mut page = format!("{:<8}{target}\n", decision.verdict().label());
    line(&mut page, "reason", decision.reason().label());
    match decision.rule() {
        Some(rule) => line(&mut page, "rule", &rule_text(rule)),
        None => line(&mut page, "rule", "none"),
    }
    match decision.class() {
        Some(class) => {
            let (name, action) = (class.name(), class.action().label());
            let why = choice_text(explanation.choice());
            line(&mut page, "class", &format!("{name} ({action}) at {}: {why}", class.place()));
        }
        None => line(&mut page, "class", choice_text(explanation.choice()).as_str()),
    }
    for weighed in explanation.weighed().iter().filter(|weighed| !weighed.decisive) {
        line(&mut page, "also", &format!("{}: {}", rule_text(weighed.rule), weighed.reason));
    }
    for miss in explanation.misses() {
        let how = match miss.nearness {
            Nearness::Spelling { edits: 1 } => "1 letter apart".to_owned(),
            Nearness::Spelling { edits } => format!("{edits} letters apart"),
            Nearness::Related => "above or below the host".to_owned(),
            Nearness::SameDomain => "same registered domain".to_owned(),
        };
        line(&mut page, "near", &format!("{}: {how}", rule_text(miss.rule)));
    }
    if decision.verdict() == Verdict::Observe {
        line(&mut page, "note", "the class only observes: the request passes");
    }
    page
}

fn line(page: &mut String, key: &str, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "  {key:<8}{text}");
}

fn choice_text(choice: ClassChoice<'_>) -> String {
    match choice {
        ClassChoice::Asked => "asked for by name".to_owned(),
        ClassChoice::Matched { number, entry } => {
            let keys: Vec<&str> = entry.keys().collect();
            format!("match entry {number} in line {} holds ({})", entry.line(), keys.join(", "))
        }
        ClassChoice::Default => "no class matches, and this is the default".to_owned(),
        ClassChoice::Nothing => "no class matches, and there is no default".to_owned(),
    }
}

fn rule_text(rule: &Rule) -> String {
    let schemes: Vec<String> = rule
        .schemes()
        .iter()
        .map(|scheme| {
            let ports: Vec<String> = rule.ports(*scheme).map(|port| port.to_string()).collect();
            format!("{scheme} {}", ports.join(","))
        })
        .collect();
    let (pattern, schemes, place) = (rule.pattern(), schemes.join(", "), rule.place());
    if *place.file == *rule.hostset() {
        format!("{pattern} [{schemes}] at {place}")
    } else {
        format!("{pattern} [{schemes}] in {} at {place}", rule.hostset())
    }
}

fn choice(choice: ClassChoice<'_>) -> Value {
    match choice {
        ClassChoice::Matched { number, entry } => json!({
            "kind": choice.label(),
            "entry": number,
            "line": entry.line(),
            "keys": entry.keys().collect::<Vec<_>>(),
        }),
        ClassChoice::Asked | ClassChoice::Default | ClassChoice::Nothing => {
            json!({ "kind": choice.label() })
        }
    }
}

fn rule(rule: &Rule) -> Value {
    json!({
        "match": rule.pattern().to_string(),
        "schemes": rule.schemes().iter().map(|scheme| scheme.label()).collect::<Vec<_>>(),
        "ports": ports(rule),
        "hostset": rule.hostset(),
        "file": *rule.place().file,
        "line": rule.place().line,
        "expires": rule.expires().map(|day| day.to_string()),
        "reason": rule.reason(),
    })
}

fn ports(rule: &Rule) -> Vec<u16> {
    let mut ports: Vec<u16> =
        rule.schemes().iter().flat_map(|scheme| rule.ports(*scheme)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn weighed(weighed: &Weighed<'_>) -> Value {
    json!({
        "rule": rule(weighed.rule),
        "reason": weighed.reason.label(),
        "decisive": weighed.decisive,
    })
}

fn miss(miss: &NearMiss<'_>) -> Value {
    let edits = match miss.nearness {
        Nearness::Spelling { edits } => Some(edits),
        Nearness::Related | Nearness::SameDomain => None,
    };
    json!({ "rule": rule(miss.rule), "nearness": miss.nearness.label(), "edits": edits })
}
