use super::*;

fn rows(name: &str) -> Vec<(String, String)> {
    let set = find(name).unwrap();
    let row = |entry: &BuiltinEntry| {
        let schemes: String =
            entry.schemes().iter().filter_map(|scheme| scheme.label().chars().last()).collect();
        (entry.printed().to_owned(), schemes.replace("ps", "b"))
    };
    set.entries().iter().map(row).collect()
}

#[test]
fn every_data_file_is_read() {
    assert_eq!(all().len(), TEXTS.len());
    for (set, (name, _)) in all().iter().zip(TEXTS) {
        assert_eq!(set.name(), name);
        assert!(!set.entries().is_empty() && !set.source().is_empty(), "{name}");
        for entry in set.entries() {
            assert_eq!(&*entry.place().file, format!("{PREFIX}{name}"));
            assert!(entry.reason().is_some(), "{name} {}", entry.printed());
            assert_eq!(entry.pattern().to_string(), entry.printed().to_ascii_lowercase());
        }
    }
}

#[test]
fn dated_tables_have_the_rows_of_their_day() {
    for (name, rows) in [
        ("mobile-plans@2017-11-13", 14),
        ("mobile-plans@2018-01-05", 16),
        ("mobile-plans@2018-11-02", 19),
        ("mobile-plans@2019-04-03", 19),
        ("mobile-plans@2023-12-12a", 14),
        ("mobile-plans@2023-12-12", 15),
    ] {
        let set = find(name).unwrap();
        assert_eq!((set.name(), set.entries().len()), (name, rows));
        assert!(name.contains(&set.date().to_string()), "{name}");
    }
}

#[test]
fn without_a_date_the_newest_table_is_meant() {
    let newest = find("mobile-plans").unwrap();
    assert_eq!(newest.name(), "mobile-plans@2023-12-12");
    let expected = [
        ("ctldl.windowsupdate.com", "p"),
        ("www.msftconnecttest.com", "p"),
        ("login.live.com", "b"),
        ("storagetos.datamart.windows.com", "b"),
        ("cdp1.public-trust.com", "p"),
        ("ocsp.omniroot.com", "p"),
        ("vassg142.ocsp.omniroot.com", "p"),
        ("vassg142.crl.omniroot.com", "p"),
        ("mscrl.microsoft.com", "p"),
        ("crl.microsoft.com", "p"),
        ("crl3.digicert.com", "p"),
        ("Ocsp.digicert.com", "p"),
        ("mps.datamart.windows.com", "b"),
        ("staging.datamart.windows.com", "b"),
        ("*smartscreen.microsoft.com", "s"),
    ];
    let expected: Vec<(String, String)> =
        expected.map(|(host, schemes)| (host.to_owned(), schemes.to_owned())).into();
    assert_eq!(rows("mobile-plans"), expected);
}

#[test]
fn places_point_at_the_row() {
    let set = find("mobile-plans").unwrap();
    let (_, text) = TEXTS.iter().find(|(name, _)| *name == set.name()).unwrap();
    for entry in set.entries() {
        let line = text.lines().nth(entry.place().line as usize - 1).unwrap();
        assert_eq!(line, format!("match   = \"{}\"", entry.printed()));
    }
}

#[test]
fn a_template_takes_the_network_codes() {
    for (name, host) in [
        ("ts43-entitlement(001,01)", "aes.mnc001.mcc001.pub.3gppnetwork.org"),
        ("ts43-entitlement(310, 260)", "aes.mnc260.mcc310.pub.3gppnetwork.org"),
    ] {
        let set = resolve(name).unwrap();
        assert_eq!(set.entries()[0].pattern().to_string(), host, "{name}");
        assert!(!set.is_template() && set.name().starts_with("ts43-entitlement("));
    }
    assert!(find("ts43-entitlement").unwrap().is_template());
    let name = "ts43-entitlement".into();
    assert_eq!(resolve("ts43-entitlement").err(), Some(InvalidBuiltin::NeedsNetwork { name }));
    for codes in ["", "001", "1,01", "001,1", "001,0001", "0o1,01", "001,01,1", "001,é"] {
        let name = format!("ts43-entitlement({codes})");
        assert_eq!(resolve(&name).err(), Some(InvalidBuiltin::Network), "{name}");
    }
    let name = "gsma-rsp".into();
    assert_eq!(resolve("gsma-rsp(001,01)").err(), Some(InvalidBuiltin::TakesNoNetwork { name }));
}

#[test]
fn unknown_names_get_the_nearest_one() {
    for (name, help) in [
        ("mobile-plan", Some("did you mean `mobile-plans`?")),
        ("mobile-plans@2018-01-06", Some("did you mean `mobile-plans@2018-01-05`?")),
        ("apple_pki", Some("did you mean `apple-pki`?")),
    ] {
        assert_eq!(find(name).unwrap_err().help().as_deref(), help, "{name}");
    }
    assert!(find("").is_err() && find("mobile-plans@").is_err() && find("(001,01)").is_err());
}
