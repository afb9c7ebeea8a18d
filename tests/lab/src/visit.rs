//! Entering a world that `postern lab up` keeps: where it is written down, how its namespaces are
//! joined, what to try there.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::{
    private::Started,
    world::{Form, World},
};

/// Why a world could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// No world is up.
    #[error("no lab is up; start one with `postern lab up` in another terminal")]
    NoneUp,
    /// There is no such namespace.
    #[error("there is no place called {asked:?}; there are ue1, ue2, gw and net")]
    NoSuchPlace {
        /// The name asked for.
        asked: String,
    },
    /// A file could not be written or a program could not be started.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Where a world that is up was written down; the note is removed when dropped by the process that
/// wrote it.
#[derive(Debug)]
pub(crate) struct Standing {
    note: Note,
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    pid: u32,
    /// Start time of the process in clock ticks, so that a later process of the same number is not
    /// taken for it.
    started: u64,
    directory: PathBuf,
    own_user: bool,
}

impl Standing {
    /// Writes down a world that was started.
    pub(crate) fn declare(started: &Started) -> io::Result<Self> {
        let note = Note {
            pid: started.pid,
            started: start_time(started.pid).unwrap_or_default(),
            directory: started.directory.clone(),
            own_user: started.own_user,
        };
        let file = note_file();
        // A note left by a killed process; find() has judged it stale.
        let _ = fs::remove_file(&file);
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)?
            .write_all(serde_json::to_string(&note).map_err(io::Error::other)?.as_bytes())?;
        Ok(Self { note, file: Some(file) })
    }

    /// The world that is up for this user, if one is.
    pub(crate) fn find() -> Option<Self> {
        let mut file = File::open(note_file()).ok()?;
        // The note may lie where others can write; one that is not ours would lead us into a
        // stranger's namespaces.
        if file.metadata().ok()?.uid() != Uid::current().as_raw() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let note: Note = serde_json::from_str(&text).ok()?;
        (start_time(note.pid)? == note.started).then_some(Self { note, file: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.note.pid
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
    }
}

/// Becomes a program (a shell when none is named) in one place of the world that is up, with the
/// lab's CA trusted.
///
/// # Errors
/// Returns only if it could not become that program.
pub fn visit(place: &str, command: &[OsString]) -> VisitError {
    let Some(standing) = Standing::find() else {
        return VisitError::NoneUp;
    };
    let note = &standing.note;
    if !Path::new(&format!("/proc/{}/root/run/netns", note.pid)).join(place).exists() {
        return VisitError::NoSuchPlace { asked: place.to_owned() };
    }
    let authority = note.directory.join("ca.pem");
    let mut nsenter = Command::new("nsenter");
    nsenter.arg("--target").arg(note.pid.to_string());
    if note.own_user {
        nsenter.args(["--user", "--preserve-credentials"]);
    }
    nsenter
        .args(["--mount", "--net"])
        // The noted process made the process namespace for its children and is not in it.
        .arg(format!("--pid=/proc/{}/ns/pid_for_children", note.pid))
        .args(["ip", "netns", "exec", place])
        .env("CURL_CA_BUNDLE", &authority)
        .env("SSL_CERT_FILE", &authority)
        .env("POSTERN_LAB", &note.directory);
    if command.is_empty() {
        let rc = note.directory.join("shellrc");
        let written =
            fs::write(&rc, format!("[ -f ~/.bashrc ] && . ~/.bashrc\nPS1='{place} \\w \\$ '\n"));
        if let Err(source) = written {
            return VisitError::Io { what: "writing the shell's start file", source };
        }
        nsenter.args(["bash", "--rcfile"]).arg(rc);
    } else {
        nsenter.args(command);
    }
    VisitError::Io { what: "starting nsenter (package util-linux)", source: nsenter.exec() }
}

/// What can be done with a world that is up.
pub(crate) fn guide(world: &World) -> String {
    let directory = world.directory().display();
    let program = env::current_exe().unwrap_or_else(|_| PathBuf::from("postern"));
    let program = program.display();
    let admin = world.gateway().admin_address().map_or_else(String::new, |a| a.to_string());
    let listening: Vec<_> = ["dns", "http", "https"]
        .iter()
        .map(|key| {
            let addresses: Vec<_> =
                world.gateway().listening(key).iter().map(ToString::to_string).collect();
            format!("{key} {}", addresses.join(" "))
        })
        .collect();
    let listening = listening.join(", ");
    match world.form() {
        Form::Namespaces => format!(
            "the lab is up; Ctrl-C ends it and leaves nothing behind
  SIMs ue1, ue2; gateway gw ({listening}); emulated Internet net
  policy   {directory}/policy.toml (edit it: it is read again by itself)
  CA       {directory}/ca.pem
  log      {directory}/gateway.log
  admin    http://{admin}/metrics, in gw
in another terminal:
  {program} lab shell ue1
  {program} lab shell ue1 -- kdig mps.datamart.windows.com
  {program} lab shell ue1 -- kdig +edns www.bing.com
  {program} lab shell ue1 -- curl -v https://login.live.com
  {program} lab shell ue1 -- curl -v https://ctldl.windowsupdate.com
  {program} lab shell gw -- curl http://{admin}/metrics"
        ),
        Form::Loopback => format!(
            "the lab is up on loopback; Ctrl-C ends it
  gateway  {listening}
  policy   {directory}/policy.toml
  CA       {directory}/ca.pem
  log      {directory}/gateway.log
  admin    http://{admin}/metrics
not shown here: steering, refused ports, QUIC, addresses of the SIM's choice"
        ),
    }
}

fn note_file() -> PathBuf {
    let user = Uid::current();
    let own = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .into_iter()
        .chain([PathBuf::from(format!("/run/user/{user}"))])
        .find(|directory| directory.is_dir());
    match own {
        Some(directory) => directory.join("postern-lab.json"),
        None => env::temp_dir().join(format!("postern-lab-{user}.json")),
    }
}

/// Field 22 of `/proc/PID/stat`: clock ticks from boot to the start of the process. A process that
/// ended and was not yet waited for has none.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    if fields.starts_with(['Z', 'X']) {
        return None;
    }
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_keeps_its_start_time_and_a_missing_one_has_none() {
        let own = std::process::id();
        assert!(start_time(own).is_some());
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(u32::MAX), None);
    }
}
