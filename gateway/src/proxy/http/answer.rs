//! What the gateway itself says on port 80: the way to the portal, refusals, and probes' answers.
//!
//! Every answer is whole, is not to be stored, and closes the connection. Nothing of the request
//! is repeated in it but the host, escaped.

use std::fmt::Write;

use policy::{HostName, HttpDenial, HttpTerms};

use super::head::{HeadFault, Method};

/// An answer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Answer {
    status: &'static str,
    location: Option<Box<str>>,
    allow: bool,
    content_type: &'static str,
    content: String,
}

impl Answer {
    /// The answer to a denied request; `None` closes without a word.
    ///
    /// `id` is what the decision log calls the session by.
    pub(super) fn denied(terms: &HttpTerms, host: Option<&HostName>, id: &str) -> Option<Self> {
        let portal = terms.portal.as_deref().filter(|portal| is_plain(portal));
        match (terms.denied, portal) {
            (HttpDenial::Close, _) => None,
            (HttpDenial::Redirect, Some(portal)) => Some(Self::redirect(portal)),
            (HttpDenial::Redirect, None) | (HttpDenial::NetworkAuthenticationRequired, _) => {
                Some(Self::page(host, portal, id))
            }
        }
    }

    /// 302 to the portal.
    pub(super) fn redirect(portal: &str) -> Self {
        Self { location: Some(portal.into()), ..Self::text("302 Found", String::new()) }
    }

    /// 511 with a page for people (RFC 6585 section 6).
    fn page(host: Option<&HostName>, portal: Option<&str>, id: &str) -> Self {
        let host = host.map_or_else(|| "This address".to_owned(), |host| escaped(host.as_str()));
        let mut link = String::new();
        if let Some(portal) = portal {
            let portal = escaped(portal);
            // Writing to a string does not fail.
            let _ = write!(link, "<p><a href=\"{portal}\">Go to the portal</a></p>");
        }
        let content = format!(
            "<!DOCTYPE html>\n\
             <html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta name=\"robots\" content=\"noindex\"><title>Not available yet</title>\
             <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:3rem auto;\
             padding:0 1rem;color:#111;background:#fff}}\
             @media(prefers-color-scheme:dark){{body{{color:#eee;background:#111}}a{{color:#9cf}}}}\
             </style></head>\n\
             <body><main><h1>Not available yet</h1>\
             <p><strong>{host}</strong> cannot be reached until this SIM has a plan.</p>\
             {link}<p><small>Reference: <code>{id}</code></small></p>\
             </main></body></html>\n"
        );
        Self {
            content_type: "text/html; charset=utf-8",
            ..Self::text("511 Network Authentication Required", content)
        }
    }

    /// 200 with what a connectivity probe waits for.
    pub(super) fn probe(content: &str) -> Self {
        Self::text("200 OK", content.to_owned())
    }

    /// The answer to a head that is refused.
    pub(in crate::proxy) fn for_fault(fault: HeadFault) -> Self {
        match fault {
            HeadFault::Malformed | HeadFault::Host(_) => Self::bad_request(),
            HeadFault::Version => Self::text("505 HTTP Version Not Supported", String::new()),
            HeadFault::TooLarge => Self::text("431 Request Header Fields Too Large", String::new()),
            // CONNECT and upgrades.
            HeadFault::Method => {
                Self { allow: true, ..Self::text("405 Method Not Allowed", String::new()) }
            }
        }
    }

    /// 403: a connection that is not allowed, asked of the gateway as a proxy. Browsers show no page
    /// for it.
    pub(in crate::proxy) fn forbidden(host: &HostName, id: &str) -> Self {
        let content =
            format!("{host} cannot be reached until this SIM has a plan. Reference: {id}\n");
        Self::text("403 Forbidden", content)
    }

    /// 400: the head cannot be read in one way only.
    pub(super) fn bad_request() -> Self {
        Self::text("400 Bad Request", String::new())
    }

    /// 404: a path of a probe's host that no probe asks for.
    pub(super) fn not_found() -> Self {
        Self::text("404 Not Found", String::new())
    }

    /// 408: the head was not complete in time.
    pub(in crate::proxy) fn too_slow() -> Self {
        Self::text("408 Request Timeout", String::new())
    }

    /// 502: the origin cannot be reached.
    pub(super) fn unreachable() -> Self {
        Self::text("502 Bad Gateway", String::new())
    }

    /// 503: no policy, or the gateway stops.
    pub(super) fn unavailable() -> Self {
        Self::text("503 Service Unavailable", String::new())
    }

    /// 504: the origin did not take the connection in time.
    pub(super) fn origin_too_slow() -> Self {
        Self::text("504 Gateway Timeout", String::new())
    }

    fn text(status: &'static str, content: String) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self { status, location: None, allow: false, content_type, content }
    }

    /// The answer's octets. An answer to HEAD has no content (RFC 9110 section 9.3.2).
    pub(in crate::proxy) fn octets(&self, method: Method) -> Vec<u8> {
        let mut octets = format!("HTTP/1.1 {}\r\n", self.status);
        // Writing to a string does not fail.
        if let Some(location) = &self.location {
            let _ = write!(octets, "Location: {location}\r\n");
        }
        if self.allow {
            octets.push_str("Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n");
        }
        let _ = write!(
            octets,
            "Content-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Connection: close\r\n\r\n",
            self.content_type,
            self.content.len()
        );
        match method {
            Method::Head => {}
            Method::Get | Method::Other => octets.push_str(&self.content),
        }
        octets.into_bytes()
    }
}

/// Whether `text` can stand in a field value as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// `text` for use in HTML, in content and in quoted attributes.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, letter| {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
        escaped
    })
}

#[cfg(test)]
mod tests;
