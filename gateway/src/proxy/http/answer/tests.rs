use super::*;

#[test]
fn denial_follows_the_terms() {
    let host = HostName::parse("www.bing.com").unwrap();
    let said = |denied, portal: Option<&str>| {
        let terms = HttpTerms { denied, portal: portal.map(Into::into) };
        Answer::denied(&terms, Some(&host), "00c0ffee42")
            .map(|answer| String::from_utf8(answer.octets(Method::Get)).unwrap())
    };
    let portal = Some("https://portal.example/start?a=b&c");
    let redirect = said(HttpDenial::Redirect, portal).unwrap();
    assert!(redirect.starts_with("HTTP/1.1 302 Found\r\n"), "{redirect}");
    assert!(redirect.contains("\r\nLocation: https://portal.example/start?a=b&c\r\n"));
    assert!(redirect.contains("\r\nCache-Control: no-store\r\n"));
    assert!(redirect.contains("\r\nConnection: close\r\n"));
    let page = said(HttpDenial::NetworkAuthenticationRequired, portal).unwrap();
    assert!(page.starts_with("HTTP/1.1 511 Network Authentication Required\r\n"), "{page}");
    assert!(page.contains("<strong>www.bing.com</strong>"));
    assert!(page.contains("href=\"https://portal.example/start?a=b&amp;c\""));
    assert!(page.contains("Reference: <code>00c0ffee42</code>"), "{page}");
    // For a screen reader, for any screen, and for those who cannot reach anything else.
    for part in ["<html lang=\"en\">", "<meta name=\"viewport\"", "<main><h1>", "<title>"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for part in ["<script", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(part), "{part}: {page}");
    }
    assert!(said(HttpDenial::Redirect, None).unwrap().starts_with("HTTP/1.1 511 "));
    assert!(
        said(HttpDenial::Redirect, Some("x\r\nSet-Cookie: y"))
            .unwrap()
            .starts_with("HTTP/1.1 511 ")
    );
    assert_eq!(said(HttpDenial::Close, portal), None);
}

#[test]
fn length_is_that_of_the_content() {
    let answer = Answer::probe("Microsoft NCSI");
    let whole = String::from_utf8(answer.octets(Method::Get)).unwrap();
    let (head, content) = whole.split_once("\r\n\r\n").unwrap();
    assert_eq!(content, "Microsoft NCSI");
    assert!(head.contains("Content-Length: 14\r\n"), "{head}");
    let head_only = String::from_utf8(answer.octets(Method::Head)).unwrap();
    assert_eq!(head_only, format!("{head}\r\n\r\n"));
}

#[test]
fn markup_is_escaped() {
    assert_eq!(escaped("<a href=\"x\">&'</a>"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt;");
}
