//! The subscriber: sends what it is told, and tells what came back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use bench::network::{CLIENT, inside};

/// A connection of the subscriber's.
pub(crate) struct Talk {
    /// `None` where none could be had.
    stream: Option<TcpStream>,
    begun: Instant,
    /// What came back.
    pub(crate) octets: Vec<u8>,
    /// Whether the far side ended it.
    pub(crate) is_over: bool,
}

impl Talk {
    pub(crate) fn open(to: SocketAddr) -> Self {
        let begun = now();
        let stream = inside(CLIENT, move || TcpStream::connect_timeout(&to, PATIENCE)).ok();
        if let Some(stream) = &stream {
            // Pieces leave as they are written.
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(BEAT));
        }
        Self { is_over: stream.is_none(), stream, begun, octets: Vec::new() }
    }

    pub(crate) fn send(&mut self, octets: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        self.is_over |= stream.write_all(octets).is_err();
    }

    /// Sends octet by octet, each in a segment of its own, with `pause` between two, until all are
    /// sent, the far side ends it, or [`LONG_PATIENCE`] is over.
    pub(crate) fn trickle(&mut self, octets: &[u8], pause: Duration) {
        for octet in octets {
            if self.is_over || self.lasted() > LONG_PATIENCE {
                return;
            }
            self.send(&[*octet]);
            thread::park_timeout(pause);
            if pause > BEAT {
                self.listen();
            }
        }
    }

    /// Reads until `is_enough`, the end, or [`PATIENCE`] is over.
    pub(crate) fn until(&mut self, is_enough: impl Fn(&Self) -> bool) {
        while !self.is_over && !is_enough(self) && self.lasted() < PATIENCE {
            self.listen();
        }
    }

    /// Since the connection was asked for.
    pub(crate) fn lasted(&self) -> Duration {
        self.begun.elapsed()
    }

    fn listen(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut place = [0; 4096];
        match stream.read(&mut place) {
            Ok(0) => self.is_over = true,
            Ok(length) => self.octets.extend(place.iter().take(length)),
            Err(error) => {
                let is_silent = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                self.is_over = !is_silent.contains(&error.kind());
            }
        }
    }
}

/// Sends one datagram; what comes back, or the error the network reports at once.
pub(crate) fn datagram(to: SocketAddr, octets: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    let socket = inside(CLIENT, move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok::<_, std::io::Error>(socket)
    });
    let mut place = [0; 4096];
    let got = socket.and_then(|socket| {
        socket.send(octets)?;
        socket.recv(&mut place)
    });
    got.map(|length| place.iter().take(length).copied().collect()).map_err(|error| error.kind())
}

#[expect(clippy::disallowed_methods, reason = "a comparison takes the time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How long a client waits for anything before the cell says that it hangs: longer than the five
/// seconds that the recipes give a hello.
const PATIENCE: Duration = Duration::from_secs(7);
/// The same for a client that is slow itself.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(15);
/// How often what was recorded is looked at.
const BEAT: Duration = Duration::from_millis(50);
