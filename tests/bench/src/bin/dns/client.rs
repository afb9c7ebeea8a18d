//! A client that asks at a steady rate, whatever the answers do, and times each from when it should
//! have been asked: what waits for a slow one counts as slow itself.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use bench::percentile;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::names::question;

/// How long answers took.
pub(crate) struct Latencies {
    /// Milliseconds, sorted.
    sorted: Vec<f64>,
    asked: usize,
}

impl Latencies {
    /// Milliseconds within which `share` of the answers came.
    pub(crate) fn within(&self, share: f64) -> f64 {
        percentile(&self.sorted, share)
    }

    pub(crate) fn lost(&self) -> usize {
        self.asked - self.sorted.len()
    }

    pub(crate) fn answered(&self) -> usize {
        self.sorted.len()
    }
}

/// Asks about `names` in turn, `rate` a second; `check` sees the name's place and its answer.
pub(crate) fn ask(
    server: SocketAddr,
    names: &[String],
    rate: f64,
    duration: Duration,
    mut check: impl FnMut(usize, &[u8]),
) -> Latencies {
    let mut core = CpuSet::new();
    core.set(1).unwrap();
    sched_setaffinity(Pid::from_raw(0), &core).unwrap();
    let sockets: Vec<UdpSocket> = (0..SOCKETS).map(|_| connect(server)).collect();
    let mut questions: Vec<Vec<u8>> = names.iter().map(|name| question(name, 0)).collect();
    // By id, for each socket: the name's place, and when it was due.
    let mut open = vec![vec![None; 1 << 16]; SOCKETS];
    let (mut asked, mut latencies) = (0_usize, Vec::new());
    let mut buffer = [0; 2_048];
    let begun = Instant::now();
    let due = |asked: usize| begun + Duration::from_secs_f64(asked as f64 / rate);
    loop {
        let now = Instant::now();
        let is_over = now > begun + duration;
        if is_over && now > begun + duration + GRACE {
            break;
        }
        let mut burst = 0;
        while !is_over && burst < BURST && due(asked) <= now {
            let (socket, place) = (asked % SOCKETS, asked % names.len());
            let id = u16::try_from(asked / SOCKETS % (1 << 16)).unwrap();
            questions[place][..2].copy_from_slice(&id.to_be_bytes());
            open[socket][usize::from(id)] = Some((place, due(asked)));
            // A question the kernel has no room for is one that is lost.
            let _ = sockets[socket].send(&questions[place]);
            (asked, burst) = (asked + 1, burst + 1);
        }
        for (socket, open) in sockets.iter().zip(&mut open) {
            loop {
                let length = match socket.recv(&mut buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                };
                let answer = &buffer[..length];
                let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
                if let Some((place, due)) = open[id].take() {
                    latencies.push(due.elapsed().as_secs_f64() * 1e3);
                    check(place, answer);
                }
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    Latencies { sorted: latencies, asked }
}

fn connect(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

const SOCKETS: usize = 4;
/// Questions asked in a row before answers are looked for.
const BURST: usize = 32;
/// How long answers are waited for at the end.
const GRACE: Duration = Duration::from_secs(1);
