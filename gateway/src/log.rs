//! What the program writes down: its own log, the decision log, the audit log.

mod audit;
mod decisions;
mod program;
mod pseudonym;

pub(crate) use audit::{Audit, Event};
pub(crate) use decisions::{DecisionLog, OpenError, session_id};
pub(crate) use program::{LogFormat, start as start_program_log};
pub(crate) use pseudonym::{PseudonymError, Pseudonyms};

use std::{
    fs::File,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The file cannot be opened for appending.
    #[error("cannot append to {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key of the pseudonyms cannot be used.
    #[error(transparent)]
    Pseudonym(#[from] PseudonymError),
}

/// Opens for appending, readable by the owner and the group: the lines speak of people.
fn append(path: &Path) -> Result<File, LogError> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|source| LogError::Open { path: path.to_owned(), source })
}
