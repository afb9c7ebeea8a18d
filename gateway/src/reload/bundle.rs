//! A policy as it was read: its text and its signature; and the copy of the last good one, which
//! outlives the process.
//!
//! The copy is one JSON file, replaced as a whole. It is never trusted more than the policy file:
//! it is verified and compiled again before it comes into force.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::DOCUMENT_MAX;
use crate::{
    files,
    signature::{InvalidSignature, KeyId, Manifest, PublicKey, Signature},
};

/// The texts a policy is made of, with what was found beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bundle {
    format_version: u32,
    /// The policy file first, then the files it includes, in the order they are read.
    pub(super) parts: Vec<Part>,
    /// The text of the signature file.
    pub(super) signature: Option<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// The path it was read from.
    pub(super) name: String,
    pub(super) text: String,
}

/// Whether a bundle may be used where signatures are demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// No signature is demanded.
    NotAsked,
    /// Signed with a trusted key.
    Signed(KeyId),
}

/// Why a bundle may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    /// There is no signature.
    Unsigned,
    /// There is one, and it does not hold.
    Invalid(InvalidSignature),
}

impl Bundle {
    /// Of a document and the text of its signature file.
    pub(crate) fn of(parts: &policy::Parts<'_>, signature: Option<String>) -> Self {
        let named = |(name, text): (&str, &str)| Part { name: name.into(), text: text.into() };
        let parts = parts.names().zip(parts.texts()).map(named).collect();
        Self { format_version: FORMAT, parts, signature }
    }

    /// Reads what was written by [`Bundle::to_json`].
    pub(crate) fn from_json(octets: &[u8]) -> io::Result<Self> {
        let bundle: Self = serde_json::from_slice(octets)?;
        if bundle.format_version == FORMAT && !bundle.parts.is_empty() {
            Ok(bundle)
        } else {
            let message = format!("format {} is not known", bundle.format_version);
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }

    /// One JSON object.
    pub(crate) fn to_json(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Checks the signature over the `texts` that are compiled, in the order in which they are
    /// read, against the trusted `keys`; no keys: signatures are not asked for.
    pub(super) fn verify<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t str>,
        keys: &[PublicKey],
    ) -> Result<Trust, Distrust> {
        if keys.is_empty() {
            return Ok(Trust::NotAsked);
        }
        let text = self.signature.as_deref().ok_or(Distrust::Unsigned)?;
        let manifest = Manifest::of(texts.into_iter().map(str::as_bytes));
        Signature::parse(text)
            .and_then(|signature| signature.verify(&manifest, keys))
            .map(Trust::Signed)
            .map_err(Distrust::Invalid)
    }

    /// Replaces the copy in `path`; on disk when it returns.
    pub(super) fn keep(&self, path: &Path) -> io::Result<()> {
        files::replace(path, &self.to_json()?)
    }

    /// Reads the copy in `path`; `None` if there is none.
    pub(super) fn kept(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut octets = Vec::new();
        file.take(COPY_MAX).read_to_end(&mut octets)?;
        Self::from_json(&octets).map(Some)
    }
}

const FORMAT: u32 = 1;
/// Octets of the copy: JSON writes a line feed as two characters, other control characters as six.
const COPY_MAX: u64 = 6 * DOCUMENT_MAX + 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::PrivateKey;

    fn bundle(text: &str, signature: Option<String>) -> Bundle {
        let part = Part { name: "policy.toml".into(), text: text.into() };
        Bundle { format_version: FORMAT, parts: vec![part], signature }
    }

    #[test]
    fn the_copy_is_read_back_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last-good.json");
        assert_eq!(Bundle::kept(&path).unwrap(), None);
        for text in ["one\r\n\u{1}\"", "two"] {
            let bundle = bundle(text, Some("sig".into()));
            bundle.keep(&path).unwrap();
            assert_eq!(Bundle::kept(&path).unwrap(), Some(bundle));
        }
        let names: Vec<_> =
            folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["last-good.json"]);
    }

    #[test]
    fn a_damaged_copy_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last-good.json");
        bundle("text", None).keep(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(Bundle::kept(&path).is_err(), "{cut}");
        }
        std::fs::write(
            &path,
            r#"{"format_version":2,"parts":[{"name":"","text":""}],"signature":null}"#,
        )
        .unwrap();
        assert_eq!(Bundle::kept(&path).unwrap_err().to_string(), "format 2 is not known");
    }

    #[test]
    fn trust_needs_a_signature_over_the_text_by_a_trusted_key() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let keys = [key.public()];
        let sign = |key: &PrivateKey, text: &str| {
            Some(key.sign(&Manifest::of([text.as_bytes()])).to_string())
        };
        let verify = |signature, keys: &[PublicKey]| bundle("a", signature).verify(["a"], keys);
        assert_eq!(verify(None, &[]), Ok(Trust::NotAsked));
        assert_eq!(verify(None, &keys), Err(Distrust::Unsigned));
        assert_eq!(verify(sign(&key, "a"), &keys), Ok(Trust::Signed(key.public().id())));
        for signature in [sign(&other, "a"), sign(&key, "b"), Some("nonsense".into())] {
            let verified = verify(signature, &keys);
            assert!(matches!(verified, Err(Distrust::Invalid(_))), "{verified:?}");
        }
    }
}
