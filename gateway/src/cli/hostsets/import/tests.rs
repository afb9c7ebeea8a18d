use policy::{Subject, builtin};

use super::*;

/// The current vendor table, in the shape of the page's source.
const MARKDOWN: &str = r"---
title: Walled garden
---

# Hosts a device without a plan must reach

| Note | See |
|---|---|
| Names change | the list below |

Operators open these hosts:

| Host name                              | Protocol    |
|:---------------------------------------|-------------|
| ctldl.windowsupdate.com                | HTTP        |
| [www.msftconnecttest.com](http://www.msftconnecttest.com/connecttest.txt) | HTTP |
| login.live.com                         | HTTP, HTTPS |
| storagetos.datamart.windows.com        | HTTP/HTTPS  |
| cdp1.public-trust.com<br>ocsp.omniroot.com <br/> vassg142.ocsp.omniroot.com | http |
| **vassg142.crl.omniroot.com**          | HTTP        |
| `mscrl.microsoft.com`                  | HTTP        |
| <http://crl.microsoft.com/>            | HTTP        |
| crl3.digicert.com                      | HTTP        |
| Ocsp.digicert.com                      | HTTP        |
| mps.datamart.windows.com               | http, https |
| staging.datamart.windows.com           | HTTP<br>HTTPS |
| \*smartscreen.microsoft.com            | HTTPS       |
";

/// The same as browsers get it.
const HTML: &str = r#"<!DOCTYPE html>
<html><head><style>table { border: 0 } /* <table> */</style>
<script>var x = "<table><tr><td>host</td><td>protocol</td></tr></table>";</script></head>
<body>
<table><thead><tr><th>Note</th></tr></thead><tbody><tr><td>nothing</td></tr></tbody></table>
<TABLE aria-label="Table 1" class="table table-sm">
<thead>
<tr>
<th style="text-align: left;">Host&nbsp;name</th>
<th>Protocol</th>
</tr>
</thead>
<tbody>
<tr><td>ctldl.windowsupdate.com</td><td>HTTP</td></tr>
<tr><td><a href="https://example.com/redirect" data-linktype="external">www.msftconnecttest.com</a></td><td>HTTP</td></tr>
<tr><td>login.live.com<!-- sign-in --></td><td>HTTP, HTTPS</td></tr>
<tr><td>storagetos.datamart.windows.com</td><td>HTTP/HTTPS</td></tr>
<tr><td>cdp1.public-trust.com<br>ocsp.omniroot.com<br />vassg142.ocsp.omniroot.com</td><td>http</td></tr>
<tr><td><strong>vassg142.crl.omniroot.com</strong></td><td>HTTP</td></tr>
<tr><td><code>mscrl.microsoft.com</code></td><td>HTTP</td></tr>
<tr><td>http://crl.microsoft.com/</td><td>HTTP</td></tr>
<tr><td>crl3.digicert.com<td>HTTP
<tr><td>Ocsp.digicert.com<td>HTTP
<tr><td>mps.datamart.windows.com</td><td>http,&#32;https</td></tr>
<tr><td><p>staging.datamart.windows.com</p></td><td><p>HTTP</p><p>HTTPS</p></td></tr>
<tr><td>&#42;smartscreen.microsoft.com</td><td>HTTPS</td></tr>
</tbody>
</TABLE>
</body></html>
"#;

fn today() -> Date {
    jiff::civil::date(2026, 11, 23)
}

fn labels() -> Labels {
    Labels { name: "vendor".into(), source: "page".into(), reviewed: Some(today()) }
}

fn import(page: &str) -> Result<Sheet, Vec<Mistake>> {
    read(page, labels(), today())
}

fn mistakes(rows: &str) -> Vec<(usize, String)> {
    let page = format!("| Host | Protocol |\n|---|---|\n{rows}");
    import(&page)
        .unwrap_err()
        .into_iter()
        .map(|mistake| match mistake {
            Mistake::NoTable => (0, String::new()),
            Mistake::Row { line, message } => (line, message),
        })
        .collect()
}

#[test]
fn the_vendor_table_is_read_from_both_renderings() {
    let published = builtin::find("mobile-plans@2023-12-12").unwrap();
    let expected: Vec<_> =
        published.entries().iter().map(|entry| (entry.printed(), entry.schemes())).collect();
    for page in [MARKDOWN, HTML] {
        let sheet = import(page).unwrap();
        let rows: Vec<_> =
            sheet.rows.iter().map(|row| (row.host.as_str(), row.schemes.as_slice())).collect();
        assert_eq!(rows, expected);
    }
}

#[test]
fn what_is_imported_decides_as_the_built_in_set() {
    let head = TRIAL.replace("trial", "garden");
    let compile = |hostset: &str, text: &str| {
        let text = format!("{head}hostsets = [\"{hostset}\"]\n{text}");
        policy::compile(&Source { name: "policy.toml", text: &text }, today()).unwrap().policy
    };
    let (text, _) = import(MARKDOWN).unwrap().toml();
    let imported = compile("vendor", &text);
    let builtin = compile("builtin:mobile-plans@2023-12-12", "");
    let now = jiff::Timestamp::UNIX_EPOCH;
    assert!(policy::delta(&builtin, &imported, now).is_equal());
    let patterns = |policy: &policy::Policy| {
        let rules = policy.rules().iter();
        rules.map(|rule| (rule.pattern().clone(), rule.schemes().to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(patterns(&imported), patterns(&builtin));
    let target = policy::Target::parse("https://nav-edge.smartscreen.microsoft.com").unwrap();
    assert!(target.decide(&imported, Subject::Class("garden"), now).passes());
}

#[test]
fn stars_of_two_hosts_are_no_emphasis() {
    let sheet = import(
        "|Endpoint|Scheme|\n|-|-|\n|*.a.example.com,*.b.example.com|https|\n|*foo.example.org, *bar.example.org|https|",
    );
    let rows: Vec<_> = sheet
        .unwrap()
        .rows
        .into_iter()
        .map(|row| (row.host, row.within.unwrap_or_default()))
        .collect();
    let expected = [
        ("*.a.example.com", ""),
        ("*.b.example.com", ""),
        ("*foo.example.org", "example.org"),
        ("*bar.example.org", "example.org"),
    ];
    assert_eq!(rows, expected.map(|(host, within)| (host.to_owned(), within.to_owned())));
}

#[test]
fn a_row_that_cannot_be_read_is_named_by_its_line() {
    for (row, part) in [
        ("| a b.example | http |", "`a`: host name has one label"),
        ("| b!.example | http |", "`b!.example`: "),
        ("| a.example | |", "names no protocol"),
        ("| | http |", "names no host"),
        ("| a.example | ftp |", "`ftp` is not a protocol"),
        ("| a.example | TCP 443 |", "`TCP` is not a protocol"),
        ("| 192.0.2.1 | http |", "`192.0.2.1`: "),
        ("| http://a.example/path | http |", "`http://a.example/path`: "),
        ("| https://a.example/ | http |", "is not of a protocol that the row lists"),
        ("| a.example<sup>1</sup> | http |", "`1`: "),
        ("| a.example[^1] | http |", "`a.example[^1]`: "),
        ("| *italic.example* | http |", "`*italic.example*`: "),
        ("| *.com | https |", "public suffix"),
        ("| *microsoft.com | https |", "microsoft.com"),
        ("| a.example and b.example | https |", "`and`: "),
    ] {
        let found = mistakes(&format!(
            "| first.example.com | http |\n{row}\n| last.example.com | http |\n"
        ));
        assert!(
            matches!(found.as_slice(), [(4, message)] if message.contains(part)),
            "{row}: {found:?}"
        );
    }
}

#[test]
fn every_mistake_is_reported_at_once_and_repetitions_are_mistakes() {
    let found =
        mistakes("| a.example | |\n| b.example | http |\n| B.example | https |\n| c! | http |\n");
    let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [3, 5, 6]);
    assert_eq!(found[1].1, "`B.example` is listed in line 4 already");
}

#[test]
fn html_rows_with_other_widths_are_mistakes() {
    let page = "<table><tr><th>Host<th>Protocol</tr>\n<tr><td>a.example</tr>\n\
                <tr><td>b.example<td>http<td>more</tr>\n<tr><td rowspan=2>c.example<td>http</tr>\n\
                <tr><td>https</tr></table>";
    let lines: Vec<String> = import(page).unwrap_err().iter().map(ToString::to_string).collect();
    let expected = [
        "line 2: the row has 1 cells, the heading 2",
        "line 3: the row has 3 cells, the heading 2",
        "line 5: the row has 1 cells, the heading 2",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_page_without_such_a_table_is_refused() {
    for page in
        ["", "text | text", "| Host | Port |\n|---|---|\n| a.example | 80 |\n", "<table><tr><td>a"]
    {
        assert_eq!(import(page).unwrap_err(), [Mistake::NoTable], "{page}");
    }
}

#[test]
fn no_page_makes_the_reader_panic() {
    for page in [MARKDOWN, HTML] {
        for (cut, _) in page.char_indices() {
            let _ = import(&page[..cut]);
            let _ = import(&page[cut..]);
        }
    }
}
