//! The near side of the bench: opens connections and takes what comes back.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    hello::{Order, client_hello, fill, server_hello},
    percentile,
};

/// What a run of many connections came to.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// Connections that got all they asked for, or were refused as they should be.
    pub good: usize,
    /// The others.
    pub bad: usize,
    /// From the first connection to the end of the last.
    pub seconds: f64,
    /// Milliseconds from connect to end, half of the connections below it.
    pub p50: f64,
    /// The same for 99 of 100.
    pub p99: f64,
}

/// Opens `count` connections to `to`, `at_once` at a time, each for the next name; each takes
/// `octets` and is closed by the origin. Unlisted names must bring nothing of the origin back.
pub async fn connections(
    to: SocketAddr,
    names: Vec<String>,
    count: usize,
    at_once: usize,
    octets: u64,
) -> Connections {
    let begun = now();
    let mut workers = JoinSet::new();
    for worker in 0..at_once {
        let names = names.clone();
        workers.spawn(async move {
            let mut times = Vec::new();
            let mut bad = 0;
            for number in (worker..count).step_by(at_once) {
                let name = names.get(number % names.len().max(1)).map_or("", String::as_str);
                let order = Order { octets, seed: 0, holds: false };
                let asked = now();
                let length = timeout(PATIENCE, visit(to, name, order)).await;
                let wanted = octets + u64::try_from(server_hello().len()).unwrap_or_default();
                // A refusal is an alert of seven octets, or nothing.
                let is_good = match length {
                    Ok(Ok(length)) if octets > 0 => length == wanted,
                    Ok(Ok(length)) => length <= 7,
                    Ok(Err(_)) => octets == 0,
                    Err(_) => false,
                };
                bad += usize::from(!is_good);
                times.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            (times, bad)
        });
    }
    let (mut times, mut bad) = (Vec::new(), 0);
    while let Some(Ok((some, failed))) = workers.join_next().await {
        times.extend(some);
        bad += failed;
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (percentile(&times, 0.5), percentile(&times, 0.99));
    Connections { good: times.len() - bad, bad, seconds, p50, p99 }
}

/// Takes `octets` over each of `streams` connections; gives seconds, or the first fault.
///
/// # Errors
///
/// A connection broke or came up short.
pub async fn bulk(to: SocketAddr, name: &str, streams: usize, octets: u64) -> io::Result<f64> {
    let begun = now();
    let mut all = JoinSet::new();
    for _ in 0..streams {
        let name = name.to_owned();
        all.spawn(async move {
            let order = Order { octets, seed: 0, holds: false };
            let mut stream = open(to, &name, order).await?;
            let mut buffer = vec![0; 512 * 1024];
            let mut got = 0;
            loop {
                let length = timeout(PATIENCE, stream.read(&mut buffer)).await??;
                if length == 0 {
                    break;
                }
                got += u64::try_from(length).unwrap_or_default();
            }
            let wanted = octets + u64::try_from(server_hello().len()).unwrap_or_default();
            if got == wanted { Ok(()) } else { Err(io::Error::other("a transfer came up short")) }
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Opens `count` connections that the origin holds open, 64 at a time; each has taken 1 KiB.
pub async fn hold(to: SocketAddr, names: &[String], count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    let mut opening = JoinSet::new();
    for number in 0..count {
        let name = names.get(number % names.len().max(1)).cloned().unwrap_or_default();
        opening.spawn(async move {
            let order = Order { octets: 1024, seed: 0, holds: true };
            let mut stream = open(to, &name, order).await?;
            let mut octets = vec![0; 1024 + server_hello().len()];
            timeout(PATIENCE, stream.read_exact(&mut octets)).await??;
            io::Result::Ok(stream)
        });
        while opening.len() >= 64 {
            held.extend(opening.join_next().await.and_then(Result::ok).and_then(Result::ok));
        }
    }
    while let Some(opened) = opening.join_next().await {
        held.extend(opened.ok().and_then(Result::ok));
    }
    held
}

/// One transfer whose every octet is held against what it must be; gives how many were wrong or
/// missing. `pause` stands between two blocks, so that a transfer lasts.
///
/// # Errors
///
/// The connection broke.
pub async fn checked(to: SocketAddr, name: &str, order: Order, pause: Duration) -> io::Result<u64> {
    let mut stream = open(to, name, order).await?;
    timeout(PATIENCE, stream.read_exact(&mut vec![0; server_hello().len()])).await??;
    let (mut place, mut wrong) = (0, 0);
    let mut got = vec![0; 64 * 1024];
    let mut wanted = vec![0; 64 * 1024];
    while place < order.octets {
        let length = usize::try_from(order.octets - place).unwrap_or(got.len()).min(got.len());
        let (Some(got), Some(wanted)) = (got.get_mut(..length), wanted.get_mut(..length)) else {
            break;
        };
        timeout(PATIENCE, stream.read_exact(got)).await??;
        fill(wanted, order.seed, place);
        wrong +=
            got.iter().zip(&*wanted).map(|(got, wanted)| u64::from(got != wanted)).sum::<u64>();
        place += u64::try_from(length).unwrap_or_default();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(wrong)
}

/// Connects to `to` and says the hello.
///
/// # Errors
///
/// The connection cannot be had.
pub async fn open(to: SocketAddr, name: &str, order: Order) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let mut stream = timeout(PATIENCE, socket.connect(to)).await??;
    stream.set_nodelay(true)?;
    stream.write_all(&client_hello(name, order)).await?;
    Ok(stream)
}

/// Everything that comes back, counted.
async fn visit(to: SocketAddr, name: &str, order: Order) -> io::Result<u64> {
    let mut stream = open(to, name, order).await?;
    let mut buffer = [0; 4096];
    let mut got = 0;
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(got),
            Ok(length) => got += u64::try_from(length).unwrap_or_default(),
            // A refusal may end in a reset.
            Err(_) if order.octets == 0 => return Ok(got),
            Err(error) => return Err(error),
        }
    }
}

fn now() -> Instant {
    Instant::now()
}

/// For anything that waits for the far side.
const PATIENCE: Duration = Duration::from_secs(20);
