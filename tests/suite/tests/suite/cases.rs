//! The odd cases of a walled garden's resolver: each number has a test that cites it.

use std::{collections::BTreeMap, fs, path::Path};

use crate::repository::top;

#[test]
fn every_numbered_case_has_a_test() {
    let mut shown = BTreeMap::new();
    for folder in ["dns/src", "gateway/src", "policy/src", "tests/suite"] {
        collect(&top().join(folder), &mut shown);
    }
    for (case, tests) in &shown {
        println!("{case:2} {}", tests.join(" "));
    }
    let missing: Vec<_> = (1..=CASES).filter(|case| !shown.contains_key(case)).collect();
    assert!(missing.is_empty(), "cases without a test: {missing:?}");
    assert_eq!(shown.keys().next_back(), Some(&CASES));
}

/// Files every test of a Rust file below `folder` under the numbers its name cites.
fn collect(folder: &Path, shown: &mut BTreeMap<u8, Vec<String>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, shown);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for name in text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next()) {
                for case in cited(name) {
                    shown.entry(case).or_default().push(name.to_owned());
                }
            }
        }
    }
}

/// The numbers of `case_07_…` and `case_07_and_08_…`.
fn cited(name: &str) -> Vec<u8> {
    let Some(rest) = name.strip_prefix("case_") else { return Vec::new() };
    let words = rest.split('_').take_while(|word| *word == "and" || word.parse::<u8>().is_ok());
    words.filter_map(|word| word.parse().ok()).collect()
}

/// How many there are; `dns/src/tests/cases.rs` says what each group is about.
const CASES: u8 = 80;
