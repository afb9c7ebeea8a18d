//! The naive reading: the document's text, read as an operator would, over and over.
//!
//! It shares nothing with the policy crate: no name, no table, no order but that of the document.

use std::net::IpAddr;

use toml::{Table, Value};

use super::sample::Ask;

/// A document as its tables stand.
pub(super) struct Reading(Table);

/// For whom something is asked.
#[derive(Clone, Debug)]
pub(super) enum Who {
    Class(String),
    Facts(Facts),
}

/// What is known of a subscriber, as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) address: Option<&'static str>,
    pub(super) iccid: Option<&'static str>,
    pub(super) imsi: Option<&'static str>,
    pub(super) apn: Option<&'static str>,
    pub(super) state: Option<&'static str>,
}

impl Reading {
    pub(super) fn of(text: &str) -> Self {
        Self(text.parse().unwrap())
    }

    /// The verdict, and the class it was given under.
    pub(super) fn decide(&self, ask: &Ask, now: &str) -> (&'static str, Option<String>) {
        let class = match &ask.who {
            Who::Class(name) => self.class(name),
            Who::Facts(facts) => self.class_of(facts),
        };
        let Some(class) = class else { return ("deny", None) };
        let listed = || self.lists(class, ask, &now[..10]);
        let verdict = match string(class, "action") {
            "open" => "allow",
            "drop" => "deny",
            "garden" => match probe(class, ask) {
                Some(verdict) => verdict,
                None => {
                    if listed() {
                        "allow"
                    } else {
                        "deny"
                    }
                }
            },
            "observe" => {
                if listed() {
                    "allow"
                } else {
                    "observe"
                }
            }
            action => panic!("{action}"),
        };
        (verdict, Some(string(class, "name").to_owned()))
    }

    fn class(&self, name: &str) -> Option<&Table> {
        tables(&self.0, "class").find(|class| string(class, "name") == name)
    }

    fn class_of(&self, facts: &Facts) -> Option<&Table> {
        let holding = tables(&self.0, "class")
            .filter(|class| tables(class, "match").any(|entry| holds(entry, facts)));
        holding
            .min_by_key(|class| class["priority"].as_integer().unwrap())
            .or_else(|| self.class(string(&self.0, "default_class")))
    }

    /// Whether the host sets of the class list the request on this day.
    fn lists(&self, class: &Table, ask: &Ask, today: &str) -> bool {
        let channel = ask.channel.label();
        if channel == "quic" || channel == "tcp" {
            return false;
        }
        let host = &*host(ask);
        let mut entries: Vec<&Table> = Vec::new();
        for name in strings(class, "hostsets") {
            for set in tables(&self.0, "hostset").filter(|set| string(set, "name") == name) {
                entries.extend(tables(set, "host").filter(|entry| matches(entry, host)));
            }
        }
        // An entry that has ended is as good as not there.
        entries.retain(|entry| entry.get("expires").is_none_or(|day| *day.to_string() >= *today));
        // Of the entries left the most specific ones speak, and no others.
        let Some(best) = entries.iter().map(|entry| rank(entry)).max() else { return false };
        entries.into_iter().filter(|entry| rank(entry) == best).any(|entry| {
            channel == "dns"
                || strings(entry, "schemes").any(|scheme| scheme == channel)
                    && match entry.get("ports").and_then(Value::as_array) {
                        Some(ports) => {
                            ports.iter().any(|port| port.as_integer() == Some(i64::from(ask.port)))
                        }
                        None => ask.port == if channel == "http" { 80 } else { 443 },
                    }
        })
    }
}

/// What the class does with a connectivity probe, if that is not what it does with any name.
fn probe(class: &Table, ask: &Ask) -> Option<&'static str> {
    let (web, dns, former) = match &*host(ask) {
        "www.msftncsi.com" => (true, false, false),
        "dns.msftncsi.com" => (false, true, false),
        "msftncsi.com" => (false, false, true),
        _ => (false, false, false),
    };
    match (class.get("ncsi").and_then(Value::as_str), ask.channel.label()) {
        (Some("deny"), _) => (web || dns || former).then_some("deny"),
        (Some("answer"), "dns") => (web || dns).then_some("allow"),
        (Some("answer"), "http") => web.then_some("allow"),
        (Some("redirect"), "dns") => web.then_some("allow"),
        (Some("redirect"), "http") => web.then_some("deny"),
        _ => None,
    }
}

fn host(ask: &Ask) -> String {
    let host = ask.host.to_ascii_lowercase();
    host.strip_suffix('.').unwrap_or(&host).to_owned()
}

/// Shape and fixed text of an entry: 3 exact, 2 below, 1 both, 0 suffix.
fn shape(entry: &Table) -> (u8, String) {
    let written = string(entry, "match").to_ascii_lowercase();
    for (sign, shape) in [("*.", 2), (".", 1), ("*", 0)] {
        if let Some(rest) = written.strip_prefix(sign) {
            return (shape, rest.to_owned());
        }
    }
    (3, written)
}

fn rank(entry: &Table) -> (usize, u8) {
    let (shape, base) = shape(entry);
    (base.len(), shape)
}

fn matches(entry: &Table, host: &str) -> bool {
    let (shape, base) = shape(entry);
    let host: Vec<&str> = host.split('.').rev().collect();
    let base: Vec<&str> = base.split('.').rev().collect();
    let below = host.len() > base.len() && host[..base.len()] == base;
    match shape {
        3 => host == base,
        2 => below,
        1 => host == base || below,
        _ => {
            let (end, rest) = base.split_last().unwrap();
            host.len() >= base.len()
                && host[..rest.len()] == *rest
                && host[rest.len()].ends_with(end)
        }
    }
}

fn holds(entry: &Table, facts: &Facts) -> bool {
    let range = |key, fact: Option<&str>| {
        entry.get(key).is_none()
            || fact.is_some_and(|fact| {
                strings(entry, key).any(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    fact.len() == first.len() && first <= fact && fact <= last
                })
            })
    };
    let word = |key, fact: Option<&str>| {
        entry.get(key).is_none()
            || fact.is_some_and(|fact| {
                strings(entry, key).any(|listed| listed.eq_ignore_ascii_case(fact))
            })
    };
    let network = entry.get("networks").is_none()
        || facts.address.is_some_and(|address| {
            strings(entry, "networks").any(|network| lies_in(address, network))
        });
    network
        && range("iccid", facts.iccid)
        && range("imsi", facts.imsi)
        && word("apn", facts.apn)
        && word("state", facts.state)
}

/// Compares the leading bits, written out.
fn lies_in(address: &str, network: &str) -> bool {
    let (network, prefix) = network.split_once('/').unwrap();
    let prefix: usize = prefix.parse().unwrap();
    let bits = |text: &str| match text.parse::<IpAddr>().unwrap().to_canonical() {
        IpAddr::V4(address) => format!("{:032b}", u32::from(address)),
        IpAddr::V6(address) => format!("{:0128b}", u128::from(address)),
    };
    let (address, network) = (bits(address), bits(network));
    address.len() == network.len() && address[..prefix] == network[..prefix]
}

fn tables<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t Table> {
    let list = table.get(key).and_then(Value::as_array);
    list.into_iter().flatten().map(|value| value.as_table().unwrap())
}

fn strings<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t str> {
    let list = table.get(key).and_then(Value::as_array);
    list.into_iter().flatten().map(|value| value.as_str().unwrap())
}

fn string<'t>(table: &'t Table, key: &str) -> &'t str {
    table[key].as_str().unwrap()
}
