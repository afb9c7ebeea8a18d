//! Keyed pseudonyms: a subscriber can be followed through a log, and not be found out from it.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Makes pseudonyms: HMAC-SHA-256 of the address (IPv6: of its /64), cut to 128 bits.
///
/// A plain hash could be undone by trying every address; the key makes that impossible without it.
#[derive(Clone)]
pub(crate) struct Pseudonyms {
    keyed: Hmac<Sha256>,
}

/// Why there can be no pseudonyms.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PseudonymError {
    /// The key file cannot be read.
    #[error("cannot read the pseudonym key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key is too short to resist trial.
    #[error("the pseudonym key {} has {length} octets; at least {KEY_MIN}", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The system gave no random octets.
    #[error("the system gives no random octets for a pseudonym key")]
    Random,
}

impl Pseudonyms {
    /// With the key in `file`, or with a random one that lasts as long as the process.
    pub(crate) fn new(file: Option<&Path>) -> Result<Self, PseudonymError> {
        let key = match file {
            Some(path) => std::fs::read(path)
                .map_err(|source| PseudonymError::Read { path: path.to_owned(), source })?,
            None => {
                let mut key = vec![0; KEY_MIN];
                getrandom::fill(&mut key).map_err(|_| PseudonymError::Random)?;
                key
            }
        };
        if key.len() < KEY_MIN {
            let path = file.map(Path::to_owned).unwrap_or_default();
            return Err(PseudonymError::Short { path, length: key.len() });
        }
        // HMAC takes keys of every length (RFC 2104 section 2).
        let keyed = Hmac::new_from_slice(&key).map_err(|_| PseudonymError::Random)?;
        Ok(Self { keyed })
    }

    /// The pseudonym of whoever is behind `address`.
    pub(crate) fn of(&self, address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) => self.over(&address.octets()),
            IpAddr::V6(address) => self.over(&(address.to_bits() >> 64).to_be_bytes()),
        }
    }

    /// The pseudonym of a SIM, by the text that names it.
    pub(crate) fn of_text(&self, text: &str) -> String {
        self.over(text.as_bytes())
    }

    fn over(&self, octets: &[u8]) -> String {
        let mut mac = self.keyed.clone();
        mac.update(octets);
        let digest = mac.finalize().into_bytes();
        digest.iter().take(16).map(|octet| format!("{octet:02x}")).collect()
    }
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Pseudonyms(…)")
    }
}

/// Octets of a key; the length of the digest (RFC 2104 section 3).
const KEY_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_follow_a_subscriber_and_depend_on_the_key() {
        let (one, two) = (Pseudonyms::new(None).unwrap(), Pseudonyms::new(None).unwrap());
        let address = |text: &str| text.parse().unwrap();
        let name = one.of(address("100.64.0.1"));
        assert_eq!(name.len(), 32);
        assert_eq!(name, one.of(address("100.64.0.1")));
        assert_ne!(name, one.of(address("100.64.0.2")));
        assert_ne!(name, two.of(address("100.64.0.1")));
        assert_eq!(one.of(address("2001:db8:64::1")), one.of(address("2001:db8:64::2")));
        assert_ne!(one.of(address("2001:db8:64::1")), one.of(address("2001:db8:64:1::1")));
    }

    #[test]
    fn refuses_a_short_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 31]).unwrap();
        let error = Pseudonyms::new(Some(file.path())).unwrap_err();
        assert!(error.to_string().ends_with("31 octets; at least 32"), "{error}");
    }
}
