//! Signatures of webhooks, as the Standard Webhooks specification 1.0.0 has them.
//!
//! `webhook-id`, `webhook-timestamp` and the body are signed together by HMAC-SHA-256 with a shared
//! key. A comparison takes the same time whatever was sent.

use std::{
    io,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The shared key of one sender and one receiver.
#[derive(Clone)]
pub(crate) struct Seal(Hmac<Sha256>);

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("cannot read the webhook key {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the webhook key {} is not `whsec_` and base64", path.display())]
    Form { path: PathBuf },
    #[error("the webhook key {} has {length} octets; {KEY_MIN} to {KEY_MAX} are allowed", path.display())]
    Length { path: PathBuf, length: usize },
}

impl Seal {
    /// Reads a key file: `whsec_` and the key in base64.
    pub(crate) fn load(path: &Path) -> Result<Self, SealError> {
        let path = || path.to_owned();
        let text = crate::signature::text_of(&path())
            .map_err(|source| SealError::Read { path: path(), source })?;
        let encoded = text.trim().strip_prefix("whsec_");
        let key = encoded.and_then(|encoded| BASE64.decode(encoded.as_bytes()).ok());
        let key = key.ok_or_else(|| SealError::Form { path: path() })?;
        if !(KEY_MIN..=KEY_MAX).contains(&key.len()) {
            return Err(SealError::Length { path: path(), length: key.len() });
        }
        // HMAC takes keys of every length (RFC 2104 section 2).
        Hmac::new_from_slice(&key).map(Self).map_err(|_| SealError::Form { path: path() })
    }

    /// The value of `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        format!("v1,{}", BASE64.encode(&self.over(id, timestamp, body).finalize().into_bytes()))
    }

    /// Whether one of the signatures in `header` is by this key. There may be several, parted by
    /// blanks, while keys change.
    pub(crate) fn holds(&self, header: &str, id: &str, timestamp: &str, body: &[u8]) -> bool {
        header
            .split_ascii_whitespace()
            .take(SIGNATURES_MAX)
            .filter_map(|signature| BASE64.decode(signature.strip_prefix("v1,")?.as_bytes()).ok())
            .any(|tag| self.over(id, timestamp, body).verify_slice(&tag).is_ok())
    }

    fn over(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Seal(…)")
    }
}

/// Octets of a key (Standard Webhooks, "signature scheme": between 24 and 64).
const KEY_MIN: usize = 24;
const KEY_MAX: usize = 64;
/// Signatures of one message that are looked at.
const SIGNATURES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn load(key: &str) -> Result<Seal, SealError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key).unwrap();
        Seal::load(file.path())
    }

    #[test]
    fn signs_as_the_specification_shows() {
        let seal = load(KEY).unwrap();
        assert_eq!(seal.sign(ID, TIMESTAMP, BODY), SIGNATURE);
        assert!(seal.holds(SIGNATURE, ID, TIMESTAMP, BODY));
        assert!(seal.holds(&format!("v1,AAAA v1a,x {SIGNATURE}"), ID, TIMESTAMP, BODY));
    }

    #[test]
    fn no_part_can_be_changed() {
        let seal = load(KEY).unwrap();
        for (signature, id, timestamp, body) in [
            ("", ID, TIMESTAMP, BODY),
            ("v1,", ID, TIMESTAMP, BODY),
            ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=", ID, TIMESTAMP, BODY),
            (&SIGNATURE[3..], ID, TIMESTAMP, BODY),
            (&format!("{0} {0} {0} {0} {SIGNATURE}", "v1,AAAA"), ID, TIMESTAMP, BODY),
            (SIGNATURE, "msg_p5jXN8AQM9LWM0D4loKWxJeK", TIMESTAMP, BODY),
            (SIGNATURE, ID, "1614265331", BODY),
            (SIGNATURE, ID, TIMESTAMP, &BODY[1..]),
        ] {
            assert!(!seal.holds(signature, id, timestamp, body), "{signature}");
        }
        let other = load("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx").unwrap();
        assert!(!other.holds(SIGNATURE, ID, TIMESTAMP, BODY));
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused_without_being_shown() {
        for key in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_*", "whsec_AAAA"] {
            let error = load(key).unwrap_err().to_string();
            assert!(key.is_empty() || !error.contains(key), "{error}");
        }
        assert_eq!(format!("{:?}", load(KEY).unwrap()), "Seal(…)");
    }
}
