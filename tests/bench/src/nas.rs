//! A NAS on loopback that sends accounting as fast, or as evenly, as it is told.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    ops::Range,
    time::{Duration, Instant},
};

use lab::radius::{Request, Status};

/// Several sockets: each has 256 identifiers.
#[derive(Debug)]
pub struct Nas {
    sockets: Vec<UdpSocket>,
    begun: Instant,
}

impl Nas {
    /// A NAS that sends to `server`.
    ///
    /// # Errors
    ///
    /// No socket can be made.
    pub fn at(server: SocketAddr) -> io::Result<Self> {
        let socket = |_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        let sockets = (0..SOCKETS).map(socket).collect::<io::Result<_>>()?;
        Ok(Self { sockets, begun: Instant::now() })
    }

    /// Says `status` of every SIM of these numbers, and again after a second without an answer,
    /// until all are confirmed. Returns how often it had to say something again.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn tell(&self, status: Status, numbers: Range<u32>) -> io::Result<u64> {
        let (mut next, mut repeated, mut left) = (numbers.start, 0, numbers.len());
        let mut windows = vec![vec![None::<(u32, Instant)>; WINDOW]; self.sockets.len()];
        while left > 0 {
            let mut idle = true;
            for (socket, window) in self.sockets.iter().zip(&mut windows) {
                let mut answer = [0; 64];
                while let Some(place) = received(socket, &mut answer)? {
                    if window.get_mut(place).and_then(Option::take).is_some() {
                        (left, idle) = (left - 1, false);
                    }
                }
                for (identifier, place) in (0_u8..).zip(window.iter_mut()) {
                    match place {
                        None if next < numbers.end => {
                            *place = Some((next, Instant::now()));
                            send(socket, &record(status, next, identifier))?;
                            next += 1;
                        }
                        Some((number, sent)) if sent.elapsed() > AGAIN => {
                            send(socket, &record(status, *number, identifier))?;
                            *sent = Instant::now();
                            repeated += 1;
                        }
                        None | Some(_) => {}
                    }
                }
            }
            if idle {
                std::thread::sleep(TURN);
            }
        }
        Ok(repeated)
    }

    /// Sends Interims of SIMs among `numbers` at an even rate; returns the delays of the replies in
    /// milliseconds. What is not answered has none.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn interims(&self, numbers: Range<u32>, rate: u32, time: Duration) -> io::Result<Vec<f64>> {
        let total = f64::from(rate) * time.as_secs_f64();
        let mut sent_at = vec![[None::<Instant>; 256]; self.sockets.len()];
        let mut delays = Vec::new();
        let (begun, mut sent) = (Instant::now(), 0_u32);
        while begun.elapsed() < time + LATEST {
            let due = (begun.elapsed().as_secs_f64() * f64::from(rate)).min(total);
            while f64::from(sent) < due {
                let [high @ .., identifier] = sent.to_be_bytes();
                let turn = u32::from_be_bytes([0, high[0], high[1], high[2]]);
                let at = usize::try_from(turn).unwrap_or_default() % self.sockets.len();
                let number = numbers.start
                    + sent.wrapping_mul(2_654_435_761) % (numbers.end - numbers.start);
                let place = sent_at.get_mut(at).and_then(|of| of.get_mut(usize::from(identifier)));
                if let (Some(socket), Some(place)) = (self.sockets.get(at), place) {
                    *place = Some(Instant::now());
                    send(socket, &record(Status::Interim, number, identifier))?;
                }
                sent += 1;
            }
            let mut answer = [0; 64];
            for (socket, sent_at) in self.sockets.iter().zip(&mut sent_at) {
                while let Some(place) = received(socket, &mut answer)? {
                    if let Some(sent) = sent_at.get_mut(place).and_then(Option::take) {
                        delays.push(sent.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
            std::thread::sleep(TURN);
        }
        Ok(delays)
    }

    /// Seconds since the NAS began.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

/// The IMSI of the SIM of this number.
#[must_use]
pub fn imsi(number: u32) -> String {
    format!("00101{number:010}")
}

/// The address of the SIM of this number.
#[must_use]
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + number)
}

fn record(status: Status, number: u32, identifier: u8) -> Vec<u8> {
    Request::accounting(identifier, status)
        .with(44, format!("{number:08X}").as_bytes())
        .with_address(address(number).into())
        .with(30, b"internet")
        .with(31, format!("49151{number:08}").as_bytes())
        .with_imsi(&imsi(number))
        .signed(SECRET)
}

/// A full socket buffer is as good as a lost datagram.
fn send(socket: &UdpSocket, record: &[u8]) -> io::Result<()> {
    match socket.send(record) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The identifier of the next answer, if one is there.
fn received(socket: &UdpSocket, answer: &mut [u8; 64]) -> io::Result<Option<usize>> {
    match socket.recv(answer) {
        Ok(_) => Ok(Some(usize::from(answer[1]))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the NAS and the gateway share.
pub const SECRET: &str = "bench-secret";
const SOCKETS: usize = 64;
/// Records of a socket that are on their way in a storm.
const WINDOW: usize = 64;
/// How long the NAS waits for something to do.
const TURN: Duration = Duration::from_micros(200);
/// How long it waits for an answer before it says a thing again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the last answers are waited for.
const LATEST: Duration = Duration::from_secs(3);
