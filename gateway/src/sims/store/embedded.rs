//! The embedded store: one redb file. A commit is on the disk before it counts, so a killed process
//! or a power cut loses nothing that was confirmed; what was not confirmed is sent again.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, ReadableDatabase, TableDefinition, backends::FileBackend};

use crate::sims::rows::{Batch, Row};

/// An open file.
#[derive(Clone, Debug)]
pub(crate) struct Embedded {
    database: Arc<Database>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmbeddedError {
    /// It cannot be made or opened.
    #[error("cannot open the state file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no state file, is damaged, or another process has it.
    #[error("cannot use the state file {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// Reading or writing failed.
    #[error("the state file cannot be read or written")]
    Access(#[source] Box<redb::Error>),
    /// A row cannot be encoded.
    #[error("a row cannot be written down")]
    Encode(#[from] postcard::Error),
    /// The task that writes was lost.
    #[error("the write was broken off")]
    Broken,
}

impl Embedded {
    /// Opens the file at `path`, made for its owner's eyes only if there is none: it holds
    /// identities of SIMs.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is not a state file.
    pub(crate) fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| EmbeddedError::Open { path: path.to_owned(), source })?;
        let database = FileBackend::new(file)
            .and_then(|file| Database::builder().set_cache_size(CACHE).create_with_backend(file));
        let database = database.map_err(|error| EmbeddedError::Database {
            path: path.to_owned(),
            source: Box::new(error.into()),
        })?;
        Ok(Self { database: Arc::new(database) })
    }

    /// Hands every row over, in an order in which each finds what it speaks of: NAS, SIMs,
    /// bindings, grants. Returns how many rows could not be read.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(crate) fn load(&self, mut take: impl FnMut(&[Row])) -> Result<usize, EmbeddedError> {
        let mut read = || -> Result<usize, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(ROWS) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
            let mut unreadable = 0;
            for kind in ["n|", "s|", "a|", "g|"] {
                // '}' follows '|'.
                let end = kind.replace('|', "}");
                let mut rows = Vec::with_capacity(LOADED);
                for entry in table.range(kind..end.as_str())? {
                    match postcard::from_bytes(entry?.1.value()) {
                        Ok(row) => rows.push(row),
                        Err(_) => unreadable += 1,
                    }
                    if rows.len() == LOADED {
                        take(&rows);
                        rows.clear();
                    }
                }
                take(&rows);
            }
            Ok(unreadable)
        };
        read().map_err(|error| EmbeddedError::Access(Box::new(error)))
    }

    /// Writes a batch in one transaction.
    ///
    /// # Errors
    ///
    /// None of it is written.
    pub(crate) async fn commit(&self, batch: &Batch) -> Result<(), EmbeddedError> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(batch.rows.len());
        for (key, row) in &batch.rows {
            rows.push((key.clone(), row.as_ref().map(postcard::to_stdvec).transpose()?));
        }
        // Neighbours in the file are written together.
        rows.sort_unstable();
        let store = self.clone();
        let written = tokio::task::spawn_blocking(move || store.write(&rows)).await;
        written
            .map_err(|_| EmbeddedError::Broken)?
            .map_err(|error| EmbeddedError::Access(Box::new(error)))
    }

    fn write(&self, rows: &[(String, Option<Vec<u8>>)]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(ROWS)?;
            for (key, row) in rows {
                match row {
                    Some(row) => drop(table.insert(key.as_str(), row.as_slice())?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

/// Every row by its key, of which the first letter is the kind.
const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows-1");
/// Octets of the file that are kept in memory.
const CACHE: usize = 4 << 20;
/// Rows handed over at a time.
const LOADED: usize = 4096;
