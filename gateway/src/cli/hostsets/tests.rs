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
