use std::{fs, path::Path};

use jiff::civil::date;
use policy::{Source, compile};
use proptest::prelude::*;

use super::{MAX_DOCUMENT, Unformed, format};

#[test]
fn keys_are_ordered_and_aligned_and_comments_stay() {
    let text = "\u{feff}# head\r\nserial=1 # rises\r\nname = \"x\"\r\n\r\n\r\n  # schema\r\n  schema = 1\r\n\
        [[hostset]] # ours\r\nname=\"s\"\r\nhost = [ {schemes=[\"https\"],match=\"a.example\"} ]\r\n\r\n\r\n\
        [http]\r\ndenied = \"close\"\r\n# end\r\n";
    let expected = "# schema\nschema = 1\nname   = \"x\"\n# head\nserial = 1  # rises\n\n\
        [[hostset]]  # ours\nname = \"s\"\nhost = [{ schemes = [\"https\"], match = \"a.example\" }]\n\n\
        [http]\ndenied = \"close\"\n# end\n";
    assert_eq!(format(text).unwrap(), expected);
}

#[test]
fn long_lists_get_a_line_for_each_item() {
    let names: Vec<String> = (0..8).map(|at| format!("\"name-{at}.example.com\"")).collect();
    let page = format(&format!("a = [{}]\nb = [ 1,2 , 3 ]\n", names.join(","))).unwrap();
    assert_eq!(page.lines().count(), 11);
    assert!(page.ends_with("    \"name-7.example.com\",\n]\nb = [1, 2, 3]\n"), "{page}");
}

#[test]
fn what_is_not_toml_is_refused() {
    assert!(matches!(format("a = "), Err(Unformed::Syntax(_))));
    assert!(matches!(format(&" ".repeat(MAX_DOCUMENT + 1)), Err(Unformed::TooLong)));
}

#[test]
fn sample_policies_are_in_form() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config");
    for name in ["policy.toml", "policy.lab.toml", "policy.staging.toml"] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(format(&text).unwrap(), text, "{name}: postern fmt writes it anew");
    }
}

/// Every policy of the tests, good or bad, that is TOML.
#[test]
fn the_form_of_a_form_is_itself_and_means_the_same() {
    let mut formed = 0;
    for folder in ["tests/data/policies/good", "tests/data/policies/bad", "deploy/config"] {
        for entry in
            fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)).unwrap()
        {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml")
                && let Ok(text) = fs::read_to_string(&path)
                && let Ok(page) = format(&text)
            {
                assert_eq!(format(&page).unwrap(), page, "{path:?}");
                let comments = |text: &str| text.matches('#').count();
                assert_eq!(comments(&page), comments(&text), "{path:?}");
                assert_eq!(codes(&page), codes(&text), "{path:?}");
                formed += 1;
            }
        }
    }
    assert!(formed > 40, "{formed}");
}

fn codes(text: &str) -> Vec<&'static str> {
    let found = compile(&Source { name: "p", text }, date(2026, 11, 23));
    let found = found.map_or_else(|found| found, |compiled| compiled.warnings);
    let mut codes: Vec<_> = found.iter().map(|found| found.code).collect();
    codes.sort_unstable();
    // How often a thing is said hangs on the lines.
    codes.dedup();
    codes
}

fn piece() -> impl Strategy<Value = String> {
    let lines = prop::sample::select(vec![
        "\n",
        "\n\n",
        "  ",
        "# a comment\n",
        "  # another\n",
        "[[hostset]]\n",
        "[[hostset.host]]\n",
        "[[class]]\n",
        "[dns] # here\n",
        "[lab]\n",
        "\r\n",
        "[[class.match]]\n",
    ]);
    let key = prop::sample::select(vec![
        "a",
        "bcd",
        "name",
        "schema",
        "match",
        "schemes",
        "'quo ted'",
        "x.y",
        "serial",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "\"t\"",
        "[ 1,2 ]",
        "[\n1, # one\n 2]",
        "[\n1,\n 2,\n]",
        "{ b=1 ,c = [ ] }",
        "\"\"\"l\nm\"\"\"",
        "2026-01-01",
        "[[1],[ 2]]",
    ]);
    let comment = prop::sample::select(vec!["", " # behind", "   #far"]);
    prop_oneof![
        lines.prop_map(str::to_owned),
        (key, value, comment).prop_map(|(key, value, comment)| format!("{key}={value}{comment}\n")),
    ]
}

proptest! {
    #[test]
    fn any_text_keeps_its_meaning_and_its_form_is_stable(
        pieces in prop::collection::vec(piece(), 0..14),
    ) {
        let text = pieces.concat();
        if text.parse::<toml::Table>().is_ok() {
            let page = format(&text).unwrap();
            prop_assert_eq!(
                text.parse::<toml::Table>().unwrap(),
                page.parse::<toml::Table>().unwrap()
            );
            prop_assert_eq!(format(&page).unwrap(), page, "{}", text);
        }
    }
}
