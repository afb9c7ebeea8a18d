//! One QUIC path: wait for the hello, judge its name, pass datagrams on between the subscriber and
//! the name's own address.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use policy::{HostName, Reason};
use tokio::{
    net::UdpSocket,
    sync::mpsc::Receiver,
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use super::{
    MAX_DATAGRAM,
    socket::{Path, send},
    watch::{MAX_KEPT, Step, Watch},
};
use crate::{
    places::Place,
    proxy::{
        Parts,
        dial::{Candidates, Counted, Dialer},
        judge,
        meter::{Flow, Meter},
        metrics::Direction,
        outcome::{OriginEnd, Outcome, PolicyEnd, SubscriberEnd},
        sessions::Session,
    },
};

/// A path whose first datagram has been read.
pub(super) struct Beginning {
    pub(super) session: Session,
    pub(super) place: Place,
    pub(super) near: UdpSocket,
    pub(super) path: Path,
    /// Datagrams that came to the door after the first.
    pub(super) early: Receiver<Vec<u8>>,
    pub(super) watch: Watch,
    /// What became of the first datagram.
    pub(super) step: Step,
    pub(super) kept: Vec<Vec<u8>>,
}

/// The subscriber's side of a path.
struct Near {
    socket: UdpSocket,
    from: SocketAddr,
    early: Receiver<Vec<u8>>,
    watch: Watch,
    kept: Vec<Vec<u8>>,
}

/// The origin's side of a path.
struct Far<'p> {
    socket: UdpSocket,
    _counted: Counted,
    others: std::vec::IntoIter<SocketAddr>,
    dialer: &'p Dialer,
    subscriber: IpAddr,
    /// Everything that was sent before the first answer, for the next address.
    flight: Vec<Vec<u8>>,
    has_answered: bool,
}

impl Beginning {
    /// Serves the path until it ends, or has to end.
    pub(super) async fn serve(self, parts: &Parts) -> (Outcome, Session) {
        let Self { session, place, near, path, early, watch, step, kept } = self;
        let near = Near { socket: near, from: path.from, early, watch, kept };
        let outcome = tokio::select! {
            outcome = session.cut() => outcome,
            outcome = converse(near, step, place, &session, parts) => outcome,
        };
        (outcome, session)
    }
}

async fn converse(
    mut near: Near,
    first: Step,
    place: Place,
    session: &Session,
    parts: &Parts,
) -> Outcome {
    let deny = |near: &Near, reason| {
        near.refuse();
        Outcome::Policy(PolicyEnd::Denied(reason))
    };
    let named = timeout(parts.limits.hello_time, near.named(first)).await;
    let host = match named.unwrap_or(Err(Reason::HelloTimeout)) {
        Ok(host) => host,
        Err(reason) => {
            judge::denied(parts, session, reason);
            near.refuse();
            return Outcome::Subscriber(SubscriberEnd::Malformed(reason));
        }
    };
    drop(place);
    let snapshot = match judge::in_force(parts, session) {
        Ok(snapshot) => snapshot,
        Err(reason) => return deny(&near, reason),
    };
    let rule = match judge::judged(parts, session, &snapshot, &host) {
        Ok(passed) => passed.rule,
        Err(reason) => return deny(&near, reason),
    };
    let (asker, port) = (session.subscriber(), session.port());
    let candidates = parts.dialer.candidates(&parts.resolver, &snapshot, asker, &host, rule, port);
    let Candidates { mut to, addresses } = match candidates.await {
        Ok(candidates) => candidates,
        Err(error) => {
            tracing::debug!(%host, error = &error as &dyn std::error::Error, "not dialled");
            if let Some(reason) = error.reason() {
                judge::denied(parts, session, reason);
            }
            near.refuse();
            return error.outcome();
        }
    };
    judge::compare_destination(parts, session, &addresses);
    // Nobody notices which family has no way out but by silence: the subscriber's has one.
    to.sort_by_key(|address| address.is_ipv4() != near.from.is_ipv4());
    let Some(far) = Far::first(to, &parts.dialer, asker) else {
        near.refuse();
        return Outcome::Origin(OriginEnd::Unreachable);
    };
    relay(near, far, session, parts).await
}

/// Passes datagrams on in both directions.
async fn relay(mut near: Near, mut far: Far<'_>, session: &Session, parts: &Parts) -> Outcome {
    let meter = session.meter(&parts.judge);
    let kept = std::mem::take(&mut near.kept);
    if far.send_all(kept, &meter) == Flow::Over {
        return pending().await;
    }
    let (dial_time, idle_limit) = (parts.limits.dial_time, parts.limits.idle_limit.min(IDLE_LIMIT));
    let mut tick = ticks(PATIENCE);
    let (mut moves, mut waited, mut quiet) = (false, Duration::ZERO, 0);
    let mut stopping = pin!(session.stopping());
    let mut is_stopping = false;
    loop {
        let flow = tokio::select! {
            step = near.next() => match step {
                Ok((Step::Pass, datagram)) => far.send(datagram, &meter),
                Ok((Step::Release, datagram)) => {
                    let mut kept = std::mem::take(&mut near.kept);
                    kept.push(datagram);
                    far.send_all(kept, &meter)
                }
                Ok((Step::Keep, datagram)) => {
                    near.kept.push(datagram);
                    Flow::On
                }
                Ok((Step::Ignore | Step::Named(_), _)) => continue,
                Ok((Step::Reject(reason), _)) => {
                    judge::denied(parts, session, reason);
                    near.refuse();
                    return Outcome::Policy(PolicyEnd::Denied(reason));
                }
                Err(_) if far.has_answered => return Outcome::Finished,
                Err(_) => return Outcome::Subscriber(SubscriberEnd::Gone),
            },
            ready = far.socket.readable() => {
                let answers = !far.has_answered;
                match ready.and_then(|()| far.pass(&near.socket, &meter)) {
                    Ok(flow) => {
                        if answers && far.has_answered {
                            tick = ticks(idle_limit / SLICES);
                        }
                        flow
                    }
                    Err(_) if far.has_answered => return Outcome::Origin(OriginEnd::Reset),
                    Err(_) => match far.next(&meter) {
                        Some(flow) => flow,
                        None => return unreachable(&near),
                    },
                }
            }
            () = &mut stopping, if !is_stopping => {
                is_stopping = true;
                tick = ticks(STOP_LIMIT);
                continue;
            }
            _ = tick.tick() => {
                if !far.has_answered {
                    waited += PATIENCE;
                    if waited >= dial_time {
                        return unreachable(&near);
                    }
                    if far.next(&meter) == Some(Flow::Over) {
                        return pending().await;
                    }
                    continue;
                }
                quiet = if moves { 0 } else { quiet + 1 };
                moves = false;
                // A close is encrypted like everything else: silence is all there is to see.
                if quiet >= SLICES || (is_stopping && quiet > 0) {
                    return Outcome::Finished;
                }
                continue;
            }
        };
        if flow == Flow::Over {
            return pending().await;
        }
        moves = true;
    }
}

fn unreachable(near: &Near) -> Outcome {
    near.refuse();
    Outcome::Origin(OriginEnd::Unreachable)
}

/// A tick that is late is not made up for.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Near {
    /// Waits until the first hello is whole.
    async fn named(&mut self, first: Step) -> Result<HostName, Reason> {
        let mut step = first;
        loop {
            match step {
                Step::Named(host) => return Ok(host),
                Step::Reject(reason) => return Err(reason),
                Step::Keep | Step::Release | Step::Pass | Step::Ignore => {}
            }
            // A subscriber that is gone sends nothing more, and is timed out like a silent one.
            let Ok((next, datagram)) = self.next().await else {
                return Err(Reason::HelloTimeout);
            };
            if matches!(next, Step::Keep | Step::Named(_)) {
                self.kept.push(datagram);
            }
            step = next;
        }
    }

    /// The next datagram of the subscriber, and what becomes of it. Cancel-safe.
    async fn next(&mut self) -> io::Result<(Step, Vec<u8>)> {
        loop {
            let datagram = tokio::select! {
                Some(datagram) = self.early.recv() => datagram,
                ready = self.socket.readable() => {
                    ready?;
                    match self.receive() {
                        Ok(Some(datagram)) => datagram,
                        Ok(None) => continue,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        Err(error) => return Err(error),
                    }
                }
            };
            return Ok((self.watch.push(&datagram), datagram));
        }
    }

    /// `None` for a datagram that is too long, or came before the socket was connected.
    fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        let (length, from) = self.socket.try_recv_from(&mut buffer)?;
        let datagram = buffer.get(..length).filter(|_| length <= MAX_DATAGRAM && from == self.from);
        Ok(datagram.map(<[u8]>::to_vec))
    }

    /// Tells the client that it is refused.
    fn refuse(&self) {
        if let Some(refusal) = self.watch.refusal() {
            send(&self.socket, &refusal);
        }
    }
}

impl<'p> Far<'p> {
    /// A socket to the first address that can be had.
    fn first(candidates: Vec<SocketAddr>, dialer: &'p Dialer, subscriber: IpAddr) -> Option<Self> {
        let mut others = candidates.into_iter();
        let (socket, _counted) =
            others.find_map(|address| dialer.datagrams(address, subscriber).ok())?;
        let flight = Vec::new();
        Some(Self { socket, _counted, others, dialer, subscriber, flight, has_answered: false })
    }

    /// Goes on to the next address, with everything that was sent; `None` if there is none.
    fn next(&mut self, meter: &Meter) -> Option<Flow> {
        let Self { dialer, subscriber, .. } = *self;
        (self.socket, self._counted) =
            self.others.find_map(|address| dialer.datagrams(address, subscriber).ok())?;
        let flight = std::mem::take(&mut self.flight);
        Some(self.send_all(flight, meter))
    }

    fn send_all(&mut self, datagrams: Vec<Vec<u8>>, meter: &Meter) -> Flow {
        let mut flow = Flow::On;
        for datagram in datagrams {
            if self.send(datagram, meter) == Flow::Over {
                flow = Flow::Over;
            }
        }
        flow
    }

    fn send(&mut self, datagram: Vec<u8>, meter: &Meter) -> Flow {
        let sent = send(&self.socket, &datagram);
        if !self.has_answered && self.flight.len() < MAX_KEPT {
            self.flight.push(datagram);
        }
        meter.count(Direction::ToOrigin, sent)
    }

    /// Passes on what has come from the origin, so much at a time that others get their turn.
    fn pass(&mut self, near: &UdpSocket, meter: &Meter) -> io::Result<Flow> {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..BURST {
            let length = match self.socket.try_recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if !self.has_answered {
                self.has_answered = true;
                self.flight = Vec::new();
            }
            let Some(datagram) = buffer.get(..length).filter(|_| length <= MAX_DATAGRAM) else {
                continue;
            };
            let sent = send(near, datagram);
            if meter.count(Direction::ToSubscriber, sent) == Flow::Over {
                return Ok(Flow::Over);
            }
        }
        Ok(Flow::On)
    }
}

/// Without a datagram in either direction: most clients close after 30 seconds of silence, and no
/// close can be seen.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// The idle limit is watched in so many slices.
const SLICES: u32 = 4;
/// For one address to answer, before the next is tried.
const PATIENCE: Duration = Duration::from_secs(1);
/// Without a datagram, once the gateway is about to stop.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// Datagrams passed on at a time.
const BURST: usize = 64;
