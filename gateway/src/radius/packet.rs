//! RADIUS packets as bytes: bounds, authenticators, replies (RFC 2865, 2866, 3579, 5176).
//!
//! Nothing here believes a length it was sent. A packet whose authenticator does not fit its
//! secret is never read further.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

/// A shared secret; it never prints.
#[derive(Clone)]
pub(crate) struct Secret(Box<[u8]>);

/// What a packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Accounting (RFC 2866).
    Accounting,
    /// Change of authorisation (RFC 5176).
    Change,
    /// End of a session (RFC 5176).
    Disconnect,
}

/// One request, its attributes within bounds, not yet believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'p> {
    code: Code,
    bytes: &'p [u8],
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'p> {
    /// Its number.
    pub(crate) kind: u8,
    /// Its content.
    pub(crate) value: &'p [u8],
}

/// Why a datagram is dropped without an answer; also the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Shorter than a header, or than it says.
    #[error("the packet is cut off")]
    Truncated,
    /// It says to be shorter than a header or longer than any packet.
    #[error("the packet's length is not between {HEADER} and {PACKET_MAX}")]
    Length,
    /// A code that is not served here.
    #[error("the packet asks for something that is not served here")]
    Code,
    /// An attribute reaches past the end, or is shorter than its own header.
    #[error("an attribute does not fit")]
    Attribute,
    /// The authenticator is not of the secret.
    #[error("the authenticator does not fit the secret")]
    Authenticator,
    /// A Message-Authenticator that is wrong, or demanded and absent.
    #[error("the Message-Authenticator is wrong or absent")]
    MessageAuthenticator,
}

impl Secret {
    /// Takes the content of a secret file; white space at the ends does not count.
    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        (!text.is_empty()).then(|| Self(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl<'p> Packet<'p> {
    /// Checks the bounds of everything in a datagram. Octets behind the packet are padding
    /// (RFC 2865 section 3).
    ///
    /// # Errors
    ///
    /// Something does not fit.
    pub(crate) fn parse(datagram: &'p [u8]) -> Result<Self, Malformed> {
        let Some([code, _, high, low]) = datagram.first_chunk() else {
            return Err(Malformed::Truncated);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(HEADER..=PACKET_MAX).contains(&length) {
            return Err(Malformed::Length);
        }
        let bytes = datagram.get(..length).ok_or(Malformed::Truncated)?;
        let code = match code {
            4 => Code::Accounting,
            40 => Code::Disconnect,
            43 => Code::Change,
            _ => return Err(Malformed::Code),
        };
        let packet = Self { code, bytes };
        let mut rest = packet.body();
        while !rest.is_empty() {
            (_, rest) = split(rest).ok_or(Malformed::Attribute)?;
        }
        Ok(packet)
    }

    /// What it asks for.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Its number among the sender's.
    pub(crate) fn identifier(&self) -> u8 {
        self.bytes.get(1).copied().unwrap_or_default()
    }

    /// Its authenticator: with the identifier, what tells a repetition.
    pub(crate) fn authenticator(&self) -> [u8; 16] {
        self.bytes.get(4..HEADER).and_then(|field| field.try_into().ok()).unwrap_or_default()
    }

    /// Its attributes, in order.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = Attribute<'p>> + use<'p> {
        attributes(self.body())
    }

    /// Whether it was made with `secret`: the Request Authenticator (RFC 2866 section 3, RFC 5176
    /// section 2.3), and the Message-Authenticator where there is one or `demanded`.
    ///
    /// # Errors
    ///
    /// It was not.
    pub(crate) fn verify(&self, secret: &Secret, demanded: bool) -> Result<(), Malformed> {
        let digest = Md5::new()
            .chain_update(self.bytes.get(..4).unwrap_or_default())
            .chain_update([0; 16])
            .chain_update(self.body())
            .chain_update(&secret.0);
        if !same(&digest.finalize(), &self.authenticator()) {
            return Err(Malformed::Authenticator);
        }
        let mut found =
            self.attributes().filter(|attribute| attribute.kind == MESSAGE_AUTHENTICATOR);
        match (found.next(), found.next()) {
            (None, _) if !demanded => Ok(()),
            (Some(attribute), None) if attribute.value.len() == 16 => {
                let mut unsigned = self.bytes.to_vec();
                if let Some(field) = unsigned.get_mut(4..HEADER) {
                    field.fill(0);
                }
                blank_message_authenticator(&mut unsigned);
                let mut mac = keyed(secret);
                mac.update(&unsigned);
                mac.verify_slice(attribute.value).map_err(|_| Malformed::MessageAuthenticator)
            }
            (None | Some(_), _) => Err(Malformed::MessageAuthenticator),
        }
    }

    /// The answer that grants or refuses what was asked: every Proxy-State unchanged and in order
    /// (RFC 2865 section 5.33), to an order signed as the order was.
    pub(crate) fn reply(&self, secret: &Secret, refused: Option<ErrorCause>) -> Vec<u8> {
        let code = match (self.code, refused.is_some()) {
            (Code::Accounting, _) => 5,
            (Code::Disconnect, false) => 41,
            (Code::Disconnect, true) => 42,
            (Code::Change, false) => 44,
            (Code::Change, true) => 45,
        };
        let mut reply = vec![code, self.identifier(), 0, 0];
        reply.extend(self.authenticator());
        // Not for accounting: no RFC says which authenticator its answers are signed over, and
        // FreeRADIUS takes another than those of orders.
        let signed = !matches!(self.code, Code::Accounting)
            && self.attributes().any(|attribute| attribute.kind == MESSAGE_AUTHENTICATOR);
        if signed {
            reply.extend([MESSAGE_AUTHENTICATOR, 18]);
            reply.extend([0; 16]);
        }
        for attribute in self.attributes().filter(|attribute| attribute.kind == PROXY_STATE) {
            // Within a packet's bounds: the request that brought them was.
            let length = u8::try_from(attribute.value.len() + 2).unwrap_or(u8::MAX);
            reply.extend([PROXY_STATE, length]);
            reply.extend(attribute.value);
        }
        // What the request brought fits a packet; the cause may be one attribute too many.
        if let Some(cause) = refused.filter(|_| reply.len() + 6 <= PACKET_MAX) {
            reply.extend([ERROR_CAUSE, 6]);
            reply.extend(u32::from(cause.number()).to_be_bytes());
        }
        let length = u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes();
        put(&mut reply, 2, &length);
        if signed {
            let mut mac = keyed(secret);
            mac.update(&reply);
            let tag = mac.finalize().into_bytes();
            put(&mut reply, HEADER + 2, &tag);
        }
        // The request's authenticator stands where the response's goes (RFC 2865 section 3).
        let digest = Md5::new().chain_update(&reply).chain_update(&secret.0).finalize();
        put(&mut reply, 4, &digest);
        reply
    }

    fn body(&self) -> &'p [u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// Why an order is refused (RFC 5176 section 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCause {
    /// What is needed to obey was not sent.
    MissingAttribute,
    /// Not one of the states.
    InvalidValue,
    /// No such session or SIM.
    NotFound,
    /// No room.
    Resources,
}

impl ErrorCause {
    fn number(self) -> u16 {
        match self {
            Self::MissingAttribute => 402,
            Self::InvalidValue => 407,
            Self::NotFound => 503,
            Self::Resources => 506,
        }
    }
}

impl Malformed {
    /// The fault's name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Length => "bad-length",
            Self::Code => "bad-code",
            Self::Attribute => "bad-attribute",
            Self::Authenticator => "bad-authenticator",
            Self::MessageAuthenticator => "bad-message-authenticator",
        }
    }
}

/// The attributes of a body or of a vendor's attribute; what does not fit ends them.
pub(super) fn attributes(body: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (attribute, next) = split(rest)?;
        rest = next;
        Some(attribute)
    })
}

/// The first attribute and what follows it.
pub(super) fn split(body: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (kind, rest) = body.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (value, rest) = rest.split_at_checked(usize::from(*length).checked_sub(2)?)?;
    Some((Attribute { kind: *kind, value }, rest))
}

fn blank_message_authenticator(bytes: &mut [u8]) {
    let mut at = HEADER;
    while let Some([kind, length]) = bytes.get(at..).and_then(|rest| rest.first_chunk().copied()) {
        if kind == MESSAGE_AUTHENTICATOR {
            put(bytes, at + 2, &[0; 16]);
        }
        at += usize::from(length.max(2));
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(field) = bytes.get_mut(at..at + value.len()) {
        field.copy_from_slice(value);
    }
}

/// In the same time wherever the first difference lies.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).fold(0, |unlike, (one, other)| unlike | (one ^ other)) == 0
}

fn keyed(secret: &Secret) -> Hmac<Md5> {
    // HMAC takes keys of every length (RFC 2104 section 2).
    Hmac::new_from_slice(&secret.0).unwrap_or_else(|_| unreachable!("HMAC takes every key"))
}

/// Octets before the attributes.
pub(crate) const HEADER: usize = 20;
/// Octets of the longest packet (RFC 2865 section 3).
pub(crate) const PACKET_MAX: usize = 4096;
const PROXY_STATE: u8 = 33;
const MESSAGE_AUTHENTICATOR: u8 = 80;
const ERROR_CAUSE: u8 = 101;

#[cfg(test)]
pub(crate) mod tests;
