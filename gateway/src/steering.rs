//! Steering: brings subscribers' traffic to the listeners and refuses the rest in the kernel.
//!
//! One nftables table and, for TPROXY, one rule and one route a family. The last rule of the
//! forward chain refuses whatever the proxy did not take: TPROXY alone lets packets through when
//! its listener is gone. The table outlives a killed process, so the garden stays shut.

mod limits;
mod ruleset;

use std::{
    io::{self, Write},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

pub(crate) use ruleset::Ports;

use policy::Policy;

use crate::config::{SteeringConfig, SteeringMode};

use self::limits::RefusalLimits;

/// Steering that is in force; removed by [`Steering::remove`], left behind by everything else.
#[derive(Debug)]
pub(crate) struct Steering {
    config: SteeringConfig,
    limits: RefusalLimits,
    is_let_go: AtomicBool,
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
        let limits = RefusalLimits::before(&left_behind());
        let text = ruleset::ruleset(config, ports, &limits.note())? + &ruleset::sets(policy);
        run_with_input("nft", &["-f", "-"], &text)?;
        let is_let_go = AtomicBool::new(false);
        let steering = Self { config: config.clone(), limits, is_let_go };
        if let Err(error) = steering.install_routes() {
            // Half a steering would be worse than none: the caller exits, so take back the table.
            let _ = steering.remove();
            return Err(error);
        }
        steering.limits.lift();
        Ok(steering)
    }

    /// Tells the kernel which addresses the policy lets pass by themselves.
    pub(crate) fn follow(&self, policy: &Policy) -> Result<(), SteeringError> {
        if self.is_let_go.load(Ordering::Acquire) {
            return Ok(());
        }
        run_with_input("nft", &["-f", "-"], &ruleset::sets(policy))
    }

    /// Leaves the steering to the process that has taken over: it stays, and follows that one.
    pub(crate) fn let_go(&self) {
        self.is_let_go.store(true, Ordering::Release);
    }

    /// Takes away what [`Steering::install`] put in place. Everything is tried; the first failure
    /// is returned.
    pub(crate) fn remove(&self) -> Result<(), SteeringError> {
        let table = run("nft", &["delete", "table", "inet", ruleset::TABLE]);
        let routes = self.remove_routes();
        self.limits.put_back();
        table.and(routes)
    }

    fn install_routes(&self) -> Result<(), SteeringError> {
        if self.config.mode != SteeringMode::Tproxy {
            return Ok(());
        }
        let (mark, table) = (self.config.mark.to_string(), self.config.table.to_string());
        for family in ["-4", "-6"] {
            let rule = ["fwmark", &mark, "lookup", &table];
            // Rules are not unique: one that an earlier process left would stand twice. It is not
            // taken away first: sessions that go on need it all the time.
            if listed(&[&[family, "rule", "show"], &rule[..]].concat()).is_empty() {
                run("ip", &[&[family, "rule", "add"], &rule[..]].concat())?;
            }
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
            let route = run(
                "ip",
                &[family, "route", "del", "local", "default", "dev", "lo", "table", &table],
            );
            result = result.and(rule).and(route);
        }
        result
    }
}

/// The table that a killed process left, as nft shows it; empty without one.
fn left_behind() -> String {
    let listed = Command::new("nft")
        .args(["list", "table", "inet", ruleset::TABLE])
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// What `ip` shows; empty if it shows nothing.
fn listed(arguments: &[&str]) -> String {
    let shown = Command::new("ip")
        .args(arguments)
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn run(program: &'static str, arguments: &[&str]) -> Result<(), SteeringError> {
    run_with_input(program, arguments, "")
}

fn run_with_input(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<(), SteeringError> {
    let output = output(program, arguments, input).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            let package = if program == "nft" { "nftables" } else { "iproute2" };
            SteeringError::Missing { program, package }
        } else {
            SteeringError::Run { program, source }
        }
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
