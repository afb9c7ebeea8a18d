//! Load by dnsperf, on the second core.

use std::{path::Path, process::Command};

use crate::servers::{Cpu, Server};

/// One run of dnsperf against one server.
pub(crate) struct Run {
    pub(crate) completed: f64,
    pub(crate) lost: f64,
    pub(crate) qps: f64,
    /// CPU of the server, microseconds a question.
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// Asks what `questions` holds, again and again, for `seconds`.
pub(crate) fn run(server: &Server, questions: &Path, seconds: u32, more: &[&str]) -> Run {
    let before = server.cpu();
    let output = Command::new("taskset")
        .args(["-c", CLIENT_CORE, "dnsperf", "-e", "-T", "1", "-c", "8", "-q", "200"])
        .args(["-s", &server.address.ip().to_string()])
        .args(["-p", &server.address.port().to_string()])
        .args(["-l", &seconds.to_string()])
        .args(["-d", questions.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |label: &str| -> f64 {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (completed, after) = (number("Queries completed:"), server.cpu());
    let each = |of: fn(&Cpu) -> f64| (of(&after) - of(&before)) * 1e6 / completed;
    Run {
        completed,
        lost: number("Queries lost:"),
        qps: number("Queries per second:"),
        user: each(|cpu| cpu.user),
        system: each(|cpu| cpu.system),
    }
}

/// The core that asks.
pub(crate) const CLIENT_CORE: &str = "1";
