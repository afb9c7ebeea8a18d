//! The names that are asked for, and the policies that list some of them.

use std::fmt::Write as _;

use bench::Numbers;

/// The `number`th listed name.
pub(crate) const LISTED: fn(usize) -> String = |number| format!("www{number}.bench.example");

/// Names of the allowlist.
pub(crate) fn listed() -> Vec<String> {
    (0..101).map(LISTED).collect()
}

/// `count` names that no allowlist holds.
pub(crate) fn denied(count: usize, seed: u64) -> Vec<String> {
    let mut numbers = Numbers::new(seed);
    (0..count).map(|_| format!("h{:012x}.elsewhere.example", numbers.draw() >> 16)).collect()
}

/// A policy that lists `hosts`, and what it says in `[dns]`.
pub(crate) fn policy(serial: u64, terms: &str, hosts: impl Iterator<Item = String>) -> String {
    let mut text = format!(
        "schema = 1\nname = \"bench\"\nserial = {serial}\nenvironment = \"production\"\n\
         default_class = \"garden\"\n[dns]\n{terms}\n[[hostset]]\nname = \"bench\"\n\
         source = \"bench\"\nreviewed = 2026-08-22\n"
    );
    for host in hosts {
        write!(text, "[[hostset.host]]\nmatch = \"{host}\"\nschemes = [\"https\"]\n").unwrap();
    }
    text + "[[class]]\nname = \"garden\"\npriority = 100\naction = \"garden\"\n\
        hostsets = [\"bench\"]\n[[class.match]]\nnetworks = [\"127.0.0.0/8\"]\n"
}

/// A question with RD and an OPT record of 1,232 octets.
pub(crate) fn question(name: &str, id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01");
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(b"\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
    message
}
