//! The handshake layer of a ClientHello: one message, from its type octet to its last extension.
//!
//! Strict where a lenient reading could make the origin see another name than we do: every length
//! is exact, nothing stands twice, nothing is left over.

use policy::{HostName, InvalidHostName, Reason};

use super::{Hello, MAX_HELLO_OCTETS, Progress};

/// Reads a ClientHello from the handshake octets of a connection: what remains when the record
/// headers of TLS, or the CRYPTO frame headers of QUIC, are gone.
///
/// Octets behind the message are not looked at. As long as the message is incomplete only its type
/// and its length are judged, so that calling this for every octet costs nothing.
pub(crate) fn read_handshake(octets: &[u8]) -> Progress {
    match read(octets) {
        Ok(Some(hello)) => Progress::Complete(hello),
        Ok(None) => Progress::Incomplete,
        Err(reason) => Progress::Reject(reason),
    }
}

/// The length of the first message with its header, once the header is there.
pub(crate) fn message_length(octets: &[u8]) -> Option<usize> {
    let [high, middle, low] = *octets.get(1..HEADER_OCTETS)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?.checked_add(HEADER_OCTETS)
}

fn read(octets: &[u8]) -> Result<Option<Hello>, Reason> {
    match octets.first() {
        None => return Ok(None),
        Some(&CLIENT_HELLO) => {}
        Some(_) => return Err(Reason::NotTls),
    }
    let Some(length) = message_length(octets) else { return Ok(None) };
    if length > MAX_HELLO_OCTETS {
        return Err(Reason::HelloTooLarge);
    }
    let Some(body) = octets.get(HEADER_OCTETS..length) else { return Ok(None) };
    let extensions = read_body(body).ok_or(Reason::NotTls)?;
    if extensions.twice {
        return Err(Reason::DuplicateExtension);
    }
    let server_name = read_server_name(extensions.server_name.ok_or(Reason::NoSni)?)?;
    Ok(Some(Hello { server_name, ech: extensions.ech }))
}

#[derive(Default)]
struct Extensions<'a> {
    server_name: Option<&'a [u8]>,
    ech: bool,
    twice: bool,
}

/// RFC 8446 section 4.1.2; `None` when a length does not fit.
fn read_body(body: &[u8]) -> Option<Extensions<'_>> {
    let mut rest = Octets(body);
    let [major, _minor] = *rest.take(2)?.first_chunk()?;
    rest.take(RANDOM_OCTETS)?;
    let session_id = rest.take_short_vector()?;
    let cipher_suites = rest.take_vector()?;
    let compression_methods = rest.take_short_vector()?;
    if major != MAJOR_VERSION
        || session_id.len() > MAX_SESSION_ID_OCTETS
        || cipher_suites.is_empty()
        || !cipher_suites.len().is_multiple_of(2)
        || compression_methods.is_empty()
    {
        return None;
    }
    if rest.is_empty() {
        return Some(Extensions::default());
    }
    let extensions = rest.take_vector()?;
    if !rest.is_empty() {
        return None;
    }
    read_extensions(extensions)
}

fn read_extensions(block: &[u8]) -> Option<Extensions<'_>> {
    let mut found = Extensions::default();
    let mut kinds = Vec::with_capacity(USUAL_EXTENSIONS);
    let mut rest = Octets(block);
    while !rest.is_empty() {
        let kind = rest.take_u16()?;
        let content = rest.take_vector()?;
        kinds.push(kind);
        match kind {
            SERVER_NAME => found.server_name = Some(content),
            ENCRYPTED_CLIENT_HELLO => found.ech = true,
            _ => {}
        }
    }
    kinds.sort_unstable();
    found.twice = kinds.windows(2).any(|pair| matches!(pair, [one, next] if one == next));
    Some(found)
}

/// RFC 6066 section 3: a list with one entry, a host name without trailing dot.
fn read_server_name(content: &[u8]) -> Result<HostName, Reason> {
    let list = Octets(content).take_all_as_vector().ok_or(Reason::BadSni)?;
    let mut rest = Octets(list);
    let name = take_host_name(&mut rest).ok_or(Reason::BadSni)?;
    if !rest.is_empty() {
        // A second name of the same type is what a duplicate extension is: two servers, two
        // readings. An entry of another type has never been defined.
        let second = take_host_name(&mut rest).filter(|_| rest.is_empty());
        return Err(second.map_or(Reason::BadSni, |_| Reason::DuplicateExtension));
    }
    parse_host_name(name)
}

fn take_host_name<'a>(rest: &mut Octets<'a>) -> Option<&'a [u8]> {
    match rest.take(1)? {
        [HOST_NAME] => rest.take_vector(),
        _ => None,
    }
}

fn parse_host_name(octets: &[u8]) -> Result<HostName, Reason> {
    // The name type would fold both away: a server name is A-labels without a trailing dot.
    if !octets.is_ascii() || octets.ends_with(b".") {
        return Err(Reason::BadSni);
    }
    let text = str::from_utf8(octets).map_err(|_| Reason::BadSni)?;
    HostName::parse(text).map_err(|fault| {
        if fault == InvalidHostName::IpLiteral { Reason::IpLiteral } else { Reason::BadSni }
    })
}

/// Octets not read yet. Whatever does not fit is `None`.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn take_u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn take_short_vector(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length))
    }

    fn take_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.take_u16()?;
        self.take(usize::from(length))
    }

    fn take_all_as_vector(mut self) -> Option<&'a [u8]> {
        self.take_vector().filter(|_| self.is_empty())
    }
}

const CLIENT_HELLO: u8 = 1;
const HEADER_OCTETS: usize = 4;
const MAJOR_VERSION: u8 = 3;
const RANDOM_OCTETS: usize = 32;
const MAX_SESSION_ID_OCTETS: usize = 32;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d; // RFC 9849 section 5
const USUAL_EXTENSIONS: usize = 24;
