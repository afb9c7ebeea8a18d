//! Three network namespaces in a row: the client's, the gateway's, the origin's. Needs to run in
//! private namespaces (`tests/in-namespaces`).

use std::{
    ffi::OsStr,
    fs::File,
    io,
    process::{Child, Command, Stdio},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// The client's namespace.
pub const CLIENT: &str = "client";
/// The gateway's namespace.
pub const GATEWAY: &str = "gateway";
/// The origin's namespace.
pub const ORIGIN: &str = "origin";
/// The gateway as the client sees it.
pub const GATEWAY_ADDRESS: &str = "10.9.1.1";
/// The origin.
pub const ORIGIN_ADDRESS: &str = "10.9.2.2";

/// Makes the namespaces, wires them, and gives every connection of a run a port.
///
/// # Errors
///
/// `ip` or `sysctl` is not there, or not permitted.
pub fn make() -> io::Result<()> {
    for name in [CLIENT, GATEWAY, ORIGIN] {
        ip(&["netns", "add", name])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
    }
    for (far, number) in [(CLIENT, "1"), (ORIGIN, "2")] {
        let (near, outer) = (format!("g{number}"), format!("o{number}"));
        let end = ["netns", far];
        ip(&[
            &["link", "add", &near, "netns", GATEWAY, "type", "veth", "peer", "name", &outer],
            &end[..],
        ]
        .concat())?;
        let (here, there) = (format!("10.9.{number}.1/24"), format!("10.9.{number}.2/24"));
        ip(&["-n", GATEWAY, "addr", "add", &here, "dev", &near])?;
        ip(&["-n", far, "addr", "add", &there, "dev", &outer])?;
        ip(&["-n", GATEWAY, "link", "set", &near, "up"])?;
        ip(&["-n", far, "link", "set", &outer, "up"])?;
        ip(&["-n", far, "route", "add", "default", "via", &format!("10.9.{number}.1")])?;
    }
    for name in [CLIENT, GATEWAY, ORIGIN] {
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv4.ip_local_port_range=1024 65535",
            "net.ipv4.tcp_tw_reuse=1",
            "net.core.somaxconn=8192",
            "net.ipv4.tcp_max_syn_backlog=8192",
        ] {
            ended(Command::new("ip").args(["netns", "exec", name, "sysctl", "-qw", setting]))?;
        }
    }
    Ok(())
}

/// Gives every end an IPv6 address too, next to its IPv4 address: `10.9.1.1` is `fd00:9:1::1`.
///
/// # Errors
///
/// `ip` or `sysctl` is not there, or not permitted.
pub fn add_ipv6() -> io::Result<()> {
    let setting = "net.ipv6.conf.all.forwarding=1";
    ended(Command::new("ip").args(["netns", "exec", GATEWAY, "sysctl", "-qw", setting]))?;
    for (far, number) in [(CLIENT, "1"), (ORIGIN, "2")] {
        let near = format!("fd00:9:{number}::1");
        let ends = [(GATEWAY, format!("g{number}"), "1"), (far, format!("o{number}"), "2")];
        for (namespace, device, last) in ends {
            let address = format!("fd00:9:{number}::{last}/64");
            ip(&["-n", namespace, "addr", "add", &address, "dev", &device, "nodad"])?;
        }
        ip(&["-n", far, "-6", "route", "add", "default", "via", &near])?;
    }
    Ok(())
}

/// Runs `code` on a thread of its own in one of the namespaces: the sockets it makes belong there
/// for good.
///
/// # Panics
///
/// When there is no such namespace, or the code panics.
pub fn inside<T: Send>(namespace: &str, code: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace");
            setns(file, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
            code()
        });
        thread.join().expect("the code ends")
    })
}

/// A program in one of the namespaces, silent but for standard error.
pub fn command(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command.stdin(Stdio::null());
    command
}

/// Waits until something listens on TCP `port`; false if nothing does after ten seconds.
#[must_use]
pub fn listens(namespace: &str, port: u16) -> bool {
    comes_to_be(namespace, port, true)
}

/// Waits until nothing listens on TCP `port`; false if something does after ten seconds. Whoever was
/// ended with ten thousand connections is not gone at once.
#[must_use]
pub fn is_free(namespace: &str, port: u16) -> bool {
    comes_to_be(namespace, port, false)
}

fn comes_to_be(namespace: &str, port: u16, taken: bool) -> bool {
    for _ in 0..500 {
        let mut probe = command(namespace, "ss");
        let found = probe.args(["-Hltn", "sport", "=", &format!(":{port}")]).output();
        if found.is_ok_and(|found| found.stdout.is_empty() != taken) {
            return true;
        }
        // A pause that needs no clock of ours.
        let _ = Command::new("sleep").arg("0.02").status();
    }
    false
}

/// Ends a process this program started, and everything of it.
pub fn end(mut child: Child) {
    // The first of them first: it would start others in the place of those that are gone.
    for pid in crate::usage::family(child.id()) {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
    }
    let _ = child.wait();
}

/// Calls `ip`.
///
/// # Errors
///
/// It is not there, or says no.
pub fn ip(arguments: &[&str]) -> io::Result<()> {
    ended(Command::new("ip").args(arguments))
}

fn ended(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}
