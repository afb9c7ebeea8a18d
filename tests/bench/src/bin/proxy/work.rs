//! The work each peer is given, in turns, so that what disturbs one turn disturbs all.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use bench::{
    garden::{PORT, names, other_names},
    network::{self, CLIENT, ORIGIN, ORIGIN_ADDRESS, command, end, listens},
    usage::{cpu_seconds, resident_octets},
};

use crate::peers::Kind;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Short connections to listed names.
    Connect,
    /// Connections to names that are not listed.
    Denied,
    /// Long transfers.
    Bulk,
    /// Connections that are open and silent.
    Idle,
}

/// What one peer came to; each list has one figure a turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Microseconds of processor time a connection.
    pub(crate) connect: Vec<f64>,
    /// Milliseconds, 99 of 100 connections below.
    pub(crate) p99: Vec<f64>,
    /// Connections a second.
    pub(crate) rate: Vec<f64>,
    /// Microseconds of processor time a refused connection.
    pub(crate) denied: Vec<f64>,
    /// Processor seconds a gigabyte.
    pub(crate) bulk: Vec<f64>,
    /// Gigabits a second.
    pub(crate) gigabits: Vec<f64>,
    /// Octets of resident memory a silent connection.
    pub(crate) idle: Vec<f64>,
    /// How many were held for that.
    pub(crate) held: usize,
}

impl Part {
    pub(crate) const EACH: [Self; 4] = [Self::Connect, Self::Denied, Self::Bulk, Self::Idle];

    pub(crate) fn named(word: &str) -> Option<Self> {
        match word {
            "connect" => Some(Self::Connect),
            "denied" => Some(Self::Denied),
            "bulk" => Some(Self::Bulk),
            "idle" => Some(Self::Idle),
            _ => None,
        }
    }
}

/// Gives `parts` to every one of `kinds`.
pub(crate) fn measure(kinds: &[Kind], parts: &[Part]) -> Vec<(Kind, Figures)> {
    network::make().expect("namespaces; run tests/bench/proxy");
    let folder = tempfile::tempdir().expect("a folder");
    let mut origin = command(ORIGIN, env::current_exe().expect("this program"));
    let origin = origin.args(["origin", &format!("{ORIGIN_ADDRESS}:{PORT}")]).spawn();
    let origin = origin.expect("the origin");
    assert!(listens(ORIGIN, PORT), "the origin does not listen");
    let mut figures: Vec<(Kind, Figures)> =
        kinds.iter().map(|kind| (*kind, Figures::default())).collect();
    for turn in 0..TURNS {
        // Who comes after whom matters a little.
        figures.reverse();
        for (kind, found) in &mut figures {
            let peer = kind.start(folder.path());
            if kind.relays() {
                let probe = client(&["once", &peer.address.to_string(), &listed(turn)]);
                assert_eq!(said(probe), "0", "{} changes octets", kind.name());
            }
            if *kind == Kind::Postern && turn == 0 {
                transparent(folder.path(), peer.address);
            }
            for part in parts {
                let cpu = || peer.pid().map_or(0.0, cpu_seconds);
                let to = peer.address.to_string();
                match part {
                    Part::Connect | Part::Bulk | Part::Idle if !kind.relays() => {}
                    Part::Connect => connect(found, &to, cpu),
                    Part::Denied if kind.judges() => denied(found, &to, cpu),
                    Part::Denied => {}
                    Part::Bulk if turn < LONG_TURNS => bulk(found, *kind, &to, cpu),
                    Part::Idle if turn == 0 => {
                        idle(found, &to, || peer.pid().map_or(0, resident_octets));
                    }
                    Part::Bulk | Part::Idle => {}
                }
            }
        }
    }
    end(origin);
    figures
}

fn connect(found: &mut Figures, to: &str, cpu: impl Fn() -> f64) {
    let names = names().join(",");
    said(client(&["connect", to, &names, "2000", "1024"]));
    let before = cpu();
    let run = said(client(&["connect", to, &names, &CONNECTIONS.to_string(), "1024"]));
    let spent = cpu() - before;
    let [good, bad, seconds, _p50, p99] = fields(&run);
    assert!(bad < 1.0, "{bad} of {} connections failed", good + bad);
    found.connect.push(spent / good * 1e6);
    found.rate.push(good / seconds);
    found.p99.push(p99);
}

fn denied(found: &mut Figures, to: &str, cpu: impl Fn() -> f64) {
    let names = other_names().join(",");
    let before = cpu();
    let run = said(client(&["connect", to, &names, &CONNECTIONS.to_string(), "0"]));
    let spent = cpu() - before;
    let [good, bad, _seconds, _p50, _p99] = fields(&run);
    assert!(bad < 1.0, "{bad} of {} refusals brought octets of the origin", good + bad);
    found.denied.push(spent / good * 1e6);
}

fn bulk(found: &mut Figures, kind: Kind, to: &str, cpu: impl Fn() -> f64) {
    // It takes six times as long as the others for the same.
    let octets = if kind == Kind::Sniproxy { BULK_OCTETS / 4 } else { BULK_OCTETS };
    let before = cpu();
    let run = said(client(&["bulk", to, &listed(1), &STREAMS.to_string(), &octets.to_string()]));
    let spent = cpu() - before;
    let [seconds] = fields(&run);
    let gigabytes = octets as f64 * STREAMS as f64 / 1e9;
    found.bulk.push(spent / gigabytes);
    found.gigabits.push(gigabytes * 8.0 / seconds);
}

fn idle(found: &mut Figures, to: &str, memory: impl Fn() -> u64) {
    let before = memory();
    let mut holder = spawn(&["hold", to, &names().join(","), &HELD.to_string()]);
    let mut line = String::new();
    let mut out = BufReader::new(holder.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("the number held");
    found.held = line.trim().parse().expect("a number");
    // Buffers that are given back after a moment of silence are given back by then.
    let _ = Command::new("sleep").arg("3").status();
    let grown = memory().saturating_sub(before);
    found.idle.push(grown as f64 / found.held.max(1) as f64);
    end(holder);
}

/// One real TLS session through the peer: the certificate the client sees is the origin's own.
fn transparent(folder: &Path, near: SocketAddr) {
    let name = listed(0);
    let script = format!(
        "set -e; cd {folder}
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bench \
            -addext subjectAltName=DNS:{name} -keyout tls.key -out tls.pem 2>/dev/null
         ip netns exec origin openssl s_server -quiet -accept {ORIGIN_ADDRESS}:{TLS_PORT} -key tls.key \
            -cert tls.pem -www >/dev/null 2>&1 & server=$!
         for try in 1 2 3 4 5 6 7 8 9 10; do
            ip netns exec client openssl s_client -connect {ORIGIN_ADDRESS}:{TLS_PORT} </dev/null >/dev/null 2>&1 && break
            sleep 0.1
         done
         sed -i 's/= {PORT} }}/= {TLS_PORT} }}/; s/^serial = 1/serial = 2/' policy.toml
         for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
            ip netns exec client openssl s_client -connect {near} -servername {name} -CAfile tls.pem \
                -verify_return_error -brief </dev/null >tls.log 2>&1 && result=ok && break
            sleep 0.2
         done
         kill $server
         sed -i 's/= {TLS_PORT} }}/= {PORT} }}/; s/^serial = 2/serial = 3/' policy.toml
         for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
            ip netns exec gateway curl -s http://127.0.0.1:9180/v1/policy | grep -q '\"serial\":3' && break
            sleep 0.2
         done
         [ \"$result\" = ok ] || {{ cat tls.log; exit 1; }}",
        folder = folder.display(),
    );
    let status = Command::new("bash").args(["-c", &script]).status();
    assert!(status.is_ok_and(|status| status.success()), "a TLS session does not pass unchanged");
}

fn listed(turn: usize) -> String {
    names().into_iter().nth(turn).unwrap_or_default()
}

fn client(arguments: &[&str]) -> Child {
    spawn(arguments)
}

fn spawn(arguments: &[&str]) -> Child {
    let mut command = command(CLIENT, env::current_exe().expect("this program"));
    command.arg("client").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("a client")
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().expect("a client that ends");
    assert!(output.status.success(), "a client failed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn fields<const N: usize>(line: &str) -> [f64; N] {
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    numbers.get(..N).and_then(|numbers| numbers.try_into().ok()).expect("the client's figures")
}

/// Turns; a figure is the median of them.
const TURNS: usize = 24;
/// Turns of what takes long.
const LONG_TURNS: usize = 3;
/// Connections a turn.
const CONNECTIONS: usize = 6_000;
/// Transfers at once.
const STREAMS: usize = 2;
/// Octets of each.
const BULK_OCTETS: u64 = 600_000_000;
/// Silent connections; two descriptors each must fit the usual hard limit of 20,000.
const HELD: usize = 9_800;
/// Where the real TLS server of the one check listens.
const TLS_PORT: u16 = 8444;
