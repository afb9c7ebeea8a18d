//! One connection of a client that knows the gateway as its proxy: the request itself says where to.
//!
//! CONNECT is answered only for a name and port that are listed for https, and what follows must be
//! a hello for the same name. Everything else is a request as on port 80, read and judged as such.

use std::net::IpAddr;

use policy::{HostName, Reason};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Parts, Protocol,
    farewell::farewell,
    http::{
        HttpService,
        answer::Answer,
        head::{HeadFault, HeadReader, Method, ProxyProgress},
    },
    judge, listener,
    outcome::{OurEnd, Outcome, PolicyEnd, SubscriberEnd},
    pipes::Pipes,
    sessions::Session,
    tls,
};
use crate::{log::session_id, places::Places};

/// What a client asks for.
enum Asked {
    /// A connection to this port of this host.
    Connect(HostName, u16),
    /// A request to this port, whose octets have come.
    Carry(u16, Vec<u8>),
}

/// Why it asks for nothing.
enum Unasked {
    Gone,
    TooSlow,
    Fault(HeadFault),
}

/// Serves one connection until it ends, or has to end.
pub(super) async fn serve(
    stream: std::net::TcpStream,
    subscriber: IpAddr,
    parts: &Parts,
    http: &HttpService,
    pipes: &Pipes,
    places: &Places,
) {
    let Some(place) = places.enter(subscriber) else {
        turned_away(subscriber, Protocol::Http, parts);
        return listener::reset(stream);
    };
    let Ok(mut stream) = TcpStream::from_std(stream) else {
        return parts.metrics.ended(Protocol::Http, Outcome::Us(OurEnd::Broken));
    };
    let asked = timeout(parts.limits.header_time, asked(&mut stream)).await;
    drop(place);
    let (protocol, port, asked) = match asked.unwrap_or(Err(Unasked::TooSlow)) {
        Ok(asked @ Asked::Connect(_, port)) => (Protocol::Https, port, asked),
        Ok(asked @ Asked::Carry(port, _)) => (Protocol::Http, port, asked),
        Err(unasked) => return refuse(stream, subscriber, unasked, parts).await,
    };
    let (limits, now) = (judge::class_limits(parts, subscriber), parts.judge.now());
    let admission = parts.sessions.admit(subscriber, protocol, port, None, limits, now);
    let Ok(session) = admission else {
        turned_away(subscriber, protocol, parts);
        // One that has no socket any more is closed all the same.
        let _ = stream.into_std().map(listener::reset);
        return;
    };
    let outcome = match asked {
        Asked::Connect(host, _) => connect(stream, &host, &session, parts, pipes).await,
        Asked::Carry(_, octets) => Box::pin(http.serve_from(octets, stream, &session)).await,
    };
    tracing::debug!(outcome = outcome.label(), "session ended");
    session.end(outcome);
}

/// Reads the head of the first request.
async fn asked(stream: &mut TcpStream) -> Result<Asked, Unasked> {
    let mut reader = HeadReader::default();
    let mut buffer = vec![0; HEAD_BUFFER];
    loop {
        let length = stream.read(&mut buffer).await.map_err(|_| Unasked::Gone)?;
        if length == 0 {
            return Err(Unasked::Gone);
        }
        match reader.push_to_proxy(buffer.get(..length).unwrap_or_default()) {
            ProxyProgress::Incomplete => {}
            ProxyProgress::Carry(_, port) => return Ok(Asked::Carry(port, reader.into_octets())),
            // Whoever speaks before the answer may mean the proxy or the origin (RFC 9931 section 3).
            ProxyProgress::Connect(..) if !reader.behind().is_empty() => {
                return Err(Unasked::Fault(HeadFault::Malformed));
            }
            ProxyProgress::Connect(host, port) => return Ok(Asked::Connect(host, port)),
            ProxyProgress::Reject(fault) => return Err(Unasked::Fault(fault)),
        }
    }
}

/// Opens the way to a listed host, and demands that the hello names it too.
async fn connect(
    mut stream: TcpStream,
    host: &HostName,
    session: &Session,
    parts: &Parts,
    pipes: &Pipes,
) -> Outcome {
    let judged = judge::in_force(parts, session)
        .and_then(|snapshot| judge::judged(parts, session, &snapshot, host).map(drop));
    if let Err(reason) = judged {
        let answer = Answer::forbidden(host, &session_id(session.number()));
        farewell(&mut stream, &answer.octets(Method::Other)).await;
        return Outcome::Policy(PolicyEnd::Denied(reason));
    }
    match timeout(parts.limits.header_time, stream.write_all(CONNECTED)).await {
        // The session has its name: a hello for another one is refused.
        Ok(Ok(())) => match stream.into_std() {
            Ok(stream) => tls::serve(stream, session, parts, pipes).await,
            Err(_) => Outcome::Us(OurEnd::Broken),
        },
        Ok(Err(_)) | Err(_) => Outcome::Subscriber(SubscriberEnd::Gone),
    }
}

/// Says why a connection asks for nothing that can be judged.
async fn refuse(mut stream: TcpStream, subscriber: IpAddr, unasked: Unasked, parts: &Parts) {
    let (answer, reason) = match unasked {
        Unasked::Gone => {
            return parts.metrics.ended(Protocol::Http, Outcome::Subscriber(SubscriberEnd::Gone));
        }
        Unasked::TooSlow => (Answer::too_slow(), Some(Reason::HelloTimeout)),
        Unasked::Fault(fault) => (Answer::for_fault(fault), fault.reason()),
    };
    let end = match reason {
        None => SubscriberEnd::BadRequest,
        Some(reason) => {
            judge::refused(parts, subscriber, Protocol::Http, None, reason);
            SubscriberEnd::Malformed(reason)
        }
    };
    farewell(&mut stream, &answer.octets(Method::Other)).await;
    parts.metrics.ended(Protocol::Http, Outcome::Subscriber(end));
}

/// Keeps the books about a connection for which there was no room.
fn turned_away(subscriber: IpAddr, protocol: Protocol, parts: &Parts) {
    judge::refused(parts, subscriber, protocol, None, Reason::Limit);
    parts.metrics.ended(protocol, Outcome::Us(OurEnd::Limit));
}

/// RFC 9110 section 9.3.6.
const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// Octets read at once of a head; most heads fit.
const HEAD_BUFFER: usize = 4096;

#[cfg(test)]
mod tests;
