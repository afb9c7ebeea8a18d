//! `postern replay` over large captures: `cargo run --release --package bench --bin replay POSTERN`.
//!
//! The captures are made here, of raw IP frames, and removed afterwards: of questions and hellos
//! alone, and of both with more or less of what follows them. The whole process is measured, from start to exit.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures, prints, and ends where it cannot go on"
)]

use std::{
    env,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use bench::{
    Numbers, peak_memory_of_children_mib,
    policies::{document, name},
};

fn main() {
    let postern = env::args_os().nth(1).expect("the path of a postern");
    let folder = env::temp_dir().join(format!("postern-bench-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let policy = folder.join("policy.toml");
    fs::write(&policy, document(ENTRIES)).unwrap();
    println!("seed {SEED}; a policy of {ENTRIES} entries");
    println!("{:>9}  {:>6}  {:>9}  {:>6}  {:>6}", "capture", "MB", "packets", "s", "MB/s");
    for (label, bulk) in [("names", 0), ("greetings", GREETING), ("pages", PAGE)] {
        let path = folder.join(label);
        let packets = capture(&path, bulk).unwrap();
        let size = fs::metadata(&path).unwrap().len() as f64 / 1e6;
        let begun = Instant::now();
        replay(Path::new(&postern), &policy, &path);
        let took = begun.elapsed().as_secs_f64();
        println!("{label:>9}  {size:>6.0}  {packets:>9}  {took:>6.2}  {:>6.0}", size / took);
        fs::remove_file(&path).unwrap();
    }
    println!("peak memory {} MiB", peak_memory_of_children_mib().unwrap_or(0));
    fs::remove_dir_all(&folder).unwrap();
}

fn replay(postern: &Path, policy: &Path, capture: &Path) {
    let status = Command::new(postern)
        .arg("replay")
        .arg("--policy")
        .arg(policy)
        .arg("--pcap")
        .arg(capture)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    // 1: some of it is denied.
    assert!(matches!(status.code(), Some(0 | 1)), "{status}");
}

/// Writes a capture of at least [`SIZE`] octets; says how many packets it has. Each connection
/// carries `bulk` full segments from the server behind its hello.
fn capture(path: &Path, bulk: usize) -> io::Result<u64> {
    let mut file = Pcap::create(path)?;
    let mut numbers = Numbers::new(SEED);
    let data = vec![0x17; SEGMENT];
    while file.octets < SIZE {
        let draw = numbers.draw().to_be_bytes();
        let subscriber = [100, 64, draw[0], draw[1]];
        let port = u16::from_be_bytes([draw[2] | 0x80, draw[3]]);
        let host = name(numbers.below(2 * ENTRIES));
        file.write(&udp(subscriber, port, 53, &question(&host)))?;
        file.write(&tcp(subscriber, SERVER, [port, 443], 0, SYN, b""))?;
        file.write(&tcp(subscriber, SERVER, [port, 443], 1, ACK, HELLO))?;
        let mut sequence = 1;
        for _ in 0..bulk {
            file.write(&tcp(SERVER, subscriber, [443, port], sequence, ACK, &data))?;
            sequence = sequence.wrapping_add(u32::try_from(SEGMENT).unwrap_or(0));
        }
    }
    file.finish()
}

/// A pcap file of raw IP frames, little endian.
struct Pcap {
    file: BufWriter<File>,
    octets: usize,
    packets: u64,
}

impl Pcap {
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        for value in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, RAW] {
            file.write_all(&u32::to_le_bytes(value))?;
        }
        Ok(Self { file, octets: 0, packets: 0 })
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).unwrap_or(0);
        for value in [1_700_000_000, 0, length, length] {
            self.file.write_all(&u32::to_le_bytes(value))?;
        }
        self.octets += 16 + frame.len();
        self.packets += 1;
        self.file.write_all(frame)
    }

    fn finish(mut self) -> io::Result<u64> {
        self.file.flush()?;
        Ok(self.packets)
    }
}

fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(0).to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 7, 0, 0, 64, protocol, 0, 0];
    [&head[..], &from, &to, payload].concat()
}

fn udp(from: [u8; 4], source: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(0);
    let head = [source, port, length, 0].map(u16::to_be_bytes).concat();
    ipv4(17, from, SERVER, &[&head, payload].concat())
}

fn tcp(
    from: [u8; 4],
    to: [u8; 4],
    ports: [u16; 2],
    sequence: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let ports = ports.map(u16::to_be_bytes).concat();
    let rest = [0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    ipv4(6, from, to, &[&ports[..], &sequence.to_be_bytes(), &rest, payload].concat())
}

/// A question for the addresses of `host`.
fn question(host: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

const SEED: u64 = 20_261_126;
const ENTRIES: usize = 10_000;
const SIZE: usize = 512 * 1024 * 1024;
const SERVER: [u8; 4] = [192, 0, 2, 10];
/// Segments behind each hello: the server's certificates, and no more.
const GREETING: usize = 3;
/// Segments behind each hello: 60 kB, a small page.
const PAGE: usize = 42;
const SEGMENT: usize = 1_400;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// The link type of frames that begin with the IP header.
const RAW: u32 = 101;
/// A hello of rustls with its record header.
const HELLO: &[u8] = include_bytes!("../../../data/hello/rustls.bin");
