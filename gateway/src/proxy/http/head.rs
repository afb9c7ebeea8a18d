//! The head of one HTTP/1 request: octets in, the host and the length of the body out, or a refusal.
//!
//! Pure and strict. What two parsers could read in two ways is refused here, before any other
//! parser sees it (RFC 9112 section 11.2). It never decides whether a host is allowed.

use policy::{HostName, InvalidHostName, Reason, Scheme};

/// Collects the octets of one head.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    octets: Vec<u8>,
    scanned: usize,
}

/// How far a head has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeadProgress {
    /// Everything so far is right; more octets are needed.
    Incomplete,
    /// The head is whole.
    Complete(Head),
    /// No continuation can make this a head that may pass.
    Reject(HeadFault),
}

/// The facts of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The host asked for.
    pub(crate) host: HostName,
    /// The path and query.
    pub(crate) path: String,
    /// The method, as far as an answer of ours depends on it.
    pub(crate) method: Method,
    /// What follows the head.
    pub(crate) body: Body,
    /// Octets of the head, with the empty line.
    pub(crate) length: usize,
}

/// Methods that an answer of ours depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET.
    Get,
    /// HEAD: the answer has no content.
    Head,
    /// Any other but CONNECT.
    Other,
}

/// How long the body is (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many octets; none for most requests.
    Length(u64),
    /// Until the last chunk.
    Chunked,
}

/// How far the head of a request to a proxy has been read (RFC 9112 sections 3.2.2 and 3.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProxyProgress {
    /// Everything so far is right; more octets are needed.
    Incomplete,
    /// A connection is asked for, to this port of this host.
    Connect(HostName, u16),
    /// A request is to be carried to this port of its host.
    Carry(Head, u16),
    /// No continuation can make this a head that may pass.
    Reject(HeadFault),
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// It breaks the syntax or the framing rules.
    Malformed,
    /// It is longer, or has more fields, than the limits allow.
    TooLarge,
    /// It is of another major version of HTTP.
    Version,
    /// CONNECT, or an upgrade to another protocol.
    Method,
    /// No host can be judged.
    Host(Reason),
}

impl HeadFault {
    /// The reason to record, where it is one of those that are judged.
    pub(crate) fn reason(self) -> Option<Reason> {
        match self {
            Self::Malformed | Self::Version => None,
            Self::TooLarge => Some(Reason::Limit),
            Self::Method => Some(Reason::MethodNotAllowed),
            Self::Host(reason) => Some(reason),
        }
    }
}

impl HeadReader {
    /// Takes what arrived on a connection to `port`. The result depends on the octets so far,
    /// never on how they were cut.
    pub(crate) fn push(&mut self, octets: &[u8], port: u16) -> HeadProgress {
        match self.scan(octets) {
            Err(fault) => HeadProgress::Reject(fault),
            Ok(None) => HeadProgress::Incomplete,
            Ok(Some(head)) => {
                parse(head, port).map_or_else(HeadProgress::Reject, HeadProgress::Complete)
            }
        }
    }

    /// As [`push`](Self::push), on a connection to a proxy: the request itself says which port.
    pub(crate) fn push_to_proxy(&mut self, octets: &[u8]) -> ProxyProgress {
        match self.scan(octets) {
            Err(fault) => ProxyProgress::Reject(fault),
            Ok(None) => ProxyProgress::Incomplete,
            Ok(Some(head)) => parse_to_proxy(head).unwrap_or_else(ProxyProgress::Reject),
        }
    }

    /// Takes octets until the head is whole, and hands it out.
    fn scan(&mut self, octets: &[u8]) -> Result<Option<&[u8]>, HeadFault> {
        self.octets.extend_from_slice(octets);
        while let Some(&octet) = self.octets.get(self.scanned) {
            let before = self.octets.get(..self.scanned).unwrap_or_default();
            if !may_follow(before, octet) {
                return Err(HeadFault::Malformed);
            }
            self.scanned += 1;
            if self.scanned > MAX_HEAD_OCTETS {
                return Err(HeadFault::TooLarge);
            }
            let head = self.octets.get(..self.scanned).unwrap_or_default();
            if head.ends_with(b"\r\n\r\n") {
                // Asked for once more, because the borrow of an earlier turn would last.
                return Ok(self.octets.get(..self.scanned));
            }
        }
        Ok(None)
    }

    /// Octets behind the head, once that is whole.
    pub(crate) fn behind(&self) -> &[u8] {
        self.octets.get(self.scanned..).unwrap_or_default()
    }

    /// Whether nothing has arrived yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Everything that arrived, unchanged.
    pub(crate) fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

/// Lines end in CRLF and nothing else, and no other control octet stands in a head. The first octet
/// begins a method, so that TLS on this port is refused at once.
fn may_follow(before: &[u8], octet: u8) -> bool {
    match (before.last(), octet) {
        (None, octet) => is_token_octet(octet),
        (Some(b'\r'), octet) => octet == b'\n',
        (Some(_), b'\r' | b'\t') => true,
        (Some(_), octet) => octet >= b' ' && octet != 0x7f,
    }
}

#[derive(Default)]
struct Fields<'a> {
    hosts: Vec<&'a [u8]>,
    lengths: Vec<&'a [u8]>,
    codings: Vec<&'a [u8]>,
    upgrades: Vec<&'a [u8]>,
}

fn parse(head: &[u8], port: u16) -> Result<Head, HeadFault> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or(HeadFault::Malformed)?;
    let mut lines =
        text.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, target, minor) = request_line(lines.next().unwrap_or_default())?;
    let fields = fields(lines)?;
    if method == b"CONNECT" || fields.upgrades.iter().any(|upgrade| !is_h2c(upgrade)) {
        return Err(HeadFault::Method);
    }
    let body = body(&fields, minor)?;
    let host = match *fields.hosts.as_slice() {
        [] => return Err(HeadFault::Host(Reason::NoHost)),
        [host] => authority(host, port)?,
        [_, _, ..] => return Err(HeadFault::Host(Reason::BadHost)),
    };
    let path = path(method, target, &host, port)?;
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        _ => Method::Other,
    };
    Ok(Head { host, path, method, body, length: head.len() })
}

/// A request to a proxy: CONNECT, or one whose target, or else its Host, names the port.
fn parse_to_proxy(head: &[u8]) -> Result<ProxyProgress, HeadFault> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or(HeadFault::Malformed)?;
    let mut lines =
        text.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, target, minor) = request_line(lines.next().unwrap_or_default())?;
    let fields = fields(lines)?;
    if method != b"CONNECT" {
        let absolute = target.split_at_checked("http://".len());
        let named = match absolute.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"http://")) {
            Some((_, rest)) => rest.split(|octet| b"/?".contains(octet)).next(),
            None => fields.hosts.first().copied(),
        };
        let port = named.and_then(port_of).unwrap_or_else(|| Scheme::Http.default_port());
        return Ok(ProxyProgress::Carry(parse(head, port)?, port));
    }
    let port = port_of(target).ok_or(HeadFault::Host(Reason::BadHost))?;
    let host = authority(target, port)?;
    match *fields.hosts.as_slice() {
        [] if minor == 0 => {}
        [] => return Err(HeadFault::Host(Reason::NoHost)),
        [named] if authority(named, port)? == host => {}
        [..] => return Err(HeadFault::Host(Reason::BadHost)),
    }
    // What follows belongs to the connection that is asked for.
    if body(&fields, minor)? != Body::Length(0) || !fields.upgrades.is_empty() {
        return Err(HeadFault::Malformed);
    }
    Ok(ProxyProgress::Connect(host, port))
}

/// The port behind the last colon of an authority.
fn port_of(authority: &[u8]) -> Option<u16> {
    let colon = authority.iter().rposition(|octet| *octet == b':')?;
    let digits = std::str::from_utf8(authority.get(colon + 1..)?).ok()?;
    let port = digits.parse().ok().filter(|port| *port != 0)?;
    is_port(digits, port).then_some(port)
}

/// Method, target and minor version (RFC 9112 section 3).
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], u8), HeadFault> {
    let mut parts = line.split(|octet| *octet == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadFault::Malformed);
    };
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ if version.starts_with(b"HTTP/") => return Err(HeadFault::Version),
        _ => return Err(HeadFault::Malformed),
    };
    let is_target = |octet: &u8| octet.is_ascii_graphic() && *octet != b'#';
    if !is_token(method) || target.is_empty() || !target.iter().all(is_target) {
        return Err(HeadFault::Malformed);
    }
    Ok((method, target, minor))
}

/// The fields that matter here; the form of all is checked (RFC 9112 section 5).
fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Fields<'a>, HeadFault> {
    let mut fields = Fields::default();
    for (index, line) in lines.enumerate() {
        if index >= MAX_FIELDS {
            return Err(HeadFault::TooLarge);
        }
        let colon = line.iter().position(|octet| *octet == b':').ok_or(HeadFault::Malformed)?;
        let (name, value) = line.split_at_checked(colon).ok_or(HeadFault::Malformed)?;
        // A space before the colon, and a folded line, end up here as well.
        if !is_token(name) {
            return Err(HeadFault::Malformed);
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let name = name.to_ascii_lowercase();
        match name.as_slice() {
            b"host" => fields.hosts.push(value),
            b"content-length" => fields.lengths.push(value),
            b"transfer-encoding" => fields.codings.push(value),
            b"upgrade" => fields.upgrades.push(value),
            _ => {}
        }
    }
    Ok(fields)
}

/// One length or one chunked coding, never both, never two (RFC 9112 section 6.3).
fn body(fields: &Fields<'_>, minor: u8) -> Result<Body, HeadFault> {
    match (fields.lengths.as_slice(), fields.codings.as_slice()) {
        ([], []) => Ok(Body::Length(0)),
        ([length], []) if length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
            length.map(Body::Length).ok_or(HeadFault::Malformed)
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Body::Chunked)
        }
        _ => Err(HeadFault::Malformed),
    }
}

/// Reads a host with an optional port, which must be the one connected to.
pub(crate) fn authority(value: &[u8], port: u16) -> Result<HostName, HeadFault> {
    let bad = HeadFault::Host(Reason::BadHost);
    if value.is_empty() {
        return Err(HeadFault::Host(Reason::NoHost));
    }
    if value.starts_with(b"[") {
        return Err(HeadFault::Host(Reason::IpLiteral));
    }
    // Only A-labels on the wire: letters outside ASCII are read in too many ways.
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).ok_or(bad)?;
    let host = match text.split_once(':') {
        None => text,
        Some((host, digits)) if is_port(digits, port) => host,
        Some(_) => return Err(bad),
    };
    HostName::parse(host).map_err(|invalid| match invalid {
        InvalidHostName::IpLiteral => HeadFault::Host(Reason::IpLiteral),
        InvalidHostName::Empty
        | InvalidHostName::EmptyLabel
        | InvalidHostName::ForbiddenOctet { .. }
        | InvalidHostName::LabelTooLong { .. }
        | InvalidHostName::NotIdna
        | InvalidHostName::TooLong { .. } => bad,
    })
}

fn is_port(digits: &str, port: u16) -> bool {
    digits.bytes().all(|octet| octet.is_ascii_digit()) && digits.parse() == Ok(port)
}

/// The path of a target in origin form, absolute form or asterisk form (RFC 9112 section 3.2). An
/// absolute form must name the Host.
fn path(method: &[u8], target: &[u8], host: &HostName, port: u16) -> Result<String, HeadFault> {
    let target = std::str::from_utf8(target).map_err(|_| HeadFault::Malformed)?;
    if target.starts_with('/') || (target == "*" && method == b"OPTIONS") {
        return Ok(target.to_owned());
    }
    let rest = match target.split_at_checked("http://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => rest,
        Some(_) | None => return Err(HeadFault::Malformed),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (named, path) = rest.split_at_checked(end).ok_or(HeadFault::Malformed)?;
    if authority(named.as_bytes(), port)? != *host {
        return Err(HeadFault::Host(Reason::BadHost));
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

/// HTTP/2 over plain TCP: a server may go on with HTTP/1.1 instead (RFC 9110 section 7.8), and some
/// clients always ask. Every other upgrade is refused.
fn is_h2c(upgrade: &[u8]) -> bool {
    upgrade.eq_ignore_ascii_case(b"h2c")
}

fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().copied().all(is_token_octet)
}

/// RFC 9110 section 5.6.2.
fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// Octets of one head.
pub(crate) const MAX_HEAD_OCTETS: usize = 64 * 1024;
/// Fields of one head.
pub(crate) const MAX_FIELDS: usize = 100;

#[cfg(test)]
mod tests;
