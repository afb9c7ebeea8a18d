//! Watches whether the servers' core is there at all: a program that the kernel prefers to every
//! other, and that asks to run every moment, is late only when the host keeps the core for itself.

use std::{
    io::Read as _,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use crate::{client::now, servers::preferred};

/// One time for which the core stood still: its beginning and its end.
pub(crate) type Standstill = (Duration, Duration);

/// The watching program.
pub(crate) struct Sentinel(Child);

impl Sentinel {
    pub(crate) fn start() -> Self {
        Self(preferred("sentinel", "50").stdout(Stdio::piped()).spawn().unwrap())
    }

    /// What was seen since the start.
    pub(crate) fn end(mut self) -> Vec<Standstill> {
        self.0.kill().unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.wait().unwrap();
        let time = |text: &str| Duration::from_nanos(text.parse().unwrap());
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(from, to)| (time(from), time(to))).collect()
    }
}

/// What the program does, until it is killed.
pub(crate) fn watch() {
    println!();
    let mut due = now();
    loop {
        due += MOMENT;
        thread::sleep(due.saturating_sub(now()));
        let at = now();
        if at.saturating_sub(due) > LATE {
            println!("{} {}", due.as_nanos(), at.as_nanos());
            due = at;
        }
    }
}

/// From one look to the next: a hundredth of the core at most.
const MOMENT: Duration = Duration::from_micros(500);
/// Later than any other reason makes it.
const LATE: Duration = Duration::from_micros(500);
