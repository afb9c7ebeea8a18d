//! Steering: brings subscribers' traffic to the listeners and refuses the rest in the kernel.
//!
//! One nftables table and, for TPROXY, one rule and one route a family. The last rule of the
//! forward chain refuses whatever the proxy did not take: TPROXY alone lets packets through when
//! its listener is gone. The table outlives a killed process, so the garden stays shut.

mod ruleset;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

pub(crate) use ruleset::Ports;

use policy::Policy;

use crate::config::{SteeringConfig, SteeringMode};

/// Steering that is in force; removed by [`Steering::remove`], left behind by everything else.
#[derive(Debug)]
pub(crate) struct Steering {
    config: SteeringConfig,
    /// Kernel settings as they were, to be put back.
    settings: Vec<(PathBuf, String)>,
}

/// Why steering could not be put in place or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SteeringError {
    /// A program is not there.
    #[error("`{program}` is not installed; install the package {package}")]
    Missing { program: &'static str, package: &'static str },
    /// A program could not be started.
    #[error("cannot run `{program}`")]
    Run { program: &'static str, source: io::Error },
    /// A program refused, for want of rights.
    #[error("`{command}` is not permitted; run as root or with CAP_NET_ADMIN")]
    NotPermitted { command: String },
    /// A program refused.
    #[error("`{command}` failed: {said}")]
    Refused { command: String, said: String },
    /// No listener of a family that traffic is to be steered to.
    #[error("no {service} listener for {family}; subscribers of that family would be shut out")]
    NoListener { service: &'static str, family: &'static str },
}

impl Steering {
    /// Loads the table and the routes; what an earlier process left is replaced in one step.
    pub(crate) fn install(
        config: &SteeringConfig,
        ports: &Ports,
        policy: &Policy,
    ) -> Result<Self, SteeringError> {
        let text = ruleset::ruleset(config, ports)?;
        run_with_input("nft", &["-f", "-"], &(text + &ruleset::sets(policy)))?;
        let mut steering = Self { config: config.clone(), settings: Vec::new() };
        if let Err(error) = steering.install_routes() {
            // Half a steering would be worse than none: the caller exits, so take back the table.
            let _ = steering.remove();
            return Err(error);
        }
        steering.lift_refusal_limits();
        Ok(steering)
    }

    /// Tells the kernel which addresses the policy lets pass by themselves.
    pub(crate) fn follow(&self, policy: &Policy) -> Result<(), SteeringError> {
        run_with_input("nft", &["-f", "-"], &ruleset::sets(policy))
    }

    /// Takes away what [`Steering::install`] put in place. Everything is tried; the first failure
    /// is returned.
    pub(crate) fn remove(&self) -> Result<(), SteeringError> {
        let table = run("nft", &["delete", "table", "inet", ruleset::TABLE]);
        let routes = self.remove_routes();
        for (path, value) in &self.settings {
            if let Err(error) = std::fs::write(path, value) {
                tracing::warn!(path = %path.display(), %error, "kernel setting not put back");
            }
        }
        table.and(routes)
    }

    fn install_routes(&self) -> Result<(), SteeringError> {
        if self.config.mode != SteeringMode::Tproxy {
            return Ok(());
        }
        let (mark, table) = (self.config.mark.to_string(), self.config.table.to_string());
        for family in ["-4", "-6"] {
            let rule = ["fwmark", &mark, "lookup", &table];
            // Rules are not unique: one that an earlier process left would stand twice.
            while run("ip", &[&[family, "rule", "del"], &rule[..]].concat()).is_ok() {}
            run("ip", &[&[family, "rule", "add"], &rule[..]].concat())?;
            let route = ["replace", "local", "default", "dev", "lo", "table", &table];
            run("ip", &[&[family, "route"], &route[..]].concat())?;
        }
        Ok(())
    }

    fn remove_routes(&self) -> Result<(), SteeringError> {
        if self.config.mode != SteeringMode::Tproxy {
            return Ok(());
        }
        let (mark, table) = (self.config.mark.to_string(), self.config.table.to_string());
        let mut result = Ok(());
        for family in ["-4", "-6"] {
            let rule = run("ip", &[family, "rule", "del", "fwmark", &mark, "lookup", &table]);
            let route =
                run("ip", &[family, "route", "del", "local", "default", "dev", "lo", "table", &table]);
            result = result.and(rule).and(route);
        }
        result
    }

    /// The kernel bounds ICMP errors, for each destination and (bursts of 50) for all together; past
    /// a bound "refused at once" becomes silence, and an application waits for seconds. Refusals are
    /// taken out of both bounds, every other ICMP message stays within them.
    fn lift_refusal_limits(&mut self) {
        let lifts: [(&str, fn(&str) -> Option<String>); 2] = [
            ("/proc/sys/net/ipv4/icmp_ratemask", without_unreachable4),
            ("/proc/sys/net/ipv6/icmp/ratemask", without_unreachable6),
        ];
        for (path, without_unreachable) in lifts {
            let path = PathBuf::from(path);
            let lifted = std::fs::read_to_string(&path).and_then(|before| {
                let after =
                    without_unreachable(before.trim()).ok_or(io::ErrorKind::InvalidData)?;
                std::fs::write(&path, after).map(|()| before)
            });
            match lifted {
                Ok(before) => self.settings.push((path, before)),
                Err(error) => tracing::warn!(
                    path = %path.display(), %error,
                    "ICMP refusals stay limited: a burst of refused datagrams will meet silence"
                ),
            }
        }
    }
}

/// The mask of limited ICMP types, a number, without "destination unreachable" (RFC 792).
fn without_unreachable4(mask: &str) -> Option<String> {
    let mask: u32 = mask.parse().ok()?;
    Some((mask & !(1 << 3)).to_string())
}

/// The list of limited ICMPv6 types, as in `0-1,3-127`, without "destination unreachable" (RFC 4443
/// section 3.1).
fn without_unreachable6(types: &str) -> Option<String> {
    let mut left = Vec::new();
    for range in types.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u8, u8) = (first.parse().ok()?, last.parse().ok()?);
        for (first, last) in [(first, last.min(0)), (first.max(2), last)] {
            if first <= last {
                left.push(format!("{first}-{last}"));
            }
        }
    }
    Some(left.join(","))
}

fn run(program: &'static str, arguments: &[&str]) -> Result<(), SteeringError> {
    run_with_input(program, arguments, "")
}

fn run_with_input(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<(), SteeringError> {
    let output = output(program, arguments, input).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SteeringError::Missing {
            program,
            package: if program == "nft" { "nftables" } else { "iproute2" },
        },
        _ => SteeringError::Run { program, source },
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let command = format!("{program} {}", arguments.join(" "));
    if said.contains("Operation not permitted") {
        return Err(SteeringError::NotPermitted { command });
    }
    let said = said.lines().next().unwrap_or("no message").to_owned();
    Err(SteeringError::Refused { command, said })
}

fn output(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why on its own.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

/// An unprivileged user's path may lack the system directories.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_alone_are_taken_out_of_the_limits() {
        for (mask, left) in [("6168", Some("6160")), ("8", Some("0")), ("0", Some("0")), ("x", None)] {
            assert_eq!(without_unreachable4(mask).as_deref(), left, "{mask}");
        }
        for (types, left) in [
            ("0-1,3-127", Some("0-0,3-127")),
            ("1", Some("")),
            ("0-127", Some("0-0,2-127")),
            ("2,4-5", Some("2-2,4-5")),
            ("0", Some("0-0")),
            ("", Some("")),
            ("x-y", None),
        ] {
            assert_eq!(without_unreachable6(types).as_deref(), left, "{types}");
        }
    }
}
