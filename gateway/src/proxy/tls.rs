//! One TLS session: read the hello, judge its name, dial the name, pass every byte on unchanged.
//!
//! Nothing is decrypted and nothing is sent to an origin before the name was judged. A denial is
//! a fatal alert, then a close.

use std::{future::pending, io, time::Duration};

use policy::Reason;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    Parts,
    alert::Alert,
    dial::{Counted, Dialled},
    farewell::farewell,
    hello::{Hello, HelloReader, Progress},
    judge,
    meter::{Flow, Meter},
    metrics::Direction,
    outcome::{OriginEnd, OurEnd, Outcome, PolicyEnd, SubscriberEnd},
    pipes::Pipes,
    relay::{Ended, has_ended, relay, send_last},
    retry::{RetryWatch, ServerStep},
    sessions::Session,
};

/// Serves one session until it ends, or has to end.
pub(super) async fn serve(
    stream: std::net::TcpStream,
    session: &Session,
    parts: &Parts,
    pipes: &Pipes,
) -> Outcome {
    tokio::select! {
        biased;
        outcome = session.cut() => outcome,
        outcome = converse(stream, session, parts, pipes) => outcome,
    }
}

async fn converse(
    stream: std::net::TcpStream,
    session: &Session,
    parts: &Parts,
    pipes: &Pipes,
) -> Outcome {
    // On the heap, because it needs far more room than the relay, which may last for days.
    let (stream, origin, _counted) = match Box::pin(opened(stream, session, parts)).await {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    let moved = |direction, bytes| session.moved(&*parts.judge, direction, bytes);
    match relay(stream, origin, pipes, parts.limits.idle_limit, moved).await {
        Ended::Both => Outcome::Finished,
        Ended::SubscriberBroke => Outcome::Subscriber(SubscriberEnd::Reset),
        Ended::OriginBroke => Outcome::Origin(OriginEnd::Reset),
        Ended::Idle => Outcome::Us(OurEnd::Idle),
    }
}

/// The subscriber's connection. Most hellos have arrived by the time a connection is accepted: a
/// runtime hears of it only when there is something to wait for, and never of one that is denied.
enum Near {
    Fresh(std::net::TcpStream),
    Awaited(TcpStream),
}

/// Everything until the origin has settled the server name; what follows is opaque.
async fn opened(
    stream: std::net::TcpStream,
    session: &Session,
    parts: &Parts,
) -> Result<(TcpStream, TcpStream, Counted), Outcome> {
    let mut near = Near::Fresh(stream);
    let mut reader = HelloReader::new();
    let mut read = near.read(&mut reader);
    if read.is_none() {
        let Ok(stream) = near.awaited() else { return Err(Outcome::Us(OurEnd::Broken)) };
        let rest = timeout(parts.limits.hello_time, rest_of_hello(&stream, &mut reader));
        read = Some(Box::pin(rest).await.unwrap_or(Err(NoHello::Rejected(Reason::HelloTimeout))));
        near = Near::Awaited(stream);
    }
    let hello = match read.unwrap_or(Err(NoHello::Gone)) {
        Ok(hello) => hello,
        Err(NoHello::Gone) => return Err(Outcome::Subscriber(SubscriberEnd::Gone)),
        // Browsers open connections that they may never use.
        Err(NoHello::Rejected(_)) if reader.is_empty() => {
            return Err(Outcome::Subscriber(SubscriberEnd::Idle));
        }
        Err(NoHello::Rejected(reason)) => {
            judge::denied(parts, session, reason);
            near.refuse(Alert::for_reason(reason), false).await;
            return Err(Outcome::Subscriber(SubscriberEnd::Malformed(reason)));
        }
    };
    let host = hello.server_name();
    tracing::debug!(%host, ech = hello.ech(), "hello read");
    let is_all = reader.is_spent();
    let snapshot = match judge::in_force(parts, session) {
        Ok(snapshot) => snapshot,
        Err(reason) => return Err(near.deny(reason, is_all).await),
    };
    let rule = match judge::judged(parts, session, &snapshot, host) {
        Ok(passed) => passed.rule,
        Err(reason) => return Err(near.deny(reason, is_all).await),
    };
    let (watch, first) = match RetryWatch::begin(&hello, reader) {
        Ok(begun) => begun,
        Err(reason) => {
            judge::denied(parts, session, reason);
            return Err(near.deny(reason, false).await);
        }
    };
    let (asker, port) = (session.subscriber(), session.port());
    let dialled = parts.dialer.dial(&parts.resolver, &snapshot, asker, host, rule, port).await;
    let dialled = match dialled {
        Ok(dialled) => dialled,
        Err(error) => {
            tracing::debug!(%host, error = &error as &dyn std::error::Error, "not dialled");
            if let Some(reason) = error.reason() {
                judge::denied(parts, session, reason);
            }
            near.refuse(Alert::for_dial(&error), is_all).await;
            return Err(error.outcome());
        }
    };
    tracing::debug!(address = %dialled.address, "origin connected");
    judge::compare_destination(parts, session, &dialled.addresses);
    let Dialled { stream: mut origin, counted, .. } = dialled;
    let Ok(mut stream) = near.awaited() else { return Err(Outcome::Us(OurEnd::Broken)) };
    match watched(&mut stream, &mut origin, watch, first, session, parts).await {
        Ok(()) => Ok((stream, origin, counted)),
        Err(Watched::Ended(outcome)) => Err(outcome),
        Err(Watched::Changed(reason)) => {
            judge::denied(parts, session, reason);
            drop(origin);
            Err(Near::Awaited(stream).deny(reason, false).await)
        }
    }
}

/// Why there is no hello.
enum NoHello {
    Gone,
    Rejected(Reason),
}

async fn rest_of_hello(stream: &TcpStream, reader: &mut HelloReader) -> Result<Hello, NoHello> {
    loop {
        stream.readable().await.map_err(|_| NoHello::Gone)?;
        let mut place = [0; HELLO_PLACE];
        if let Some(done) = read(stream.try_read(&mut place), &place, reader) {
            return done;
        }
    }
}

/// Reads on with what came; `None` when more is needed.
fn read(
    came: io::Result<usize>,
    place: &[u8],
    reader: &mut HelloReader,
) -> Option<Result<Hello, NoHello>> {
    let octets = match came {
        Ok(0) => return Some(Err(NoHello::Gone)),
        Ok(length) => place.get(..length).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        Err(_) => return Some(Err(NoHello::Gone)),
    };
    match reader.push(octets) {
        Progress::Incomplete => None,
        Progress::Complete(hello) => Some(Ok(hello)),
        Progress::Reject(reason) => Some(Err(NoHello::Rejected(reason))),
    }
}

impl Near {
    /// Reads what is there already; `None` when more is needed.
    fn read(&self, reader: &mut HelloReader) -> Option<Result<Hello, NoHello>> {
        let Self::Fresh(stream) = self else { return None };
        let mut place = [0; HELLO_PLACE];
        let came = recv(stream, &mut place, RecvFlags::empty());
        read(came.map(|(_, length)| length).map_err(io::Error::from), &place, reader)
    }

    fn awaited(self) -> io::Result<TcpStream> {
        match self {
            Self::Fresh(stream) => TcpStream::from_std(stream),
            Self::Awaited(stream) => Ok(stream),
        }
    }

    async fn deny(self, reason: Reason, is_all: bool) -> Outcome {
        self.refuse(Alert::for_reason(reason), is_all).await;
        Outcome::Policy(PolicyEnd::Denied(reason))
    }

    /// Says why, and closes. If what was read `is_all` the subscriber has said, nothing can make a
    /// reset of the close, and nothing need be waited for.
    async fn refuse(self, alert: Alert, is_all: bool) {
        let record = alert.record();
        // Seven octets find room in a buffer that holds none yet, and leave with the close: one
        // packet says both.
        let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
        match self {
            Self::Fresh(stream) if is_all => {
                let _ = send(&stream, &record, flags);
            }
            Self::Awaited(stream) if is_all => {
                let _ = send(&stream, &record, flags);
            }
            Self::Fresh(_) | Self::Awaited(_) => {
                if let Ok(mut stream) = self.awaited() {
                    Box::pin(farewell(&mut stream, &record)).await;
                }
            }
        }
    }
}

/// Why a watch ended the session.
enum Watched {
    Ended(Outcome),
    Changed(Reason),
}

/// Passes bytes on, in both directions and judging a second hello, until the origin has settled
/// the server name.
async fn watched(
    stream: &mut TcpStream,
    origin: &mut TcpStream,
    mut watch: RetryWatch,
    first: Vec<u8>,
    session: &Session,
    parts: &Parts,
) -> Result<(), Watched> {
    let limit = parts.limits.idle_limit;
    let meter = session.meter(&parts.judge);
    let to_origin = async |origin: &mut TcpStream, bytes: &[u8]| {
        meter.moved(Direction::ToOrigin, bytes.len()).await;
        write(origin, bytes, limit).await.map_err(|_| ORIGIN_BROKE)
    };
    to_origin(origin, &first).await?;
    drop(first);
    let mut out = Vec::new();
    let mut subscriber_speaks = true;
    loop {
        // Being ready is not lost when the other is ready first.
        let from_subscriber = tokio::select! {
            ready = stream.ready(Interest::READABLE), if subscriber_speaks => {
                ready.map_err(|_| SUBSCRIBER_BROKE)?;
                true
            }
            ready = origin.ready(Interest::READABLE) => {
                ready.map_err(|_| ORIGIN_BROKE)?;
                false
            }
            () = sleep(limit) => return Err(Watched::Ended(Outcome::Us(OurEnd::Idle))),
        };
        if from_subscriber {
            let Some(octets) = taken(stream).map_err(|_| SUBSCRIBER_BROKE)? else { continue };
            if octets.is_empty() {
                subscriber_speaks = false;
                origin.shutdown().await.map_err(|_| ORIGIN_BROKE)?;
            }
            watch.client(&octets, &mut out).map_err(Watched::Changed)?;
            to_origin(origin, &out).await?;
            out.clear();
        } else {
            match answer(origin, stream, &mut watch, &meter)? {
                Answer::Nothing => {}
                Answer::End => {
                    // The server name was never settled, so nothing more may go to the origin. What it
                    // said last may still wait for this end.
                    let _ = stream.shutdown().await;
                    return Err(Watched::Ended(Outcome::Finished));
                }
                Answer::Over => pending().await,
                Answer::Octets { step, rest } => {
                    write(stream, &rest, limit).await.map_err(|_| SUBSCRIBER_BROKE)?;
                    match step {
                        ServerStep::Watching => {}
                        ServerStep::Over => return to_origin(origin, &watch.into_held()).await,
                    }
                }
            }
        }
    }
}

const SUBSCRIBER_BROKE: Watched = Watched::Ended(Outcome::Subscriber(SubscriberEnd::Reset));
const ORIGIN_BROKE: Watched = Watched::Ended(Outcome::Origin(OriginEnd::Reset));

/// What an origin had to say.
enum Answer {
    Nothing,
    End,
    /// More than the subscriber may have: whoever counts cuts the session.
    Over,
    /// Octets, of which the subscriber had no room for the `rest`.
    Octets {
        step: ServerStep,
        rest: Box<[u8]>,
    },
}

/// Passes on what the origin says, a little at once, when `watch` has seen it.
fn answer(
    origin: &TcpStream,
    stream: &TcpStream,
    watch: &mut RetryWatch,
    meter: &Meter,
) -> Result<Answer, Watched> {
    let is_ending = has_ended(origin);
    let mut place = [0; HELLO_PLACE];
    let octets = match origin.try_read(&mut place) {
        Ok(0) => return Ok(Answer::End),
        Ok(length) => place.get(..length).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Answer::Nothing),
        Err(_) => return Err(ORIGIN_BROKE),
    };
    let step = watch.server(octets);
    if meter.count(Direction::ToSubscriber, octets.len()) == Flow::Over {
        return Ok(Answer::Over);
    }
    let written = if is_ending && octets.len() < HELLO_PLACE {
        stream.try_io(Interest::WRITABLE, || send_last(stream, octets))
    } else {
        stream.try_write(octets)
    };
    let written = match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        written => written.map_err(|_| SUBSCRIBER_BROKE)?,
    };
    Ok(Answer::Octets { step, rest: octets.get(written..).unwrap_or_default().into() })
}

/// What has arrived, a little at once; nothing at the end, `None` if there was nothing after all.
fn taken(stream: &TcpStream) -> io::Result<Option<Box<[u8]>>> {
    let mut place = [0; HELLO_PLACE];
    match stream.try_read(&mut place) {
        Ok(length) => Ok(Some(place.get(..length).unwrap_or_default().into())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

async fn write(sink: &mut TcpStream, bytes: &[u8], limit: Duration) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    // There is room for the first octets of a connection.
    let written = match sink.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        written => written?,
    };
    match bytes.get(written..).filter(|rest| !rest.is_empty()) {
        None => Ok(()),
        Some(rest) => timeout(limit, sink.write_all(rest)).await?,
    }
}

/// Octets read at once while the handshake begins; most hellos fit.
const HELLO_PLACE: usize = 4096;

#[cfg(test)]
mod tests;
