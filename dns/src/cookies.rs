//! Server cookies: whether an asker over UDP got our answers before, and so is no made-up source
//! (RFC 7873, in the form of RFC 9018, so that nodes that share their secrets know each other's).

use std::{
    fmt,
    hash::Hasher,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use siphasher::sip::SipHasher24;

use crate::wire::{Cookie, SERVER};

/// The secrets server cookies are made and known by: the first makes them, all know them.
#[derive(Clone)]
pub struct CookieSecrets(Vec<[u8; 16]>);

/// Why there are no secrets.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvalidCookieSecrets {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The file does not hold one to three lines of 32 hexadecimal digits.
    #[error("{} does not hold one to {MAX_SECRETS} lines of 32 hexadecimal digits", path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random octets.
    #[error("the system gives no random octets")]
    Random,
}

impl CookieSecrets {
    /// A secret that nobody else has, for a node by itself.
    ///
    /// # Errors
    ///
    /// The system gives no random octets.
    pub fn random() -> Result<Self, InvalidCookieSecrets> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|_| InvalidCookieSecrets::Random)?;
        Ok(Self(vec![secret]))
    }

    /// Reads a file of secrets, one a line. Nodes that share it know each other's cookies; to change
    /// the secret, add the new one below on all nodes, then put it first, then remove the old one
    /// (RFC 9018 section 5).
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds something else.
    pub fn load(path: &Path) -> Result<Self, InvalidCookieSecrets> {
        let text = std::fs::read_to_string(path).map_err(|source| InvalidCookieSecrets::Read {
            path: path.to_owned(),
            source: Arc::new(source),
        })?;
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let secret = |line: &&str| {
            let octets = data_encoding::HEXLOWER_PERMISSIVE.decode(line.as_bytes()).ok()?;
            octets.try_into().ok()
        };
        let secrets: Option<Vec<[u8; 16]>> = lines.iter().map(secret).collect();
        secrets
            .filter(|secrets| (1..=MAX_SECRETS).contains(&secrets.len()))
            .map(Self)
            .ok_or_else(|| InvalidCookieSecrets::Form { path: path.to_owned() })
    }

    /// The server cookie for an asker at `address`, `now` in seconds since 1970.
    pub(crate) fn make(&self, client: [u8; 8], address: IpAddr, now: u32) -> [u8; SERVER] {
        let [a, b, c, d] = now.to_be_bytes();
        let head = [VERSION, 0, 0, 0, a, b, c, d];
        self.0.first().map_or([0; SERVER], |secret| whole(secret, client, head, address))
    }

    /// Whether `cookie` is one of ours for an asker at `address` and not too old.
    pub(crate) fn know(&self, cookie: Cookie, address: IpAddr, now: u32) -> bool {
        let Some(server) = cookie.server else { return false };
        let Some((head, _)) = server.split_first_chunk::<8>() else { return false };
        let [version, _, _, _, made @ ..] = *head;
        // Serial number arithmetic (RFC 1982), as the standard asks for.
        let age = now.wrapping_sub(u32::from_be_bytes(made));
        let is_fresh = age <= MAX_AGE || age > u32::MAX - MAX_AHEAD;
        let is_ours = |secret| whole(secret, cookie.client, *head, address) == server;
        version == VERSION && is_fresh && self.0.iter().any(is_ours)
    }
}

impl fmt::Debug for CookieSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("CookieSecrets").field(&self.0.len()).finish()
    }
}

fn whole(secret: &[u8; 16], client: [u8; 8], head: [u8; 8], address: IpAddr) -> [u8; SERVER] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&client);
    hasher.write(&head);
    match address.to_canonical() {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    let mut cookie = [0; SERVER];
    let octets = head.into_iter().chain(hasher.finish().to_le_bytes());
    for (place, octet) in cookie.iter_mut().zip(octets) {
        *place = octet;
    }
    cookie
}

/// RFC 9018 section 4.1.
const VERSION: u8 = 1;
/// Seconds a cookie is good for (RFC 9018 section 4.3).
const MAX_AGE: u32 = 3_600;
/// Seconds by which another node's clock may be ahead (RFC 9018 section 4.3).
const MAX_AHEAD: u32 = 300;
/// Secrets in a file: the old, the one in use, the next.
const MAX_SECRETS: usize = 3;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use data_encoding::HEXLOWER;

    use super::{Cookie, CookieSecrets, InvalidCookieSecrets};

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    /// RFC 9018 appendix A.
    #[test]
    fn case_58_makes_the_standards_cookies() {
        let secrets = CookieSecrets(vec![hex("e5e973e5a6b2a43f48e7dc849e37bfcf")]);
        let client = hex("2464c4abcf10c957");
        let address = "198.51.100.100".parse().unwrap();
        let first = secrets.make(client, address, 1_559_731_985);
        assert_eq!(HEXLOWER.encode(&first), "010000005cf79f111f8130c3eee29480");
        let second = secrets.make(client, address, 1_559_734_385);
        assert_eq!(HEXLOWER.encode(&second), "010000005cf7a871d4a564a1442aca77");
        // Reserved octets that another implementation filled are part of what is hashed.
        let other = Cookie {
            client: hex("fc93fc62807ddb86"),
            server: Some(hex("01abcdef5cf78f71a314227b6679ebf5")),
        };
        assert!(secrets.know(other, "203.0.113.203".parse().unwrap(), 1_559_728_000));
    }

    #[test]
    fn case_58_knows_its_own_cookies_for_an_hour_and_through_a_change_of_secrets() {
        let (old, new) = (CookieSecrets(vec![[1; 16]]), CookieSecrets(vec![[2; 16], [1; 16]]));
        let (client, now) = ([7; 8], 1_788_264_000);
        let address = "2001:db8::7".parse().unwrap();
        let cookie = Cookie { client, server: Some(old.make(client, address, now)) };
        assert!(old.know(cookie, address, now + 3_600) && !old.know(cookie, address, now + 3_601));
        assert!(old.know(cookie, address, now - 300) && !old.know(cookie, address, now - 301));
        assert!(new.know(cookie, address, now), "the old secret is still known");
        assert!(!CookieSecrets(vec![[2; 16]]).know(cookie, address, now));
        assert!(!old.know(cookie, "2001:db8::8".parse().unwrap(), now), "somebody else's");
        assert!(!old.know(Cookie { client: [8; 8], ..cookie }, address, now));
        assert!(!old.know(Cookie { server: None, ..cookie }, address, now));
    }

    #[test]
    fn case_58_reads_one_to_three_secrets_and_nothing_else() {
        let read = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            CookieSecrets::load(file.path())
        };
        let line = "e5e973e5a6b2a43f48e7dc849e37bfcf\n";
        for (text, count) in [(line.to_owned(), 1), (format!("{line}\n{line}{line}"), 3)] {
            assert_eq!(read(&text).unwrap().0.len(), count);
        }
        for text in ["", "e5e9\n", &line.replace('e', "g"), &line.repeat(4)] {
            assert!(matches!(read(text), Err(InvalidCookieSecrets::Form { .. })), "{text:?}");
        }
    }
}
