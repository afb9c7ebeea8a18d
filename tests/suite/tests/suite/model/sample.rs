//! Documents and requests by seed, over an alphabet so small that everything meets everything.

use std::fmt::Write;

use policy::Channel;

use super::naive::{Facts, Who};

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) who: Who,
    pub(super) channel: Channel,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Chance by SplitMix64: the same numbers for the same seed, everywhere.
pub(super) struct Dice(u64);

#[derive(Clone)]
struct Entry {
    pattern: String,
    schemes: &'static str,
    ports: &'static str,
    expires: &'static str,
}

#[derive(Clone)]
struct Class {
    name: &'static str,
    priority: u64,
    action: &'static str,
    ncsi: &'static str,
    sets: Vec<usize>,
    matches: Vec<Vec<&'static str>>,
}

#[derive(Clone)]
struct Document {
    sets: Vec<Vec<Entry>>,
    classes: Vec<Class>,
    default: usize,
}

/// Two documents, the second made from the first by a few edits, and a time.
pub(super) fn documents(dice: &mut Dice) -> (String, String, &'static str) {
    let old = document(dice);
    let mut new = old.clone();
    for _ in 0..dice.below(6) {
        edit(&mut new, dice);
    }
    let now = *dice.pick(&["2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z", "2027-01-01T12:00:00Z"]);
    (old.text(), new.text(), now)
}

/// A request that is likely to meet an entry, or to miss one by little.
pub(super) fn asks(dice: &mut Dice) -> Ask {
    let who = if dice.one_in(3) {
        Who::Class((*dice.pick(&["one", "two", "three", "rest", "nobody"])).to_owned())
    } else {
        Who::Facts(Facts {
            address: dice.maybe(&[
                "10.0.0.1",
                "10.1.2.3",
                "10.1.255.255",
                "11.0.0.0",
                "192.0.2.7",
                "2001:db8::1",
                "2001:db8:1::",
                "::1",
                "::ffff:10.1.2.3",
            ]),
            iccid: dice.maybe(&[
                "8988247000100000000",
                "8988247000150000000",
                "8988247000200000000",
                "89882470001500000000",
            ]),
            imsi: dice.maybe(&["001010000000001", "001010000000005", "001010000000006"]),
            apn: dice.maybe(&["one", "TWO", "three"]),
            state: dice.maybe(&["active", "barred", "exhausted", "unprovisioned"]),
        })
    };
    let mut host = name(dice, 4);
    if dice.one_in(8) {
        host = host.to_ascii_uppercase();
    }
    if dice.one_in(8) {
        host.push('.');
    }
    let channel = *dice.pick(&[
        Channel::Dns,
        Channel::Http,
        Channel::Http,
        Channel::Https,
        Channel::Https,
        Channel::Quic,
        Channel::Tcp,
    ]);
    Ask { who, channel, host, port: *dice.pick(&[80, 80, 443, 443, 8443, 22]) }
}

const LABELS: [&str; 6] = ["a", "b", "ab", "ba", "bab", "x"];
const DOMAINS: [&str; 4] = ["a.test", "ab.test", "msftncsi.com", "b.a.test"];

fn name(dice: &mut Dice, most: u64) -> String {
    let mut name = (*dice.pick(&DOMAINS)).to_owned();
    for _ in 0..dice.below(most) {
        name = format!("{}.{name}", dice.pick(&LABELS));
    }
    if name == "msftncsi.com" {
        format!("{}{name}", dice.pick(&["", "www.", "dns."]))
    } else {
        name
    }
}

fn entry(dice: &mut Dice) -> Entry {
    let sign = *dice.pick(&["", "", "*.", ".", "*"]);
    let mut name = name(dice, 3);
    if sign == "*" && name.split('.').count() < 3 {
        name = format!("{}.{name}", dice.pick(&LABELS));
    }
    let schemes = *dice.pick(&["\"http\"", "\"https\"", "\"http\", \"https\""]);
    // Ports belong to one scheme.
    let ports =
        if schemes.contains(',') { "" } else { *dice.pick(&["", "443", "80, 8443", "8443"]) };
    let expires = *dice.pick(&["", "", "2026-11-22", "2026-11-23", "2027-01-01"]);
    Entry { pattern: format!("{sign}{name}"), schemes, ports, expires }
}

fn entries(dice: &mut Dice) -> Vec<Entry> {
    (0..=dice.below(6)).map(|_| entry(dice)).collect()
}

fn matching(dice: &mut Dice) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for facts in [
        &[
            "networks = [\"10.0.0.0/8\"]",
            "networks = [\"10.1.0.0/16\", \"2001:db8::/48\"]",
            "networks = [\"2001:db8::/32\", \"192.0.2.7/32\"]",
            "networks = [\"::/0\"]",
        ][..],
        &[
            "iccid = [\"8988247000100000000-8988247000199999999\"]",
            "iccid = [\"8988247000150000000\", \"8988247000200000000-8988247000200000099\"]",
        ],
        &["imsi = [\"001010000000001-001010000000005\"]"],
        &["apn = [\"one\", \"two\"]", "apn = [\"Three\"]"],
        &["state = [\"active\"]", "state = [\"barred\", \"exhausted\"]"],
    ] {
        if dice.one_in(4) {
            keys.push(*dice.pick(facts));
        }
    }
    if keys.is_empty() { vec!["state = [\"active\"]"] } else { keys }
}

fn class(dice: &mut Dice, name: &'static str, priority: u64, sets: usize) -> Class {
    let action = *dice.pick(&["garden", "garden", "garden", "observe", "open", "drop"]);
    let ncsi = *dice.pick(&["pass", "deny", "answer", "redirect"]);
    let sets = (0..sets).filter(|_| !dice.one_in(3)).collect();
    let matches = (0..=dice.below(2)).map(|_| matching(dice)).collect();
    Class { name, priority, action, ncsi, sets, matches }
}

fn document(dice: &mut Dice) -> Document {
    let sets: Vec<Vec<Entry>> = (0..=dice.below(2)).map(|_| entries(dice)).collect();
    let mut classes = Vec::new();
    for (name, priority) in ["one", "two", "three"].into_iter().zip(1..) {
        if !dice.one_in(5) {
            classes.push(class(dice, name, priority * 10, sets.len()));
        }
    }
    let mut rest = class(dice, "rest", 90, sets.len());
    rest.action = "garden";
    classes.push(rest);
    let default = classes.len() - 1;
    Document { sets, classes, default }
}

fn edit(document: &mut Document, dice: &mut Dice) {
    let Document { sets, classes, default } = document;
    let set_count = sets.len();
    let set = dice.index(set_count);
    let at = dice.index(sets[set].len());
    let which = dice.index(classes.len());
    match dice.below(12) {
        0..=2 => sets[set].push(entry(dice)),
        3 => sets[set][at] = entry(dice),
        4 => sets[set][at].expires = "",
        5 if sets[set].len() > 1 => {
            sets[set].remove(at);
        }
        6 => sets[set][at].schemes = "\"https\"",
        7 => classes[which].ncsi = *dice.pick(&["pass", "deny", "answer", "redirect"]),
        8 if which != *default => {
            classes[which].action = *dice.pick(&["garden", "observe", "open", "drop"]);
        }
        9 => classes[which].matches.push(matching(dice)),
        10 if which != *default => {
            classes.remove(which);
            *default -= 1;
        }
        11 => {
            let priority = 100 + dice.below(1_000_000) * 10 + which as u64;
            classes[which].priority = priority;
        }
        _ => classes[which].sets = (0..set_count).collect(),
    }
}

impl Document {
    fn text(&self) -> String {
        let default = self.classes[self.default].name;
        let mut text = format!(
            "schema = 1\nname = \"model\"\nserial = 1\nenvironment = \"lab\"\n\
             default_class = \"{default}\"\nhttp.portal = \"http://portal.a.test/\"\n"
        );
        for (index, entries) in self.sets.iter().enumerate() {
            let _ = write!(text, "[[hostset]]\nname = \"set-{index}\"\n");
            for Entry { pattern, schemes, ports, expires } in entries {
                let _ = write!(
                    text,
                    "[[hostset.host]]\nmatch = \"{pattern}\"\nschemes = [{schemes}]\n"
                );
                if pattern.starts_with('*') && !pattern.starts_with("*.") {
                    let _ = writeln!(text, "within = \"{}\"", pattern.split_once('.').unwrap().1);
                }
                for (key, value) in
                    [("ports", format!("[{ports}]")), ("expires", (*expires).into())]
                {
                    if !value.is_empty()
                        && value != "[]"
                        && !(key == "ports" && schemes.contains(','))
                    {
                        let _ = writeln!(text, "{key} = {value}");
                    }
                }
            }
        }
        for Class { name, priority, action, ncsi, sets, matches } in &self.classes {
            let sets: Vec<String> = sets.iter().map(|set| format!("\"set-{set}\"")).collect();
            let _ = write!(
                text,
                "[[class]]\nname = \"{name}\"\npriority = {priority}\naction = \"{action}\"\n\
                 ncsi = \"{ncsi}\"\n"
            );
            if !sets.is_empty() {
                let _ = writeln!(text, "hostsets = [{}]", sets.join(", "));
            }
            for keys in matches {
                let _ = write!(text, "[[class.match]]\n{}\n", keys.join("\n"));
            }
        }
        text
    }
}

impl Dice {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.0 = dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is small.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    fn maybe(&mut self, from: &[&'static str]) -> Option<&'static str> {
        if self.one_in(3) { None } else { Some(*self.pick(from)) }
    }
}
