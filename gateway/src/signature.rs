//! Signed policies: Ed25519 (RFC 8032) over a manifest of everything a policy is made of.
//!
//! The manifest is text: `postern-policy 1`, then one line `sha256 HEX` for the policy file and one
//! for every file it includes, in the order they are read. Which file stands behind an include is
//! said in the policy file, so the digests bind names and contents.
//!
//! Keys are PEM: PKCS #8 (RFC 8410) for the private, SubjectPublicKeyInfo for the public one, as
//! `openssl genpkey -algorithm ed25519` writes them. A signature is a text file of three lines:
//!
//! ```text
//! postern-signature 1
//! key HEX        the first 8 octets of the SHA-256 of the public key
//! ed25519 HEX    the signature's 64 octets
//! ```

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ed25519_dalek::{
    Signer, SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
        spki::der::pem::LineEnding,
    },
};
use sha2::{Digest, Sha256};

/// A key that makes signatures. Never printed.
pub(crate) struct PrivateKey(SigningKey);

/// A key that checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(VerifyingKey);

/// Names a key in signature files and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyId([u8; KEY_ID]);

/// A signature as it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    key: KeyId,
    octets: [u8; ed25519_dalek::SIGNATURE_LENGTH],
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest(String);

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is there already, or cannot be made.
    #[error("cannot write the key {}; keys are never overwritten", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Others could have read the private key.
    #[error("the private key {} has mode {mode:03o}; others must not read it: chmod 600", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    /// The file is no PEM of an Ed25519 key of the wanted kind.
    #[error("{} is not a PEM file with an Ed25519 {kind} key", path.display())]
    Pem { path: PathBuf, kind: &'static str },
    /// The system gave no random octets.
    #[error("the system gives no random octets for a key")]
    Random,
}

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSignature {
    /// The text is not a signature file.
    #[error("the signature file is not three lines `postern-signature 1`, `key …`, `ed25519 …`")]
    Malformed,
    /// Made with a key that is not trusted.
    #[error("the signature was made with key {key}, which is not among the trusted ones")]
    UnknownKey { key: KeyId },
    /// The key is trusted, but it did not sign these octets.
    #[error("the signature with key {key} is not over these files")]
    Mismatch { key: KeyId },
}

impl PrivateKey {
    /// A new key.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; ed25519_dalek::SECRET_KEY_LENGTH];
        getrandom::fill(&mut seed).map_err(|_| KeyError::Random)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Reads the key in `path`; a file that others may read is refused.
    pub(crate) fn load(path: &Path) -> Result<Self, KeyError> {
        let read = |source| KeyError::Read { path: path.to_owned(), source };
        let mode = std::fs::metadata(path).map_err(read)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let text = text_of(path).map_err(read)?;
        SigningKey::from_pkcs8_pem(&text)
            .map(Self)
            .map_err(|_| KeyError::Pem { path: path.to_owned(), kind: "private" })
    }

    /// Writes the key to a new file that only the owner can read.
    pub(crate) fn write(&self, path: &Path) -> Result<(), KeyError> {
        // Without the public part: the older form is the one every tool reads.
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let pem = pair
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyError::Pem { path: path.to_owned(), kind: "private" })?;
        write_new(path, 0o600, pem.as_bytes())
    }

    /// The key that checks what this one signs.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `manifest`.
    pub(crate) fn sign(&self, manifest: &Manifest) -> Signature {
        let octets = self.0.sign(manifest.0.as_bytes()).to_bytes();
        Signature { key: self.public().id(), octets }
    }
}

impl PublicKey {
    /// Reads the key in `path`.
    pub(crate) fn load(path: &Path) -> Result<Self, KeyError> {
        let text =
            text_of(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
        VerifyingKey::from_public_key_pem(&text)
            .map(Self)
            .map_err(|_| KeyError::Pem { path: path.to_owned(), kind: "public" })
    }

    /// Writes the key to a new file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), KeyError> {
        let pem = self
            .0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| KeyError::Pem { path: path.to_owned(), kind: "public" })?;
        write_new(path, 0o644, pem.as_bytes())
    }

    /// The key's name.
    pub(crate) fn id(&self) -> KeyId {
        let mut id = [0; KEY_ID];
        for (octet, digest) in id.iter_mut().zip(Sha256::digest(self.0.as_bytes())) {
            *octet = digest;
        }
        KeyId(id)
    }
}

impl Manifest {
    /// Of the policy file and every file it includes, in the order they are read.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut text = format!("{MANIFEST}\n");
        for part in parts {
            text.push_str("sha256 ");
            text.push_str(&hex(&Sha256::digest(part)));
            text.push('\n');
        }
        Self(text)
    }
}

impl Signature {
    /// Reads the text of a signature file.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidSignature> {
        let mut lines = text.lines();
        let (header, key, octets) = (lines.next(), lines.next(), lines.next());
        let key = key.and_then(|line| line.strip_prefix("key ")).and_then(unhex);
        let octets = octets.and_then(|line| line.strip_prefix("ed25519 ")).and_then(unhex);
        match (header, key, octets, lines.next()) {
            (Some(HEADER), Some(key), Some(octets), None) => Ok(Self { key: KeyId(key), octets }),
            (_, _, _, _) => Err(InvalidSignature::Malformed),
        }
    }

    /// Checks that one of `keys` made this signature over `manifest`; says which.
    pub(crate) fn verify(
        &self,
        manifest: &Manifest,
        keys: &[PublicKey],
    ) -> Result<KeyId, InvalidSignature> {
        let key = self.key;
        let trusted = keys
            .iter()
            .find(|trusted| trusted.id() == key)
            .ok_or(InvalidSignature::UnknownKey { key })?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.octets);
        trusted
            .0
            .verify_strict(manifest.0.as_bytes(), &signature)
            .map(|()| key)
            .map_err(|_| InvalidSignature::Mismatch { key })
    }
}

/// Where the signature of the policy in `path` lies.
pub(crate) fn signature_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{HEADER}\nkey {}\ned25519 {}", self.key, hex(&self.octets))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(…)")
    }
}

/// Reads a small text file.
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SMALL_FILE_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= SMALL_FILE_MAX) {
        Ok(text)
    } else {
        let message = format!("more than {SMALL_FILE_MAX} octets");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, message))
    }
}

fn write_new(path: &Path, mode: u32, text: &[u8]) -> Result<(), KeyError> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text)?;
        file.sync_all()
    };
    write().map_err(|source| KeyError::Write { path: path.to_owned(), source })
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Exactly `N` octets in lower-case hexadecimal: a signature has one spelling.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = text.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != 2 * N || !lower {
        return None;
    }
    let mut octets = [0; N];
    for (index, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(octets)
}

/// First line of a manifest.
const MANIFEST: &str = "postern-policy 1";
/// First line of a signature file.
const HEADER: &str = "postern-signature 1";
/// Octets of a key's name.
const KEY_ID: usize = 8;
/// Octets of a key or signature file; real ones have about 200.
const SMALL_FILE_MAX: u64 = 4096;

#[cfg(test)]
mod tests;
