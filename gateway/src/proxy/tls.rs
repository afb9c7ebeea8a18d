//! One TLS session: read the hello, judge its name, dial the name, pass every byte on unchanged.
//!
//! Nothing is decrypted and nothing is sent to an origin before the name was judged. A denial is
//! a fatal alert, then a close.

use std::{io, time::Duration};

use policy::Reason;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    Parts,
    alert::Alert,
    dial::Dialled,
    farewell::farewell,
    hello::{Hello, HelloReader, Progress},
    judge,
    meter::Meter,
    metrics::Direction,
    outcome::{OriginEnd, OurEnd, Outcome, PolicyEnd, SubscriberEnd},
    relay::{Ended, relay},
    retry::{RetryWatch, ServerStep},
    sessions::Session,
};

/// Serves one session until it ends, or has to end.
pub(super) async fn serve<S>(stream: S, session: &Session, parts: &Parts) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::select! {
        outcome = session.cut() => outcome,
        outcome = converse(stream, session, parts) => outcome,
    }
}

async fn converse<S>(stream: S, session: &Session, parts: &Parts) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // On the heap, because it needs far more room than the relay, which may last for days.
    let (stream, origin) = match Box::pin(opened(stream, session, parts)).await {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    let meter = session.meter(&parts.judge);
    let moved = |direction, bytes| meter.count(direction, bytes);
    match relay(stream, origin, parts.limits.idle_limit, moved).await {
        Ended::Both => Outcome::Finished,
        Ended::SubscriberBroke => Outcome::Subscriber(SubscriberEnd::Reset),
        Ended::OriginBroke => Outcome::Origin(OriginEnd::Reset),
        Ended::Idle => Outcome::Us(OurEnd::Idle),
    }
}

/// Everything until the origin has settled the server name; what follows is opaque.
async fn opened<S>(
    mut stream: S,
    session: &Session,
    parts: &Parts,
) -> Result<(S, TcpStream), Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reader = HelloReader::new();
    let read = timeout(parts.limits.hello_time, read_hello(&mut stream, &mut reader)).await;
    let hello = match read.unwrap_or(Err(NoHello::Rejected(Reason::HelloTimeout))) {
        Ok(hello) => hello,
        Err(NoHello::Gone) => return Err(Outcome::Subscriber(SubscriberEnd::Gone)),
        // Browsers open connections that they may never use.
        Err(NoHello::Rejected(_)) if reader.is_empty() => {
            return Err(Outcome::Subscriber(SubscriberEnd::Idle));
        }
        Err(NoHello::Rejected(reason)) => {
            judge::denied(parts, session, reason);
            refuse(&mut stream, Alert::for_reason(reason)).await;
            return Err(Outcome::Subscriber(SubscriberEnd::Malformed(reason)));
        }
    };
    let host = hello.server_name();
    tracing::debug!(%host, ech = hello.ech(), "hello read");
    let snapshot = match judge::in_force(parts, session) {
        Ok(snapshot) => snapshot,
        Err(reason) => return Err(deny(&mut stream, reason).await),
    };
    let rule = match judge::judged(parts, session, &snapshot, host) {
        Ok(passed) => passed.rule,
        Err(reason) => return Err(deny(&mut stream, reason).await),
    };
    let (watch, first) = match RetryWatch::begin(&hello, reader) {
        Ok(begun) => begun,
        Err(reason) => {
            judge::denied(parts, session, reason);
            return Err(deny(&mut stream, reason).await);
        }
    };
    let dialled = parts.dialer.dial(&parts.resolver, &snapshot, host, rule, session.port()).await;
    let Dialled { stream: mut origin, address, addresses } = match dialled {
        Ok(dialled) => dialled,
        Err(error) => {
            tracing::debug!(%host, error = &error as &dyn std::error::Error, "not dialled");
            if let Some(reason) = error.reason() {
                judge::denied(parts, session, reason);
            }
            refuse(&mut stream, Alert::for_dial(&error)).await;
            return Err(error.outcome());
        }
    };
    tracing::debug!(%address, "origin connected");
    if session.destination().is_some_and(|wanted| !addresses.contains(&wanted.ip())) {
        parts.metrics.destination_mismatched();
    }
    let meter = session.meter(&parts.judge);
    match watched(&mut stream, &mut origin, watch, first, &meter, parts.limits.idle_limit).await {
        Ok(()) => Ok((stream, origin)),
        Err(Watched::Ended(outcome)) => Err(outcome),
        Err(Watched::Changed(reason)) => {
            judge::denied(parts, session, reason);
            drop(origin);
            Err(deny(&mut stream, reason).await)
        }
    }
}

/// Why there is no hello.
enum NoHello {
    Gone,
    Rejected(Reason),
}

async fn read_hello<S>(stream: &mut S, reader: &mut HelloReader) -> Result<Hello, NoHello>
where
    S: AsyncRead + Unpin,
{
    let mut buffer = vec![0; HELLO_BUFFER];
    loop {
        let length = stream.read(&mut buffer).await.map_err(|_| NoHello::Gone)?;
        if length == 0 {
            return Err(NoHello::Gone);
        }
        match reader.push(buffer.get(..length).unwrap_or_default()) {
            Progress::Incomplete => {}
            Progress::Complete(hello) => return Ok(hello),
            Progress::Reject(reason) => return Err(NoHello::Rejected(reason)),
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
async fn watched<S>(
    stream: &mut S,
    origin: &mut TcpStream,
    mut watch: RetryWatch,
    first: Vec<u8>,
    meter: &Meter,
    limit: Duration,
) -> Result<(), Watched>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const SUBSCRIBER_BROKE: Watched = Watched::Ended(Outcome::Subscriber(SubscriberEnd::Reset));
    const ORIGIN_BROKE: Watched = Watched::Ended(Outcome::Origin(OriginEnd::Reset));
    let to_origin = async |origin: &mut TcpStream, bytes: &[u8]| {
        meter.moved(Direction::ToOrigin, bytes.len()).await;
        write(origin, bytes, limit).await.map_err(|_| ORIGIN_BROKE)
    };
    to_origin(origin, &first).await?;
    let mut from_subscriber = vec![0; HELLO_BUFFER];
    let mut from_origin = vec![0; HELLO_BUFFER];
    let mut out = Vec::new();
    let mut subscriber_speaks = true;
    loop {
        // Both reads are cancel-safe.
        tokio::select! {
            read = stream.read(&mut from_subscriber), if subscriber_speaks => {
                let length = read.map_err(|_| SUBSCRIBER_BROKE)?;
                if length == 0 {
                    subscriber_speaks = false;
                    origin.shutdown().await.map_err(|_| ORIGIN_BROKE)?;
                }
                let bytes = from_subscriber.get(..length).unwrap_or_default();
                watch.client(bytes, &mut out).map_err(Watched::Changed)?;
                to_origin(origin, &out).await?;
                out.clear();
            }
            read = origin.read(&mut from_origin) => {
                let length = read.map_err(|_| ORIGIN_BROKE)?;
                if length == 0 {
                    // The server name was never settled, so nothing more may go to the origin.
                    return Err(Watched::Ended(Outcome::Finished));
                }
                let bytes = from_origin.get(..length).unwrap_or_default();
                let step = watch.server(bytes);
                meter.moved(Direction::ToSubscriber, bytes.len()).await;
                write(stream, bytes, limit).await.map_err(|_| SUBSCRIBER_BROKE)?;
                match step {
                    ServerStep::Watching => {}
                    ServerStep::Over => return to_origin(origin, &watch.into_held()).await,
                }
            }
            () = sleep(limit) => return Err(Watched::Ended(Outcome::Us(OurEnd::Idle))),
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    sink: &mut W,
    bytes: &[u8],
    limit: Duration,
) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    timeout(limit, sink.write_all(bytes)).await?
}

async fn deny<S>(stream: &mut S, reason: Reason) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    refuse(stream, Alert::for_reason(reason)).await;
    Outcome::Policy(PolicyEnd::Denied(reason))
}

async fn refuse<S>(stream: &mut S, alert: Alert)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    farewell(stream, &alert.record()).await;
}

/// Bytes read at once while the handshake begins; most hellos fit.
const HELLO_BUFFER: usize = 2048;

#[cfg(test)]
mod tests;
