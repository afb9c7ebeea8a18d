//! Moves bytes between subscriber and origin until both are done.
//!
//! Bytes are never looked at or changed. The end of one direction is passed on and the other goes
//! on; only silence in both, for longer than the idle limit, ends a relay that neither side ended.
//! A silent relay holds no buffer: what arrives is read into a place on the stack and written on
//! at once, and only what the other side has no room for is kept.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt;
use rustix::net::{SendFlags, send};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{
    meter::Flow,
    metrics::Direction,
    pipes::{Loan, Pipes},
};

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides closed.
    Both,
    /// The subscriber's connection broke.
    SubscriberBroke,
    /// The origin's connection broke.
    OriginBroke,
    /// Nothing moved for longer than the limit.
    Idle,
}

/// Relays until both sides are done, one breaks, or nothing moves for `idle_limit` (to which the
/// watch adds up to a quarter). Once `moved` says that bytes were the last, it waits to be cut.
pub(super) async fn relay(
    mut subscriber: TcpStream,
    mut origin: TcpStream,
    pipes: &Pipes,
    idle_limit: Duration,
    moved: impl Fn(Direction, usize) -> Flow,
) -> Ended {
    let (mut up, mut down) = (Pump::new(pipes), Pump::new(pipes));
    let mut silence = Silence { moves: 0, seen: 0, quiet: 0, slice: idle_limit / SLICES };
    let mut timer = pin!(sleep(silence.slice));
    poll_fn(|context| {
        let is_last = down.state == State::Ended;
        let pumped = up.poll(context, &mut subscriber, &mut origin, is_last, |bytes| {
            silence.moves += 1;
            moved(Direction::ToOrigin, bytes)
        });
        if let Some(Broken { source }) = pumped {
            let broke = if source { Ended::SubscriberBroke } else { Ended::OriginBroke };
            return Poll::Ready(broke);
        }
        let is_last = up.state == State::Ended;
        let pumped = down.poll(context, &mut origin, &mut subscriber, is_last, |bytes| {
            silence.moves += 1;
            moved(Direction::ToSubscriber, bytes)
        });
        if let Some(Broken { source }) = pumped {
            let broke = if source { Ended::OriginBroke } else { Ended::SubscriberBroke };
            return Poll::Ready(broke);
        }
        if up.state == State::Ended && down.state == State::Ended {
            return Poll::Ready(Ended::Both);
        }
        silence.poll(context, timer.as_mut()).map(|()| Ended::Idle)
    })
    .await
}

/// One direction.
struct Pump<'p> {
    pipes: &'p Pipes,
    state: State,
    kept: Kept<'p>,
    /// The last read found more than the place on the stack takes: a pipe is worth its calls.
    is_busy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes may come.
    Open,
    /// The source is done; the sink has to be told.
    Ending,
    /// The sink knows.
    Ended,
    /// No byte may pass any more; whoever counts them cuts the session.
    Over,
}

/// What the sink had no room for.
enum Kept<'p> {
    Nothing,
    Octets { octets: Box<[u8]>, given: usize },
    Pipe(Loan<'p>),
}

struct Broken {
    source: bool,
}

impl<'p> Pump<'p> {
    fn new(pipes: &'p Pipes) -> Self {
        Self { pipes, state: State::Open, kept: Kept::Nothing, is_busy: false }
    }

    /// Moves what can be moved now. The end of the source `is_last` when the other direction has
    /// ended before: then closing both says it, and the sink need not be told.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        is_last: bool,
        mut moved: impl FnMut(usize) -> Flow,
    ) -> Option<Broken> {
        loop {
            match self.state {
                State::Ended | State::Over => return None,
                State::Ending if is_last => self.state = State::Ended,
                State::Ending => match Pin::new(&mut *sink).poll_shutdown(context) {
                    Poll::Pending => return None,
                    // A peer that is gone already cannot be told, which harms nothing.
                    Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::NotConnected => {
                        return Some(Broken { source: false });
                    }
                    Poll::Ready(_) => self.state = State::Ended,
                },
                State::Open => {
                    if let Kept::Nothing = self.kept {
                        match self.poll_take(context, source, sink, &mut moved) {
                            Poll::Pending => return None,
                            Poll::Ready(Ok(())) => {}
                            Poll::Ready(Err(broken)) => return Some(broken),
                        }
                    } else {
                        match self.poll_give(context, sink, &mut moved) {
                            Poll::Pending => return None,
                            Poll::Ready(Ok(())) => {}
                            Poll::Ready(Err(_)) => return Some(Broken { source: false }),
                        }
                    }
                }
            }
        }
    }

    /// Takes what the source has, and gives the sink what it has room for.
    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        moved: &mut impl FnMut(usize) -> Flow,
    ) -> Poll<Result<(), Broken>> {
        const SOURCE: Broken = Broken { source: true };
        if self.is_busy
            && let Some(mut loan) = self.pipes.lend()
        {
            ready!(source.poll_read_ready(context)).map_err(|_| SOURCE)?;
            match source.try_io(Interest::READABLE, || loan.fill(&*source)) {
                Ok(0) => self.state = State::Ending,
                Ok(octets) => {
                    self.is_busy = octets >= PLACE;
                    self.kept = Kept::Pipe(loan);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_busy = false,
                Err(_) => return Poll::Ready(Err(SOURCE)),
            }
            return Poll::Ready(Ok(()));
        }
        ready!(source.poll_read_ready(context)).map_err(|_| SOURCE)?;
        let is_ending = has_ended(source);
        let mut place = [MaybeUninit::uninit(); PLACE];
        let mut buffer = ReadBuf::uninit(&mut place);
        ready!(Pin::new(source).poll_read(context, &mut buffer)).map_err(|_| SOURCE)?;
        let octets = buffer.filled();
        self.is_busy = octets.len() == PLACE;
        if octets.is_empty() {
            self.state = State::Ending;
            return Poll::Ready(Ok(()));
        }
        let written = if is_ending && !self.is_busy {
            match sink.try_io(Interest::WRITABLE, || send_last(sink, octets)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                written => written,
            }
        } else {
            match Pin::new(sink).poll_write(context, octets) {
                Poll::Pending => Ok(0),
                Poll::Ready(written) => written,
            }
        };
        let written = written.map_err(|_| Broken { source: false })?;
        self.count(written, moved);
        if let Some(rest) = octets.get(written..).filter(|rest| !rest.is_empty()) {
            self.kept = Kept::Octets { octets: rest.into(), given: 0 };
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the sink what is kept for it.
    fn poll_give(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut TcpStream,
        moved: &mut impl FnMut(usize) -> Flow,
    ) -> Poll<io::Result<()>> {
        let written = match &mut self.kept {
            Kept::Nothing => return Poll::Ready(Ok(())),
            Kept::Octets { octets, given } => {
                let rest = octets.get(*given..).unwrap_or_default();
                let written = ready!(Pin::new(sink).poll_write(context, rest))?;
                *given += written;
                if *given >= octets.len() {
                    self.kept = Kept::Nothing;
                }
                written
            }
            Kept::Pipe(loan) => {
                ready!(sink.poll_write_ready(context))?;
                let written = match sink.try_io(Interest::WRITABLE, || loan.pour(&*sink)) {
                    Ok(written) => written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                };
                if loan.octets() == 0 {
                    self.kept = Kept::Nothing;
                }
                written
            }
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.count(written, moved);
        Poll::Ready(Ok(()))
    }

    fn count(&mut self, bytes: usize, moved: &mut impl FnMut(usize) -> Flow) {
        if bytes > 0 && moved(bytes) == Flow::Over {
            self.state = State::Over;
        }
    }
}

/// Whether the peer has said its last: what can be read still is the rest of it.
pub(super) fn has_ended(source: &TcpStream) -> bool {
    let known = source.ready(Interest::READABLE).now_or_never();
    known.is_some_and(|ready| ready.is_ok_and(Ready::is_read_closed))
}

/// Sends the last octets, which leave with the end that follows them: it is one packet instead of
/// two, and one to acknowledge. Most sessions end so, by an alert and a close.
pub(super) fn send_last(sink: &TcpStream, octets: &[u8]) -> io::Result<usize> {
    Ok(send(sink, octets, SendFlags::NOSIGNAL | SendFlags::MORE)?)
}

/// Watches for a relay in which nothing moves.
struct Silence {
    moves: u64,
    seen: u64,
    quiet: u32,
    slice: Duration,
}

impl Silence {
    fn poll(&mut self, context: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        loop {
            ready!(timer.as_mut().poll(context));
            self.quiet = if self.moves == self.seen { self.quiet + 1 } else { 0 };
            self.seen = self.moves;
            if self.quiet >= SLICES {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + self.slice);
        }
    }
}

/// The idle limit is watched in so many slices: no clock is read for each byte.
const SLICES: u32 = 4;
/// Octets that are read at once as long as they are copied.
const PLACE: usize = 16 * 1024;

#[cfg(test)]
mod tests;
