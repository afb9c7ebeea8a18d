//! The process that takes a running gateway's place.

use std::{fs, time::Duration};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use super::{Gateway, GatewayError, pause};
use crate::clock;

/// A gateway that took over from the one that was started. It ends with this value.
#[derive(Debug)]
pub struct Successor<'g> {
    gateway: &'g Gateway,
    pid: Pid,
}

impl Gateway {
    /// Tells the gateway to start its successor (`SIGUSR2`), and waits until that one serves. The
    /// gateway itself goes on until its sessions have ended.
    ///
    /// # Errors
    /// When it is not running, or nobody says `READY` within
    /// [`UPGRADE_LIMIT`](Self::UPGRADE_LIMIT).
    pub fn upgrade(&self) -> Result<Successor<'_>, GatewayError> {
        self.signal(Signal::SIGUSR2)?;
        let running = self.running.lock().unwrap();
        let running = running.as_ref().ok_or(GatewayError::Down)?;
        let deadline = clock::now() + Self::UPGRADE_LIMIT;
        let not_ready =
            || GatewayError::NotReady { limit: Self::UPGRADE_LIMIT, log: self.log_tail() };
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            match running.lines.recv_timeout(left) {
                Ok(line) if line == "READY" => break,
                Ok(_) => {}
                Err(_) => return Err(not_ready()),
            }
        }
        let pid = child_of(running.child.id()).ok_or_else(not_ready)?;
        Ok(Successor { gateway: self, pid })
    }

    /// Waits until the process that was started has ended, as one that was replaced does.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait_for_end(&self, limit: Duration) -> Result<(), GatewayError> {
        let deadline = clock::now() + limit;
        while self.is_running() {
            if clock::now() >= deadline {
                return Err(GatewayError::NotStopped { limit, log: self.log_tail() });
            }
            pause(&self.namespace);
        }
        Ok(())
    }
}

impl Successor<'_> {
    /// Asks it to stop (`SIGTERM`), and waits until it has ended.
    ///
    /// # Errors
    /// When it has not within [`STOP_LIMIT`](Gateway::STOP_LIMIT).
    pub fn stop(self) -> Result<(), GatewayError> {
        signal::kill(self.pid, Signal::SIGTERM).map_err(|_| GatewayError::Down)?;
        let deadline = clock::now() + Gateway::STOP_LIMIT;
        while self.is_running() {
            if clock::now() >= deadline {
                let (limit, log) = (Gateway::STOP_LIMIT, self.gateway.log_tail());
                return Err(GatewayError::NotStopped { limit, log });
            }
            pause(&self.gateway.namespace);
        }
        Ok(())
    }

    /// Whether the process runs; one that nobody has reaped yet does not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        field(&stat, 0).is_some_and(|state| state != "Z")
    }
}

impl Drop for Successor<'_> {
    fn drop(&mut self) {
        let _ = signal::kill(self.pid, Signal::SIGKILL);
    }
}

/// A field of a process's `stat`, counted from the state: the name before it may hold anything.
fn field(stat: &str, place: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(place)
}

fn child_of(parent: u32) -> Option<Pid> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        (field(&stat, 1)?.parse() == Ok(parent)).then(|| Pid::from_raw(pid))
    })
}
