//! When one policy decides otherwise than before, without being changed.

use jiff::{Timestamp, ToSpan, tz::Offset};

use crate::{
    class::{Action, Class},
    policy::Policy,
    rule::Rule,
};

impl Policy {
    /// The first moment after `now` at which a verdict may be another: a window of a schedule opens
    /// or closes, the last day of an entry is over, an emergency ends.
    #[must_use]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let rules = self.rules.iter().flat_map(Rule::changes);
        let emergencies = self.classes.iter().filter_map(|class| class.opened);
        rules.chain(emergencies).filter(|moment| now < *moment).min()
    }

    /// Opens in an emergency the classes for whose name `end` gives one, and no others, whatever
    /// the document says of them; see [`Class::may_be_opened`].
    pub fn open_classes(&mut self, end: impl Fn(&str) -> Option<Timestamp>) {
        for class in &mut self.classes {
            class.opened = if class.may_be_opened() { end(&class.name) } else { None };
        }
    }
}

impl Class {
    /// Whether an emergency can open the class: its host sets are what keeps its subscribers in.
    /// One that is barred stays so.
    #[must_use]
    pub fn may_be_opened(&self) -> bool {
        match self.action {
            Action::Garden | Action::Observe => true,
            Action::Drop | Action::Open => false,
        }
    }
}

impl Rule {
    /// The moments at which the entry begins to hold or ceases to.
    fn changes(&self) -> impl Iterator<Item = Timestamp> {
        let over = self.expires.and_then(|last| {
            let next = last.checked_add(1.day()).ok()?;
            Offset::UTC.to_timestamp(next.at(0, 0, 0, 0)).ok()
        });
        let window = self.window().map(|window| [window.from(), window.until()]);
        over.into_iter().chain(window.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use crate::{HostName, Policy, Request, Source, Subject, Verdict, compile, decide};

    use super::*;

    fn policy() -> Policy {
        let text = r#"
schema = 1
name = "t"
serial = 1
environment = "lab"
default_class = "walled"
[[hostset]]
name = "ours"
[[hostset.host]]
match = "ends.example.com"
schemes = ["https"]
expires = 2026-01-31
[[hostset]]
name = "more"
[[hostset.host]]
match = "window.example.com"
schemes = ["https"]
[[schedule]]
name = "maintenance"
from = 2026-01-10T01:00:00Z
until = 2026-01-10T03:00:00Z
hostsets = ["more"]
[[class]]
name = "barred"
priority = 1
action = "drop"
[[class.match]]
networks = ["192.0.2.0/24"]
[[class]]
name = "walled"
priority = 100
action = "garden"
hostsets = ["ours"]
"#;
        compile(&Source { name: "t", text }, jiff::civil::date(2026, 1, 1)).unwrap().policy
    }

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn verdicts_change_at_the_next_change_and_not_before() {
        let policy = policy();
        let verdicts = |now| {
            ["ends.example.com", "window.example.com"].map(|host| {
                let host = &HostName::parse(host).unwrap();
                let request = Request::Https { host, port: 443 };
                decide(&policy, Subject::Class("walled"), request, now).verdict()
            })
        };
        let mut now = moment("2026-01-05T00:00:00Z");
        for (expected, before, after) in [
            ("2026-01-10T01:00:00Z", [Verdict::Allow, Verdict::Deny], [Verdict::Allow; 2]),
            ("2026-01-10T03:00:00Z", [Verdict::Allow; 2], [Verdict::Allow, Verdict::Deny]),
            ("2026-02-01T00:00:00Z", [Verdict::Allow, Verdict::Deny], [Verdict::Deny; 2]),
        ] {
            let next = policy.next_change(now).unwrap();
            assert_eq!(next, moment(expected));
            assert_eq!(verdicts(next - 1.nanosecond()), before, "{expected}");
            assert_eq!(verdicts(next), after, "{expected}");
            now = next;
        }
        assert_eq!(policy.next_change(now), None);
    }

    #[test]
    fn an_emergency_opens_one_class_until_its_end() {
        let mut policy = policy();
        let (before, end) = (moment("2026-02-02T12:00:00Z"), moment("2026-02-02T12:30:00Z"));
        policy.open_classes(|_| Some(end));
        let host = &HostName::parse("www.bing.com").unwrap();
        let ask = |now| {
            let request = Request::Https { host, port: 443 };
            decide(&policy, Subject::Class("walled"), request, now).verdict()
        };
        assert_eq!(policy.next_change(before), Some(end));
        assert_eq!((ask(before), ask(end)), (Verdict::Allow, Verdict::Deny));
        let ranges = policy.territory(Action::Open);
        // The barred network is not among them.
        let barred: std::net::IpAddr = "192.0.2.1".parse().unwrap();
        let inside = |range: &&crate::AddressRange| {
            range.first.is_ipv4() && (range.first..=range.last).contains(&barred)
        };
        assert!(!ranges.is_empty() && ranges.iter().find(inside).is_none());
        policy.open_classes(|_| None);
        assert!(policy.territory(Action::Open).is_empty());
    }
}
