//! What a subscriber may do, good and hostile, and whether it ends as it should.

use std::{io, net::SocketAddr, time::Duration};

use bench::{
    Numbers,
    hello::{Order, client_hello},
    load,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// A kind of attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A listed name, one page.
    Page,
    /// A listed name, up to a megabyte, every octet checked.
    Transfer,
    /// A name that is not listed.
    Denied,
    /// Octets that are not TLS.
    Garbage,
    /// A hello that comes octet by octet and never ends.
    Slow,
    /// A connection without a word.
    Mute,
    /// A transfer that is broken off by a reset.
    BrokenOff,
}

impl Kind {
    /// The next kind: of a hundred, sixty are pages.
    pub(crate) fn draw(numbers: &mut Numbers) -> Self {
        match numbers.below(100) {
            0..60 => Self::Page,
            60..63 => Self::Transfer,
            63..82 => Self::Denied,
            82..88 => Self::Garbage,
            88..90 => Self::Slow,
            90..96 => Self::Mute,
            _ => Self::BrokenOff,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Transfer => "transfer",
            Self::Denied => "denied",
            Self::Garbage => "garbage",
            Self::Slow => "slow",
            Self::Mute => "mute",
            Self::BrokenOff => "broken-off",
        }
    }

    /// Makes one attempt; gives its kind, with what went wrong if something did.
    pub(crate) async fn make(
        self,
        to: SocketAddr,
        listed: &[String],
        other: &[String],
        draw: u64,
    ) -> String {
        let pick = |names: &[String]| {
            let place = usize::try_from(draw).unwrap_or_default() % names.len().max(1);
            names.get(place).cloned().unwrap_or_default()
        };
        let order = |octets| Order { octets, seed: draw | 1, holds: false };
        let ended = match self {
            Self::Page => {
                load::checked(to, &pick(listed), order(1024), Duration::ZERO).await.map(wrong)
            }
            Self::Transfer => {
                let octets = 65_536 + draw % (1 << 20);
                load::checked(to, &pick(listed), order(octets), Duration::ZERO).await.map(wrong)
            }
            Self::Denied => refused(to, client_hello(&pick(other), order(1024))).await,
            Self::Garbage => refused(to, b"SSH-2.0-probe\r\n".to_vec()).await,
            Self::Slow => slow(to, &pick(listed), order(1024), draw).await,
            Self::Mute => TcpStream::connect(to).await.map(drop).map(|()| None),
            Self::BrokenOff => broken_off(to, &pick(listed), order(1 << 22)).await,
        };
        match ended {
            Ok(None) => self.label().to_owned(),
            Ok(Some(fault)) => format!("{}!{fault}", self.label()),
            Err(error) => format!("{}!{:?}", self.label(), error.kind()),
        }
    }
}

fn wrong(octets: u64) -> Option<&'static str> {
    (octets > 0).then_some("wrong-octets")
}

/// What must bring an alert and a close, and nothing of the origin.
async fn refused(to: SocketAddr, octets: Vec<u8>) -> io::Result<Option<&'static str>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&octets).await?;
    let mut answer = Vec::new();
    // A close over octets that nobody read is a reset.
    let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    Ok(match (ended, answer.len()) {
        (Err(_), _) => Some("hangs"),
        (Ok(_), 0..=7) => None,
        (Ok(_), _) => Some("answered"),
    })
}

/// Octets of a hello one by one; the gateway ends it, or the subscriber loses patience.
async fn slow(
    to: SocketAddr,
    name: &str,
    order: Order,
    draw: u64,
) -> io::Result<Option<&'static str>> {
    let mut stream = TcpStream::connect(to).await?;
    for octet in
        client_hello(name, order).into_iter().take(usize::from(draw.is_multiple_of(16)) * 80 + 5)
    {
        if stream.write_all(&[octet]).await.is_err() {
            return Ok(None);
        }
        sleep(SLOWNESS).await;
    }
    Ok(None)
}

/// A transfer that the subscriber resets in the middle.
async fn broken_off(to: SocketAddr, name: &str, order: Order) -> io::Result<Option<&'static str>> {
    let mut stream = load::open(to, name, order).await?;
    timeout(PATIENCE, stream.read_exact(&mut vec![0; 65_536])).await??;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(None)
}

/// Between two octets of a slow hello.
const SLOWNESS: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);
