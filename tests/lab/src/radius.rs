//! RADIUS requests, octet by octet and apart from the code they are sent to: accounting (RFC 2866,
//! 3GPP TS 29.061 section 16.4) and orders (RFC 5176).

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

/// One request, not yet signed.
#[derive(Debug, Clone)]
pub struct Request {
    code: u8,
    identifier: u8,
    attributes: Vec<u8>,
}

/// What an accounting request says of its session, or of the NAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The session began.
    Start = 1,
    /// It ended.
    Stop = 2,
    /// It goes on.
    Interim = 3,
    /// The NAS begins to account: its sessions of before are no more.
    On = 7,
    /// The NAS goes away.
    Off = 8,
}

impl Request {
    /// An Accounting-Request.
    #[must_use]
    pub fn accounting(identifier: u8, status: Status) -> Self {
        let request = Self { code: 4, identifier, attributes: Vec::with_capacity(160) };
        request.with(40, &(status as u32).to_be_bytes())
    }

    /// A CoA-Request, with a Message-Authenticator.
    #[must_use]
    pub fn change(identifier: u8) -> Self {
        Self { code: 43, identifier, attributes: Vec::new() }.authenticated()
    }

    /// A Disconnect-Request, with a Message-Authenticator.
    #[must_use]
    pub fn disconnect(identifier: u8) -> Self {
        Self { code: 40, identifier, attributes: Vec::new() }.authenticated()
    }

    /// With a Message-Authenticator; signing fills it.
    #[must_use]
    pub fn authenticated(self) -> Self {
        self.with(MESSAGE_AUTHENTICATOR, &[0; 16])
    }

    /// With one more attribute.
    ///
    /// # Panics
    /// When the value has more than 253 octets.
    #[must_use]
    pub fn with(mut self, kind: u8, value: &[u8]) -> Self {
        let length = u8::try_from(value.len() + 2).expect("an attribute has at most 253 octets");
        self.attributes.extend([kind, length]);
        self.attributes.extend(value);
        self
    }

    /// With an address of the session: Framed-IP-Address, or the /64 as Framed-IPv6-Prefix.
    #[must_use]
    pub fn with_address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(8, &address.octets()),
            IpAddr::V6(address) => {
                let [prefix @ .., _, _, _, _, _, _, _, _] = address.octets();
                self.with(97, &[&[0, 64][..], &prefix].concat())
            }
        }
    }

    /// With 3GPP-IMSI.
    #[must_use]
    pub fn with_imsi(self, imsi: &str) -> Self {
        let length = u8::try_from(imsi.len() + 2).expect("an IMSI has 15 digits");
        let vendor = [&VENDOR_3GPP.to_be_bytes()[..], &[1, length], imsi.as_bytes()].concat();
        self.with(26, &vendor)
    }

    /// The octets, signed with a secret of at most 64 octets.
    ///
    /// # Panics
    /// When there are more attributes than a packet holds.
    #[must_use]
    pub fn signed(&self, secret: &str) -> Vec<u8> {
        let length = u16::try_from(HEADER + self.attributes.len()).expect("a packet is short");
        let mut packet = vec![self.code, self.identifier];
        packet.extend(length.to_be_bytes());
        packet.extend([0; 16]);
        packet.extend(&self.attributes);
        let mut at = HEADER;
        while let Some([kind, length, ..]) = packet.get(at..) {
            let (kind, length) = (*kind, usize::from(*length));
            if kind == MESSAGE_AUTHENTICATOR {
                let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).expect("any key");
                mac.update(&packet);
                put(&mut packet, at + 2, &mac.finalize().into_bytes());
            }
            at += length;
        }
        let digest = Md5::new().chain_update(&packet).chain_update(secret).finalize();
        put(&mut packet, 4, &digest);
        packet
    }
}

fn put(packet: &mut [u8], at: usize, value: &[u8]) {
    let field = packet.get_mut(at..at + value.len());
    field.expect("the field is in the packet").copy_from_slice(value);
}

const HEADER: usize = 20;
const MESSAGE_AUTHENTICATOR: u8 = 80;
const VENDOR_3GPP: u32 = 10_415;
