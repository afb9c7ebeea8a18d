//! The servers side by side: what each is started with, in a folder of its own, on one thread.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::names::{LISTED, question};

/// A running server; ends with the value.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
}

/// CPU time a process took so far, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Server {
    /// Starts a server on the first core and waits until it answers.
    fn start(name: &'static str, port: u16, program: &str, arguments: &[&str]) -> Self {
        let log = fs::File::create(format!("/run/{name}.log")).unwrap();
        let child = Command::new("taskset")
            .args(["-c", SERVER_CORE, program])
            .args(arguments)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { name, address: (Ipv4Addr::LOCALHOST, port).into(), child };
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        for _ in 0..100 {
            let sent = socket.send(&question(&LISTED(0), 1));
            match sent.and_then(|_| socket.recv(&mut [0; 512])) {
                Ok(_) => return server,
                // A port that is still closed is said at once.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(_) => {}
            }
        }
        let log = fs::read_to_string(format!("/run/{name}.log")).unwrap_or_default();
        panic!("{name} does not answer: {log}");
    }

    pub(crate) fn cpu(&self) -> Cpu {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, rest) = text.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = rest.split(' ').collect();
        let seconds = |field: usize| fields[field].parse::<f64>().unwrap() / TICKS;
        Cpu { user: seconds(11), system: seconds(12) }
    }

    /// Memory in use, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The resolver behind all of them: it knows every name below `bench.example`.
pub(crate) fn upstream(folder: &Path) -> Server {
    let text = format!(
        "server:\n{UNBOUND}  interface: 127.0.0.1@{UPSTREAM}\n  local-zone: bench.example. redirect\n  \
         local-data: \"bench.example. 3600 IN A 198.51.100.7\"\n"
    );
    let file = write(folder, "upstream.conf", &text);
    Server::start("upstream", UPSTREAM, "unbound", &["-d", "-c", &file])
}

pub(crate) fn postern(folder: &Path, policy: &str) -> Server {
    write(folder, "policy.toml", policy);
    let text = format!(
        "node = \"bench\"\nenvironment = \"production\"\npolicy = \"policy.toml\"\n[dns]\n\
         listen = [\"127.0.0.1:{POSTERN}\"]\nupstreams = [\"udp://127.0.0.1:{UPSTREAM}\"]\n\
         [dns.limits]\nudp_threads = 1\nqps_per_subscriber = 1000000000\n\
         wildcard_names_per_minute = 1000000000\n\
         [admin]\nlisten = \"127.0.0.1:{ADMIN}\"\n"
    );
    let file = write(folder, "gateway.toml", &text);
    let program = beside("postern");
    Server::start("postern", POSTERN, program.to_str().unwrap(), &["run", "--config", &file])
}

/// Every peer that is installed.
pub(crate) fn peers(folder: &Path, names: &[String]) -> Vec<Server> {
    let mut servers = vec![unbound(folder, names), hickory(folder, names)];
    servers.extend(is_installed("dnsdist").then(|| dnsdist(folder, names)));
    servers.extend(is_installed("dnsmasq").then(|| dnsmasq(folder, names)));
    servers
}

fn unbound(folder: &Path, names: &[String]) -> Server {
    let mut text = format!(
        "server:\n{UNBOUND}  interface: 127.0.0.1@5311\n  do-not-query-localhost: no\n  \
         local-zone: . always_nxdomain\n"
    );
    for name in names {
        writeln!(text, "  local-zone: {name}. transparent").unwrap();
    }
    write!(text, "forward-zone:\n  name: .\n  forward-addr: 127.0.0.1@{UPSTREAM}\n").unwrap();
    let file = write(folder, "unbound.conf", &text);
    Server::start("unbound", 5311, "unbound", &["-d", "-c", &file])
}

fn dnsdist(folder: &Path, names: &[String]) -> Server {
    let mut text = format!(
        "setLocal('127.0.0.1:5312')\nsetSecurityPollSuffix('')\nsetACL('127.0.0.0/8')\n\
         newServer({{address='127.0.0.1:{UPSTREAM}', checkName='www0.bench.example.'}})\n\
         getPool(''):setCache(newPacketCache(10000))\nlisted = newDNSNameSet()\n"
    );
    for name in names {
        writeln!(text, "listed:add(newDNSName('{name}'))").unwrap();
    }
    text += "addAction(NotRule(QNameSetRule(listed)), RCodeAction(DNSRCode.NXDOMAIN))\n";
    let file = write(folder, "dnsdist.conf", &text);
    Server::start("dnsdist", 5312, "dnsdist", &["--supervised", "-C", &file])
}

fn dnsmasq(folder: &Path, names: &[String]) -> Server {
    let mut text = "port=5313\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n\
         no-daemon\ncache-size=10000\ndns-forward-max=1000\naddress=/#/\nuser=root\n"
        .to_owned();
    for name in names {
        writeln!(text, "server=/{name}/127.0.0.1#{UPSTREAM}").unwrap();
    }
    let file = write(folder, "dnsmasq.conf", &text);
    Server::start("dnsmasq", 5313, "dnsmasq", &["-C", &file])
}

fn hickory(folder: &Path, names: &[String]) -> Server {
    let file = write(folder, "hickory.names", &names.join("\n"));
    let upstream = format!("127.0.0.1:{UPSTREAM}");
    let program = beside("hickory");
    Server::start("hickory", 5314, program.to_str().unwrap(), &["127.0.0.1:5314", &upstream, &file])
}

/// This program as `role`, on the servers' core, where the kernel prefers it to all of lower
/// `priority`.
pub(crate) fn preferred(role: &str, priority: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE, "chrt", "-f", priority]);
    command.arg(std::env::current_exe().unwrap()).arg(role).stdin(Stdio::null());
    command
}

fn is_installed(program: &str) -> bool {
    Command::new("which").arg(program).stdout(Stdio::null()).status().unwrap().success()
}

fn beside(program: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(program)
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

const UPSTREAM: u16 = 5300;
const POSTERN: u16 = 5310;
pub(crate) const ADMIN: u16 = 9180;
const SERVER_CORE: &str = "0";
/// USER_HZ of every Linux.
const TICKS: f64 = 100.0;
const UNBOUND: &str = "  num-threads: 1\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  \
    pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n  access-control: 127.0.0.0/8 allow\n  \
    module-config: iterator\n";
