//! Grants on disk, so that a restart neither renews nor loses one: a line for each change, synced
//! before the call is answered; the last line of a SIM holds.
//!
//! The file names SIMs, so only its owner may read it. It is written anew when it is opened, and
//! when it has grown.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::ledger::History;
use crate::sims::SimId;

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    octets: u64,
}

/// Why grants cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("the journal of grants {} cannot be used", path.display())]
pub(crate) struct JournalError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Serialize, Deserialize)]
struct Line {
    sim: String,
    #[serde(flatten)]
    history: History,
}

impl Journal {
    /// Opens the journal at `path`, made if need be, with what it remembers.
    ///
    /// A last line that a power cut left half written was never answered for, and is left out.
    pub(super) fn open(path: &Path) -> Result<(Self, HashMap<SimId, History>), JournalError> {
        let failed = |source| JournalError { path: path.to_owned(), source };
        let mut known = HashMap::new();
        match File::open(path) {
            Ok(file) => {
                for line in BufReader::new(file).lines() {
                    let line = line.map_err(failed)?;
                    let Ok(Line { sim, history }) = serde_json::from_str(&line) else { continue };
                    if let Ok(sim) = SimId::parse(&sim) {
                        known.insert(sim, history);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let (file, octets) = write(path, &known).map_err(failed)?;
        Ok((Self { path: path.to_owned(), file, octets }, known))
    }

    /// Writes down what holds for `sim`; `all` is for the time when the file has grown too long.
    pub(super) fn append(
        &mut self,
        sim: SimId,
        history: &History,
        all: impl FnOnce() -> HashMap<SimId, History>,
    ) -> io::Result<()> {
        if self.octets > LENGTH_MAX {
            (self.file, self.octets) = write(&self.path, &all())?;
        }
        let line = line(sim, history)?;
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.octets += u64::try_from(line.len()).unwrap_or_default();
        Ok(())
    }
}

/// Puts a file with `known` in the place of `path`.
fn write(path: &Path, known: &HashMap<SimId, History>) -> io::Result<(File, u64)> {
    let new = path.with_extension("new");
    let mut file =
        File::options().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    let mut octets = 0;
    for (sim, history) in known {
        let line = line(*sim, history)?;
        file.write_all(&line)?;
        octets += u64::try_from(line.len()).unwrap_or_default();
    }
    file.sync_all()?;
    fs::rename(&new, path)?;
    Ok((file, octets))
}

fn line(sim: SimId, history: &History) -> io::Result<Vec<u8>> {
    let line = Line { sim: sim.whole(), history: history.clone() };
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    Ok(line)
}

/// Octets after which the file is written anew; a line has about 300.
const LENGTH_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::grants::Grant;

    fn history(second: i64) -> History {
        let ends = Timestamp::from_second(second + 300).unwrap();
        History {
            begun: vec![Timestamp::from_second(second).unwrap()],
            active: Some(Grant { number: 7, ends, bytes: 1000, used: 10 }),
        }
    }

    #[test]
    fn the_last_line_of_a_sim_holds_after_a_restart_and_half_a_line_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grants.jsonl");
        let sim = SimId::parse("iccid:8988247000100003319").unwrap();
        let other = SimId::parse("imsi:001010000000001").unwrap();
        let (mut journal, known) = Journal::open(&path).unwrap();
        assert!(known.is_empty());
        for (sim, second) in [(sim, 1000), (other, 1500), (sim, 2000)] {
            journal.append(sim, &history(second), HashMap::new).unwrap();
        }
        let half = r#"{"sim":"iccid:8988247000100003319","begun":["#;
        File::options().append(true).open(&path).unwrap().write_all(half.as_bytes()).unwrap();
        let (_, known) = Journal::open(&path).unwrap();
        assert_eq!(known, HashMap::from([(sim, history(2000)), (other, history(1500))]));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_journal_that_has_grown_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grants.jsonl");
        let sim = SimId::parse("iccid:8988247000100003319").unwrap();
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(sim, &history(1000), HashMap::new).unwrap();
        journal.octets = LENGTH_MAX + 1;
        let all = || HashMap::from([(sim, history(1000))]);
        journal.append(sim, &history(2000), all).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(Journal::open(&path).unwrap().1, HashMap::from([(sim, history(2000))]));
    }
}
