use jiff::civil::{Date, date};

use super::{Compiled, Source, compile};
use crate::diagnostic::Diagnostic;

const TODAY: Date = date(2026, 11, 23);

const SAMPLE: &str = include_str!("../../../tests/data/policies/good/acme-mobile.toml");

fn compiled(text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    compile(&Source { name: "policy.toml", text }, TODAY)
}

#[test]
fn compiles_the_sample() {
    let Compiled { policy, warnings } = compiled(SAMPLE).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((policy.name(), policy.serial()), ("acme-mobile", 42));
}
