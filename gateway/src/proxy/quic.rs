//! QUIC on port 443, where the node looks into it: the hello is read from the client's Initial
//! packets, judged like any other, and the path to the name's own address relayed.
//!
//! Nothing is sent to an origin before the name was judged, and nothing passes that could begin a
//! connection to another. What is refused gets a CONNECTION_CLOSE, so that a browser turns to TCP at
//! once; what means nothing is ignored.

pub(crate) mod initial;
#[cfg(test)]
pub(crate) mod made;
mod path;
mod refusal;
mod socket;
pub(crate) mod watch;

use std::{collections::HashMap, io, sync::Arc};

use policy::Reason;
use tokio::sync::mpsc::{self, Sender, error::TrySendError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use self::{
    path::Beginning,
    socket::Path,
    watch::{Step, Watch},
};
use super::{
    Parts, Protocol, judge,
    metrics::Ignored,
    outcome::{OurEnd, Outcome, SubscriberEnd},
    worker::{ACCEPT_PAUSE, PENDING, PENDING_EACH, spawn},
};
use crate::places::Places;

pub(super) use socket::{Door, Listener};

/// The paths that began at one door. Their datagrams come by sockets of their own, but for those
/// that came before these were there.
struct Paths {
    live: HashMap<Path, (u64, Sender<Vec<u8>>)>,
    number: u64,
}

/// What became of a datagram that may belong to a live path.
enum Passed {
    On,
    /// The path loses it, as on any other network.
    Full,
    /// There is no such path.
    Nowhere,
}

/// Takes paths on one door until `stop`. No error of the network ends it.
pub(super) async fn serve(
    door: Door,
    parts: Arc<Parts>,
    stop: CancellationToken,
    serving: TaskTracker,
) {
    let mut paths = Paths { live: HashMap::new(), number: 0 };
    // Only this worker counts on its socket, so the lock over the count is always free.
    let places = Places::new(PENDING, PENDING_EACH);
    let (ended, mut over) = mpsc::unbounded_channel();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            Some((path, number)) = over.recv() => {
                paths.forget(path, number);
                continue;
            }
            received = door.receive(&mut buffer) => received,
        };
        let arrival = match received {
            Ok(arrival) => arrival,
            Err(error) => {
                parts.metrics.accept_failed(Protocol::Quic);
                warn!(%error, "cannot receive datagrams");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                }
            }
        };
        let datagram = buffer.get(..arrival.length).unwrap_or_default();
        match paths.pass(arrival.path, datagram) {
            Passed::On => continue,
            Passed::Full => {
                parts.metrics.ignored(Ignored::Full);
                continue;
            }
            Passed::Nowhere => {}
        }
        let Some((beginning, sender)) = begin(&door, arrival.path, datagram, &parts, &places)
        else {
            continue;
        };
        let (path, number) = (arrival.path, paths.add(arrival.path, sender));
        let (parts, ended) = (Arc::clone(&parts), ended.clone());
        let session_number = beginning.session.number();
        spawn(&serving, session_number, async move {
            let (outcome, session) = beginning.serve(&parts).await;
            debug!(outcome = outcome.label(), "session ended");
            session.end(outcome);
            // The door is gone when the gateway stops.
            let _ = ended.send((path, number));
        });
    }
}

/// Looks at the first datagram of a path; what may go on gets a session.
fn begin(
    door: &Door,
    path: Path,
    datagram: &[u8],
    parts: &Parts,
    places: &Places,
) -> Option<(Beginning, Sender<Vec<u8>>)> {
    let subscriber = path.from.ip().to_canonical();
    let destination = door.knows_destinations().then_some(path.to);
    let mut watch = Watch::default();
    let refuse = |watch: &Watch, reason| {
        judge::refused(parts, subscriber, Protocol::Quic, destination, reason);
        say(door, path, watch.refusal());
    };
    let step = watch.push(datagram);
    match &step {
        Step::Keep | Step::Named(_) => {}
        Step::Reject(reason) => {
            refuse(&watch, *reason);
            let outcome = Outcome::Subscriber(SubscriberEnd::Malformed(*reason));
            parts.metrics.ended(Protocol::Quic, outcome);
            return None;
        }
        Step::Ignore | Step::Pass | Step::Release => {
            parts.metrics.ignored(Ignored::Unclear);
            if let Some(versions) = refusal::versions(datagram) {
                judge::refused(parts, subscriber, Protocol::Quic, destination, Reason::Quic);
                say(door, path, Some(versions));
            }
            return None;
        }
    }
    let limits = judge::class_limits(parts, subscriber);
    let port = destination.map_or_else(|| Protocol::Quic.default_port(), |to| to.port());
    let now = parts.judge.now();
    let admitted = places.enter(subscriber).and_then(|place| {
        let admission =
            parts.sessions.admit(subscriber, Protocol::Quic, port, destination, limits, now);
        Some((place, admission.ok()?))
    });
    let Some((place, session)) = admitted else {
        refuse(&watch, Reason::Limit);
        parts.metrics.ended(Protocol::Quic, Outcome::Us(OurEnd::Limit));
        return None;
    };
    let near = match door.near(path) {
        Ok(near) => near,
        Err(error) => {
            warn!(%error, "no socket for a path");
            session.end(Outcome::Us(OurEnd::Limit));
            return None;
        }
    };
    let (sender, early) = mpsc::channel(watch::MAX_KEPT);
    let kept = vec![datagram.to_vec()];
    Some((Beginning { session, place, near, path, early, watch, step, kept }, sender))
}

/// Sends one datagram back; nobody is told if it cannot be sent.
fn say(door: &Door, path: Path, datagram: Option<Vec<u8>>) {
    let sent =
        datagram.map(|datagram| Ok::<_, io::Error>(socket::send(&door.near(path)?, &datagram)));
    if let Some(Err(error)) = sent {
        debug!(%error, "refusal not sent");
    }
}

impl Paths {
    /// Hands a datagram to the path it belongs to.
    fn pass(&mut self, path: Path, datagram: &[u8]) -> Passed {
        let Some((_, sender)) = self.live.get(&path) else { return Passed::Nowhere };
        match sender.try_send(datagram.to_vec()) {
            Ok(()) => Passed::On,
            Err(TrySendError::Full(_)) => Passed::Full,
            Err(TrySendError::Closed(_)) => Passed::Nowhere,
        }
    }

    fn add(&mut self, path: Path, sender: Sender<Vec<u8>>) -> u64 {
        self.number += 1;
        self.live.insert(path, (self.number, sender));
        self.number
    }

    /// Forgets a path that has ended, unless another has its place.
    fn forget(&mut self, path: Path, number: u64) {
        if self.live.get(&path).is_some_and(|(known, _)| *known == number) {
            self.live.remove(&path);
        }
    }
}

/// Octets of a datagram; what is longer is lost, as on a network with a smaller MTU.
const MAX_DATAGRAM: usize = 2_048;

#[cfg(test)]
mod tests;
