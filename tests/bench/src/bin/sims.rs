//! Accounting against the real binary: a recovery storm of a million Starts, the memory of a
//! million bindings, 10,000 records a second with the delay of the replies, and the restart:
//! `cargo run --release --package bench --bin sims -- target/release/postern [BINDINGS]`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark measures, prints, and ends where it cannot go on"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bench::percentile;
use md5::{Digest, Md5};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().unwrap_or_else(|| "target/release/postern".to_owned());
    let bindings: u32 = arguments.next().map_or(1_000_000, |text| text.parse().unwrap());
    for engine in ["none", "embedded"] {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(&binary, folder.path(), engine);
        let empty = gateway.memory_mb();
        let mut nas = Nas::at(gateway.radius);
        let begun = Instant::now();
        nas.storm(bindings);
        let took = begun.elapsed().as_secs_f64();
        let full = gateway.memory_mb();
        println!(
            "{engine}: {bindings} Starts in {took:.1} s, {:.0} a second; memory {empty} MB empty, \
             {full} MB full",
            f64::from(bindings) / took
        );
        let mut delays = nas.steady(bindings, RATE, STEADY);
        delays.sort_by(f64::total_cmp);
        println!(
            "{engine}: {} replies of {} Interims at {RATE} a second; delay ms p50 {:.1} p99 {:.1} \
             most {:.1}",
            delays.len(),
            u64::from(RATE) * STEADY.as_secs(),
            percentile(&delays, 0.5),
            percentile(&delays, 0.99),
            percentile(&delays, 1.0)
        );
        drop(gateway);
        if engine == "embedded" {
            let begun = Instant::now();
            let gateway = Gateway::start(&binary, folder.path(), engine);
            println!(
                "{engine}: READY {:.1} s after a kill, memory {} MB, file {} MB",
                begun.elapsed().as_secs_f64(),
                gateway.memory_mb(),
                fs::metadata(folder.path().join("state.redb")).unwrap().len() >> 20
            );
        }
    }
}

struct Gateway {
    child: Child,
    radius: SocketAddr,
}

impl Gateway {
    fn start(binary: &str, folder: &Path, engine: &str) -> Self {
        let state = if engine == "none" { String::new() } else { format!("engine = \"{engine}\"") };
        fs::write(folder.join("gateway.toml"), GATEWAY.replace("STATE", &state)).unwrap();
        fs::write(folder.join("policy.toml"), POLICY).unwrap();
        fs::write(folder.join("secret"), SECRET).unwrap();
        let mut child = Command::new(binary)
            .args(["run", "--config"])
            .arg(folder.join("gateway.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = lines.next().unwrap().unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "READY");
        let mut parts = listening.split_whitespace().filter_map(|part| part.split_once('='));
        let radius = parts.find(|(name, _)| *name == "radius").unwrap().1.parse().unwrap();
        Self { child, radius }
    }

    /// What the process holds, in millions of octets.
    fn memory_mb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024 / 1_000_000
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Several sockets: each has 256 identifiers.
struct Nas {
    sockets: Vec<UdpSocket>,
}

impl Nas {
    fn at(server: SocketAddr) -> Self {
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(server).unwrap();
            socket
        };
        Self { sockets: (0..SOCKETS).map(|_| socket()).collect() }
    }

    /// Sends a Start for each binding, a window of each socket at a time, until all are confirmed.
    fn storm(&mut self, bindings: u32) {
        let mut next = 0;
        while next < bindings {
            let mut windows = Vec::new();
            for socket in &self.sockets {
                let window = next..(next + WINDOW).min(bindings);
                next = window.end;
                for number in window.clone() {
                    socket.send(&record(1, number, number % 256)).unwrap();
                }
                windows.push(window);
            }
            for (socket, window) in self.sockets.iter().zip(windows) {
                socket.set_nonblocking(false).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let mut missing: Vec<u32> = window.collect();
                let mut reply = [0; 64];
                while !missing.is_empty() {
                    match socket.recv(&mut reply) {
                        Ok(_) => missing.retain(|number| number % 256 != u32::from(reply[1])),
                        // As a NAS does: again.
                        Err(_) => {
                            for number in &missing {
                                socket.send(&record(1, *number, number % 256)).unwrap();
                            }
                        }
                    }
                }
            }
        }
    }

    /// Sends Interims at an even rate; returns the delays of the replies in milliseconds.
    fn steady(&mut self, bindings: u32, rate: u32, time: Duration) -> Vec<f64> {
        for socket in &self.sockets {
            socket.set_nonblocking(true).unwrap();
        }
        let total = u32::try_from(u64::from(rate) * time.as_secs()).unwrap();
        let mut sent_at = vec![[None::<Instant>; 256]; self.sockets.len()];
        let mut delays = Vec::new();
        let (begun, mut sent) = (Instant::now(), 0_u32);
        while begun.elapsed() < time + Duration::from_secs(3) {
            let due = (begun.elapsed().as_secs_f64() * f64::from(rate)).min(f64::from(total));
            while f64::from(sent) < due {
                let turn = sent / 256;
                let at = usize::try_from(turn).unwrap() % self.sockets.len();
                let identifier = sent % 256;
                let number = sent.wrapping_mul(2_654_435_761) % bindings;
                sent_at[at][usize::try_from(identifier).unwrap()] = Some(Instant::now());
                let _ = self.sockets[at].send(&record(3, number, identifier));
                sent += 1;
            }
            let mut reply = [0; 64];
            for (socket, sent_at) in self.sockets.iter().zip(&mut sent_at) {
                while socket.recv(&mut reply).is_ok() {
                    if let Some(sent) = sent_at[usize::from(reply[1])].take() {
                        delays.push(sent.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        delays
    }
}

fn record(status: u8, number: u32, identifier: u32) -> Vec<u8> {
    let mut packet = vec![4, u8::try_from(identifier).unwrap(), 0, 0];
    packet.extend([0; 16]);
    let mut put = |kind: u8, value: &[u8]| {
        packet.extend([kind, u8::try_from(value.len() + 2).unwrap()]);
        packet.extend(value);
    };
    put(40, &[0, 0, 0, status]);
    put(44, format!("{number:08X}").as_bytes());
    put(8, &(0x0a00_0000 + number).to_be_bytes());
    put(30, b"internet");
    put(31, format!("49151{number:08}").as_bytes());
    let mut vendor = 10_415_u32.to_be_bytes().to_vec();
    vendor.extend([1, 17]);
    vendor.extend(format!("00101{number:010}").as_bytes());
    put(26, &vendor);
    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
    packet[2..4].copy_from_slice(&length);
    let digest = Md5::new().chain_update(&packet).chain_update(SECRET).finalize();
    packet[4..20].copy_from_slice(&digest);
    packet
}

const SECRET: &str = "bench-secret";
const SOCKETS: usize = 64;
/// Records of a socket that are on their way.
const WINDOW: u32 = 64;
/// Records a second.
const RATE: u32 = 10_000;
/// How long that is kept up.
const STEADY: Duration = Duration::from_secs(20);

const GATEWAY: &str = r#"
node        = "bench"
environment = "lab"
policy      = "policy.toml"
[steering]
mode        = "none"
[dns]
listen      = ["127.0.0.1:0"]
upstreams   = ["udp://127.0.0.1:1"]
[admin]
listen      = "127.0.0.1:0"
[radius]
listen      = ["127.0.0.1:0"]
clients     = [{ name = "bench", address = "127.0.0.1", secret_file = "secret" }]
[state]
STATE
"#;

const POLICY: &str = r#"
schema        = 1
name          = "bench"
serial        = 1
environment   = "lab"
default_class = "garden"
[[hostset]]
name     = "ours"
source   = "bench"
[[hostset.host]]
match    = "portal.acme.example"
schemes  = ["https"]
[[class]]
name     = "garden"
priority = 10
action   = "garden"
hostsets = ["ours"]
match    = [{ networks = ["10.0.0.0/8"] }]
"#;
