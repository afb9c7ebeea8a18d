use jiff::civil::date;

use super::*;
use crate::builtin::find;

const TABLES: [&str; 6] = [
    "mobile-plans@2017-11-13",
    "mobile-plans@2018-01-05",
    "mobile-plans@2018-11-02",
    "mobile-plans@2019-04-03",
    "mobile-plans@2023-12-12a",
    "mobile-plans@2023-12-12",
];

// Rows that came and went together, read off the published pages.
const DIGICERT: &str = "crl3.digicert.com http 80|ocsp.digicert.com http 80";
const NCSI: &str = "msftncsi.com http 80";
const CONNECT: &str = "msftconnecttest.com http 80";
const WWW: &str = "www.msftconnecttest.com http 80";
const PLANS: &str = "mps.datamart.windows.com http 80; https 443|\
                     staging.datamart.windows.com http 80; https 443";
const SERVICES: &str = "mps-service.datamart.windows.com http 80; https 443|\
                        mps-staging.datamart.windows.com http 80; https 443";
const FIRST: &str = "dogfood.datamart.windows.com https 443|\
                     service.datamart.windows.com https 443|windows.policies.live.net https 443";
const SCREEN: &str = "*smartscreen.microsoft.com https 443";

/// Table in force, table it is held against, rows missing, rows extra.
type Pair = (usize, usize, &'static [&'static str], &'static [&'static str]);

const PAIRS: [Pair; 15] = [
    (0, 1, &[DIGICERT], &[]),
    (0, 2, &[DIGICERT, PLANS, SERVICES], &[NCSI]),
    (0, 3, &[WWW, DIGICERT, PLANS, SERVICES], &[NCSI, CONNECT]),
    (0, 4, &[WWW, DIGICERT, PLANS], &[FIRST, NCSI, CONNECT]),
    (0, 5, &[WWW, DIGICERT, PLANS, SCREEN], &[FIRST, NCSI, CONNECT]),
    (1, 2, &[PLANS, SERVICES], &[NCSI]),
    (1, 3, &[WWW, PLANS, SERVICES], &[NCSI, CONNECT]),
    (1, 4, &[WWW, PLANS], &[FIRST, NCSI, CONNECT]),
    (1, 5, &[WWW, PLANS, SCREEN], &[FIRST, NCSI, CONNECT]),
    (2, 3, &[WWW], &[CONNECT]),
    (2, 4, &[WWW], &[FIRST, CONNECT, SERVICES]),
    (2, 5, &[WWW, SCREEN], &[FIRST, CONNECT, SERVICES]),
    (3, 4, &[], &[FIRST, SERVICES]),
    (3, 5, &[SCREEN], &[FIRST, SERVICES]),
    (4, 5, &[SCREEN], &[]),
];

fn expected(rows: &[&str]) -> Vec<String> {
    let mut rows: Vec<String> =
        rows.iter().flat_map(|rows| rows.split('|')).map(str::to_owned).collect();
    rows.sort();
    rows
}

fn told(rows: &[DriftRow], access: fn(&DriftRow) -> &[Access]) -> Vec<String> {
    let line = |row: &DriftRow| {
        assert_eq!(row.region.except, []);
        let access: Vec<String> = access(row).iter().map(ToString::to_string).collect();
        format!("{} {}", row.region.cover.pattern(), access.join("; "))
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn each_pair_of_published_tables_differs_as_printed() {
    for (one, other, missing, extra) in PAIRS {
        let table = |index: usize| find(TABLES[index]).unwrap();
        for (force, against, missing, extra) in
            [(one, other, missing, extra), (other, one, extra, missing)]
        {
            let drift = drift_sets(&table(force), &table(against)).unwrap();
            let pair = (TABLES[force], TABLES[against]);
            assert_eq!(told(&drift.missing, |row| &row.published), expected(missing), "{pair:?}");
            assert_eq!(told(&drift.extra, |row| &row.allowed), expected(extra), "{pair:?}");
            // No host ever changed its schemes.
            assert_eq!(drift.changed, [], "{pair:?}");
        }
    }
}

#[test]
fn every_table_equals_itself() {
    for set in builtin::all().iter().filter(|set| !set.is_template()) {
        assert!(drift_sets(set, set).unwrap().is_equal(), "{}", set.name());
    }
    let set = find("ts43-entitlement(001,01)").unwrap();
    assert!(drift_sets(&set, &set).unwrap().is_equal());
    let template = find("ts43-entitlement").unwrap();
    let error = drift_sets(&template, &set).unwrap_err();
    assert!(matches!(error, InvalidDrift::Builtin(_)), "{error}");
}

#[test]
fn a_class_is_held_against_a_table_by_verdict() {
    let text = "schema = 1\nname = \"p\"\nserial = 1\nenvironment = \"production\"\n\
        default_class = \"garden\"\n[[class]]\nname = \"garden\"\npriority = 1\naction = \"garden\"\n\
        hostsets = [\"ours\", \"builtin:ms-pki-extra\"]\n[[hostset]]\nname = \"ours\"\n\
        [[hostset.host]]\nmatch = \"login.live.com\"\nschemes = [\"https\"]\n\
        [[hostset.host]]\nmatch = \".smartscreen.microsoft.com\"\nschemes = [\"https\"]\n\
        [[hostset.host]]\nmatch = \"crl.microsoft.com\"\nschemes = [\"http\"]\nexpires = 2020-01-01\n";
    let day = date(2026, 11, 23);
    let policy = compile(&Source { name: "p.toml", text }, day).unwrap().policy;
    let now = "2026-11-23T00:00:00Z".parse().unwrap();
    let drift = drift(&policy, "garden", &find("mobile-plans").unwrap(), now).unwrap();
    let changed = told(&drift.changed, |row| &row.published);
    assert_eq!(changed, ["login.live.com http 80; https 443"]);
    assert_eq!(told(&drift.changed, |row| &row.allowed), ["login.live.com https 443"]);
    let screen =
        drift.missing.iter().find(|row| row.region.cover.pattern().starts_with('*')).unwrap();
    let except: Vec<String> = screen.region.except.iter().map(crate::Cover::pattern).collect();
    assert_eq!(screen.region.cover.pattern(), "*smartscreen.microsoft.com");
    assert_eq!(except, [".smartscreen.microsoft.com"]);
    let crl = |row: &DriftRow| row.region.cover.pattern() == "crl.microsoft.com";
    assert!(drift.missing.iter().any(crl), "an entry that has ended is missing");
    assert!(!drift.extra.is_empty());
    let error = super::drift(&policy, "nobody", &find("mobile-plans").unwrap(), now).unwrap_err();
    assert_eq!(error.to_string(), "no class `nobody`");
}
