//! The audit log: what changed the gateway, by whom; one JSON line each, on disk before it counts.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{LogError, append};

/// The open audit log; without a file, events go to the program's log alone.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    file: Option<Mutex<File>>,
}

/// One event.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// The gateway is ready.
    Started { node: &'a str },
    /// Another process took this one's place; its sessions end in their own time.
    Replaced { node: &'a str, pid: u32 },
    /// The gateway ends.
    Stopped { node: &'a str },
    /// A policy came into force.
    PolicyPublished {
        name: &'a str,
        serial: u64,
        generation: u64,
        sha256: String,
        trigger: &'a str,
    },
    /// A policy was offered and did not come into force.
    PolicyRefused { result: &'a str, trigger: &'a str },
    /// An admin call without the right token.
    AdminRefused { path: &'a str },
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl Audit {
    /// Opens the log at `path`.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, LogError> {
        let file = path.map(append).transpose()?.map(Mutex::new);
        Ok(Self { file })
    }

    /// Writes `event` down and waits for the disk.
    pub(crate) fn write(&self, event: &Event<'_>, now: Timestamp) {
        let Some(file) = &self.file else { return };
        if let Err(error) = append_line(file, &Line { time: now, event }) {
            tracing::error!(%error, "audit log cannot be written");
        }
    }
}

fn append_line(file: &Mutex<File>, line: &Line<'_>) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    file.write_all(&text)?;
    file.sync_data()
}
