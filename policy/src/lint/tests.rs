use jiff::civil::date;

use crate::{Source, compile};

const LEAST: &str = "schema = 1\nname = \"x\"\nserial = 1\nenvironment = \"lab\"\ndefault_class = \"c\"\n\
    [[class]]\nname = \"c\"\npriority = 1\naction = \"garden\"\n";

/// The codes of what is found about a garden that lists these entries beside revocation hosts.
fn codes(entries: &[&str]) -> Vec<&'static str> {
    let entries = entries.join("\n[[hostset.host]]\n");
    let text = format!(
        "{LEAST}hostsets = [\"s\", \"builtin:ms-pki-extra\"]\n[[hostset]]\nname = \"s\"\n\
         [[hostset.host]]\n{entries}"
    );
    let compiled = compile(&Source { name: "t", text: &text }, date(2026, 11, 23));
    let found = compiled.map_or_else(|found| found, |compiled| compiled.warnings);
    found.iter().map(|found| found.code).collect()
}

#[test]
fn entries_are_looked_at_one_by_one() {
    let https = |name: &str| format!("match = \"{name}\"\nschemes = [\"https\"]");
    for (name, expected) in [
        ("portal.example.com", &[][..]),
        ("*.pay.example.com", &[]),
        ("bücher.example", &[]),
        ("сайт.example.com", &[]),
        ("日本語ドメイン.example.com", &[]),
        ("a.cloudfront.net", &["PN0114"]),
        ("cloudfront.net.example.com", &[]),
        ("a.github.io", &[]),
        ("*.a.github.io", &["PN0115"]),
        ("cloudflare-ech.com", &["PN0116"]),
        (".cloudflare-ech.com", &["PN0116"]),
        ("dns.google", &["PN0117"]),
        (".quad9.net", &["PN0117"]),
        ("dns.quad9.net", &["PN0117"]),
        ("рaypal.example.com", &["PN0126"]),
        ("аррӏе.example.com", &["PN0126"]),
        ("xn--80ak6aa92e.example.com", &["PN0126"]),
        ("mps-staging.datamart.windows.com", &["PN0123"]),
        ("*.msftconnecttest.com", &[]),
    ] {
        assert_eq!(codes(&[&https(name)]), expected, "{name}");
    }
    let plain = "match = \"*.msftconnecttest.com\"\nschemes = [\"http\"]";
    assert_eq!(codes(&[plain]), ["PN0119"]);
    let named = "match = \"www.msftconnecttest.com\"\nschemes = [\"http\"]";
    let named6 = "match = \"ipv6.msftconnecttest.com\"\nschemes = [\"http\"]";
    assert_eq!(codes(&[plain, named, named6]), ["PN0111", "PN0111"]);
    let within = "match = \"*smart.example.com\"\nwithin = \"example.com\"\nschemes = [\"https\"]";
    assert_eq!(codes(&[within]), ["PN0113"]);
}

#[test]
fn entries_are_held_against_each_other() {
    let entry = |name: &str, rest: &str| format!("match = \"{name}\"\n{rest}");
    let (both, https) = ("schemes = [\"http\", \"https\"]", "schemes = [\"https\"]");
    for (one, other, expected) in [
        (entry(".a.example", https), entry("b.a.example", https), &["PN0111"][..]),
        (entry("*.a.example", https), entry("a.example", https), &[]),
        (entry("*.a.example", both), entry("b.a.example", https), &["PN0112"]),
        (entry("*.a.example", https), entry("b.a.example", both), &[]),
        (entry("a.example", both), entry("a.example", https), &["PN0111"]),
        (entry("a.example", https), entry("a.example", https), &["PN0105"]),
        (
            entry("*.a.example", "schemes = [\"https\"]\nexpires = 2027-06-01"),
            entry("b.a.example", https),
            &[],
        ),
        (
            entry("*.a.example", https),
            entry("b.a.example", "schemes = [\"https\"]\nexpires = 2027-06-01"),
            &["PN0111"],
        ),
        (
            entry("*.a.example", https),
            entry("b.a.example", "schemes = [\"https\"]\nports = [8443]"),
            &["PN0112"],
        ),
        (
            entry("*.a.example", https),
            entry("b.a.example", "schemes = [\"https\"]\nnetworks = [\"10.0.0.0/8\"]"),
            &[],
        ),
    ] {
        assert_eq!(codes(&[&one, &other]), expected, "{one} {other}");
    }
}
