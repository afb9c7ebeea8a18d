//! Steering: brings subscribers' traffic to the listeners and refuses the rest in the kernel.
//!
//! One nftables table and, for TPROXY, one rule and one route a family. The last rule of the
//! forward chain refuses whatever the proxy did not take: TPROXY alone lets packets through when
//! its listener is gone. The table outlives a killed process, so the garden stays shut.

mod granted;
mod kernel;
mod limits;
mod netlink;
mod passage;
mod residents;
mod rouse;
mod ruleset;

use std::{
    collections::HashSet,
    io::{self, Write},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ipnet::IpNet;
use policy::Snapshot;
use tokio::sync::Notify;

pub(crate) use netlink::NetlinkError;
pub(crate) use residents::{Pass, Resident, Residents};
pub(crate) use ruleset::Ports;

use crate::config::{SteeringConfig, SteeringMode};

use self::{kernel::Kernel, limits::RefusalLimits, netlink::Netlink, rouse::rouse};

/// Steering that is in force; removed by [`Steering::remove`], left behind by everything else.
pub(crate) struct Steering {
    config: SteeringConfig,
    limits: RefusalLimits,
    is_let_go: AtomicBool,
    kernel: Mutex<Kernel>,
    walled: Walled,
}

/// Blocks that were forwarded and are no more, until their flows are ended.
#[derive(Default)]
struct Walled {
    blocks: Mutex<HashSet<IpNet>>,
    waits: Notify,
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
    /// The kernel's sets could not be filled.
    #[error("the kernel's sets of open addresses cannot be filled")]
    Sets(#[from] NetlinkError),
}

impl Steering {
    /// Loads the table and the routes; what an earlier process left is replaced in one step.
    pub(crate) fn install(
        config: &SteeringConfig,
        ports: &Ports,
        snapshot: Arc<Snapshot>,
        residents: Arc<dyn Residents>,
    ) -> Result<Self, SteeringError> {
        let before = left_behind();
        let limits = RefusalLimits::before(&before);
        // With its elements: between two steps, flows of those who pass would be reset.
        let text = ruleset::ruleset(config, ports, &limits.note())?
            + &kernel::elements(snapshot.policy(), &*residents);
        run_with_input("nft", &["-f", "-"], &text)?;
        if let Some(chain) = ruleset::roused(config)
            && let Err(error) = run_with_input("nft", &["-f", "-"], &chain)
        {
            tracing::warn!(%error, "subscribers close by may not hear that their connections are cut");
        }
        // Half a steering where there was none would be worse than none. Where there was one, of a
        // killed process or of one that still serves, taking it away would open the garden.
        let undone = |error| {
            if before.is_empty() {
                let _ = remove(config, &limits);
            }
            error
        };
        let kernel = Kernel::fill(snapshot, residents).map_err(SteeringError::from);
        let kernel = kernel.map_err(undone)?;
        install_routes(config).map_err(undone)?;
        limits.lift();
        Ok(Self {
            config: config.clone(),
            limits,
            kernel: Mutex::new(kernel),
            walled: Walled::default(),
            is_let_go: AtomicBool::new(false),
        })
    }

    /// Tells the kernel which addresses `snapshot` lets pass, of networks and of SIMs.
    pub(crate) fn follow(&self, snapshot: Arc<Snapshot>) -> Result<(), SteeringError> {
        if self.is_let_go.load(Ordering::Acquire) {
            return Ok(());
        }
        let walled = self.kernel().follow(snapshot)?;
        self.walled.push(walled);
        Ok(())
    }

    /// Tells the kernel who is at `blocks` as it is known at this moment, under the policy it follows.
    pub(crate) fn refresh(&self, blocks: &[IpNet]) -> Result<(), NetlinkError> {
        if self.is_let_go.load(Ordering::Acquire) {
            return Ok(());
        }
        let walled = self.kernel().refresh(blocks)?;
        self.walled.push(walled);
        Ok(())
    }

    /// Tells the kernel of everybody anew.
    pub(crate) fn refill(&self) -> Result<(), NetlinkError> {
        if self.is_let_go.load(Ordering::Acquire) {
            return Ok(());
        }
        let walled = self.kernel().refill()?;
        self.walled.push(walled);
        Ok(())
    }

    /// Waits for blocks of SIMs that were forwarded and are no more.
    pub(crate) async fn walled(&self) -> Vec<IpNet> {
        loop {
            let blocks = self.walled.take();
            if !blocks.is_empty() {
                return blocks;
            }
            self.walled.waits.notified().await;
        }
    }

    /// Ends the flows from `blocks` that conntrack knows: an address translation or a flow table of
    /// the operator's may carry them past our table, and who only waits hears nothing. Says how many.
    ///
    /// Reads the whole of conntrack: not for the thread that lifts.
    pub(crate) fn cut_flows(&self, blocks: &[IpNet]) -> Result<usize, NetlinkError> {
        let mut netlink = Netlink::open()?;
        let flows = netlink.flows(blocks)?;
        let (mut count, mut unheard) = (0, None);
        for some in flows.chunks(TOGETHER) {
            // Nobody is lifted while these are ended, and whoever was lifted meanwhile is spared.
            let kernel = self.kernel();
            for flow in some.iter().filter(|flow| !kernel.passes(flow.block)) {
                netlink.end(flow)?;
                if let Some(Err(error)) = flow.connection.as_ref().map(rouse) {
                    unheard.get_or_insert(error);
                }
                count += 1;
            }
        }
        if let Some(error) = unheard {
            tracing::warn!(%error, "subscribers that wait for an answer are not told that their connections are cut");
        }
        Ok(count)
    }

    /// The bytes used of each grant, by its number.
    pub(crate) fn grants_used(&self) -> Result<Vec<(u64, u64)>, NetlinkError> {
        self.kernel().grants_used()
    }

    /// The bytes used of each grant in the table that a killed process left.
    pub(crate) fn grants_used_before() -> Vec<(u64, u64)> {
        kernel::grants_used_before().unwrap_or_default()
    }

    /// Leaves the steering to the process that has taken over: it stays, and follows that one.
    pub(crate) fn let_go(&self) {
        self.is_let_go.store(true, Ordering::Release);
    }

    /// Takes away what [`Steering::install`] put in place. Everything is tried; the first failure
    /// is returned.
    pub(crate) fn remove(&self) -> Result<(), SteeringError> {
        remove(&self.config, &self.limits)
    }

    fn kernel(&self) -> std::sync::MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Walled {
    fn push(&self, blocks: Vec<IpNet>) {
        if !blocks.is_empty() {
            self.blocks.lock().unwrap_or_else(PoisonError::into_inner).extend(blocks);
            self.waits.notify_one();
        }
    }

    fn take(&self) -> Vec<IpNet> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

fn remove(config: &SteeringConfig, limits: &RefusalLimits) -> Result<(), SteeringError> {
    let table = run("nft", &["delete", "table", "inet", ruleset::TABLE]);
    let routes = remove_routes(config);
    limits.put_back();
    table.and(routes)
}

fn install_routes(config: &SteeringConfig) -> Result<(), SteeringError> {
    if config.mode != SteeringMode::Tproxy {
        return Ok(());
    }
    let (mark, table) = (config.mark.to_string(), config.table.to_string());
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

fn remove_routes(config: &SteeringConfig) -> Result<(), SteeringError> {
    if config.mode != SteeringMode::Tproxy {
        return Ok(());
    }
    let (mark, table) = (config.mark.to_string(), config.table.to_string());
    let mut result = Ok(());
    for family in ["-4", "-6"] {
        let rule = run("ip", &[family, "rule", "del", "fwmark", &mark, "lookup", &table]);
        let route =
            run("ip", &[family, "route", "del", "local", "default", "dev", "lo", "table", &table]);
        result = result.and(rule).and(route);
    }
    result
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

/// Flows that are ended while no lift can come between: a millisecond's worth.
const TOGETHER: usize = 32;
/// An unprivileged user's path may lack the system directories.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
