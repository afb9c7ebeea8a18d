use serde_json::{Value, json};

use super::*;

fn printed(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut page = Vec::new();
    write(&mut page).unwrap();
    String::from_utf8(page).unwrap()
}

#[test]
fn the_current_table_is_shown_as_published() {
    let set = builtin::find("mobile-plans").unwrap();
    let page: Value = serde_json::from_str(&printed(|out| show(&set, Format::Json, out))).unwrap();
    let rows: Vec<Value> = page["hostset"]["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["match"], row["schemes"], row["ports"]]))
        .collect();
    let http = |host| json!([host, ["http"], [80]]);
    let both = |host| json!([host, ["http", "https"], [80, 443]]);
    let expected = [
        http("ctldl.windowsupdate.com"),
        http("www.msftconnecttest.com"),
        both("login.live.com"),
        both("storagetos.datamart.windows.com"),
        http("cdp1.public-trust.com"),
        http("ocsp.omniroot.com"),
        http("vassg142.ocsp.omniroot.com"),
        http("vassg142.crl.omniroot.com"),
        http("mscrl.microsoft.com"),
        http("crl.microsoft.com"),
        http("crl3.digicert.com"),
        http("Ocsp.digicert.com"),
        both("mps.datamart.windows.com"),
        both("staging.datamart.windows.com"),
        json!(["*smartscreen.microsoft.com", ["https"], [443]]),
    ];
    assert_eq!(rows, expected);
    assert_eq!((&page["format_version"], &page["outcome"]), (&json!(1), &json!("fine")));
}

#[test]
fn every_set_is_listed_and_shown() {
    let text = printed(|out| list(Format::Text, out));
    let page: Value = serde_json::from_str(&printed(|out| list(Format::Json, out))).unwrap();
    assert_eq!(text.lines().count(), builtin::all().len());
    assert_eq!(page["hostsets"].as_array().unwrap().len(), builtin::all().len());
    for set in builtin::all() {
        assert!(text.contains(set.name()));
        let shown = printed(|out| show(set, Format::Text, out));
        assert!(set.entries().iter().all(|entry| shown.contains(entry.printed())), "{shown}");
    }
}

#[test]
fn every_set_is_exported_as_text_that_compiles_to_the_same_rows() {
    for set in builtin::all() {
        let set = if set.is_template() {
            let name = format!("{}(001,01)", set.name());
            builtin::find(&name).unwrap().into_owned()
        } else {
            set.clone()
        };
        let sheet = export::sheet(&set);
        let exported = printed(|out| export(&set, Format::Toml, out));
        let head = "schema = 1\nname = \"trial\"\nserial = 1\nenvironment = \"lab\"\n\
                    default_class = \"garden\"\n[[class]]\nname = \"garden\"\npriority = 1\n\
                    action = \"garden\"\n";
        let text = format!("{head}hostsets = [\"{}\"]\n{exported}", sheet.name);
        let source = policy::Source { name: "policy.toml", text: &text };
        let compiled = policy::compile(&source, jiff::civil::date(2026, 11, 23)).unwrap();
        let rules: Vec<_> = compiled
            .policy
            .rules()
            .iter()
            .map(|rule| (rule.pattern(), rule.schemes(), rule.reason()))
            .collect();
        let rows: Vec<_> =
            set.entries().iter().map(|row| (row.pattern(), row.schemes(), row.reason())).collect();
        assert_eq!(rules, rows, "{}", set.name());
        let csv = printed(|out| export(&set, Format::Csv, out));
        assert_eq!(csv.lines().count(), rows.len() + 1);
        let json: Value =
            serde_json::from_str(&printed(|out| export(&set, Format::Json, out))).unwrap();
        assert_eq!(json["hostset"]["hosts"].as_array().unwrap().len(), rows.len());
    }
}

#[test]
fn formats_that_a_subcommand_does_not_know_are_refused() {
    let act = |what, format| act(HostsetsCommand { what, format }, &mut Vec::new());
    let export = || Some(What::Export { name: "mobile-plans".into() });
    assert!(act(export(), Some(Format::Csv)).is_ok());
    for (what, format) in [(None, Format::Toml), (export(), Format::Text)] {
        assert!(matches!(act(what, Some(format)), Err(Failure::Unable(_))));
    }
    let template = Some(What::Export { name: "ts43-entitlement".into() });
    let Err(Failure::Unable(line)) = act(template, None) else { panic!("a template was exported") };
    assert!(line.ends_with("needs the network codes: `ts43-entitlement(MCC,MNC)`"), "{line}");
}
