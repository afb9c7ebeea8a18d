//! Reading a document that a command names.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use policy::{Parts, Quic, Source, limits::MAX_DOCUMENT};

use crate::files;

/// A document as it lies on disk.
#[derive(Debug)]
pub(super) struct Document {
    /// The path as it was given.
    pub(super) name: String,
    /// Its text. One byte longer than any policy may be, if the file is longer still.
    pub(super) text: String,
}

/// What the node does with QUIC that the policy is for.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(super) enum QuicMode {
    /// It refuses QUIC.
    #[default]
    Reject,
    /// It looks into QUIC and judges the name.
    Inspect,
}

/// The file cannot be read, or is not text.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub(super) struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, Unreadable> {
        let read = || {
            let mut bytes = Vec::new();
            let most = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX).saturating_add(1);
            File::open(path)?.take(most).read_to_end(&mut bytes)?;
            if bytes.len() > MAX_DOCUMENT {
                // The cut may go through a character; what is left is too long all the same.
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            String::from_utf8(bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        };
        let text = read().map_err(|source| Unreadable { path: path.to_owned(), source })?;
        Ok(Self { name: path.display().to_string(), text })
    }

    /// The document with every file it names, ready to be compiled.
    pub(super) fn parts(&self) -> Parts<'_> {
        files::gather(&self.source())
    }

    /// The same, for a node that treats QUIC so.
    pub(super) fn parts_for(&self, quic: QuicMode) -> Parts<'_> {
        self.parts().for_node(match quic {
            QuicMode::Reject => Quic::Reject,
            QuicMode::Inspect => Quic::Inspect,
        })
    }

    pub(super) fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text }
    }
}
