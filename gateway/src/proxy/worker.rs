//! One worker: a thread with a runtime of its own that accepts sessions and serves each to its end.
//!
//! Nothing of a session is touched by another thread but its entry among the live ones, so no lock
//! on its way is ever waited for.

use std::{io, sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Level, debug, debug_span, info, warn};

use super::{
    Bound, Ending, Parts, Protocol, explicit, greeting,
    http::HttpService,
    judge,
    listener::{self, AcceptError, Accepted, Door},
    outcome::{OurEnd, Outcome},
    pipes::Pipes,
    quic,
    sessions::Session,
    tls,
};
use crate::places::Places;

/// What a worker takes along to its thread.
pub(super) struct Worker {
    shared: Arc<Shared>,
    serving: TaskTracker,
}

/// What every session of a worker uses.
struct Shared {
    parts: Arc<Parts>,
    http: Arc<HttpService>,
    pipes: Pipes,
}

impl Worker {
    pub(super) fn new(parts: Arc<Parts>, http: Arc<HttpService>) -> Self {
        let shared = Arc::new(Shared { parts, http, pipes: Pipes::new() });
        Self { shared, serving: TaskTracker::new() }
    }

    /// Serves what comes to its sockets of those `bound` until it has to stop; then
    /// gives live sessions time to end, and closes the rest.
    ///
    /// # Errors
    ///
    /// There can be no runtime, or the sockets cannot be registered with it.
    pub(super) fn run(
        self,
        bound: Arc<Bound>,
        (number, workers): (usize, usize),
        ending: &Ending,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build()?;
        runtime.block_on(async {
            let accepting = TaskTracker::new();
            let shared = || Arc::clone(&self.shared);
            let ends = || (ending.stop.clone(), self.serving.clone());
            for listener in &bound.steered {
                for door in listener.doors(number, workers)? {
                    let (stop, serving) = ends();
                    let take = admitting(door.protocol(), shared(), serving.clone());
                    accepting.spawn(accept(door, shared(), stop, serving, take));
                }
            }
            for listener in &bound.explicit {
                for door in listener.doors(number, workers)? {
                    let (stop, serving) = ends();
                    let take = hearing(shared(), serving.clone());
                    accepting.spawn(accept(door, shared(), stop, serving, take));
                }
            }
            for listener in &bound.quic {
                for door in listener.doors(number, workers)? {
                    let (stop, serving) = ends();
                    let parts = Arc::clone(&self.shared.parts);
                    accepting.spawn(quic::serve(door, parts, stop, serving));
                }
            }
            // The last to hold a socket closes it, and that must be whoever accepts.
            drop(bound);
            accepting.spawn(beat(ending.stop.clone()));
            accepting.close();
            accepting.wait().await;
            self.drain(ending).await;
            Ok(())
        })
    }

    async fn drain(&self, ending: &Ending) {
        let sessions = &self.shared.parts.sessions;
        self.serving.close();
        info!(sessions = self.serving.len(), "worker drains");
        sessions.drain(ending.is_replaced());
        let drained = tokio::select! {
            drained = timeout(ending.time(), self.serving.wait()) => drained.is_ok(),
            () = ending.hurry.cancelled() => false,
        };
        if !drained {
            sessions.close_all();
            self.serving.wait().await;
        }
    }
}

/// Keeps a timer that is due before any session's. The runtime rouses itself, by two system calls,
/// for every new timer that is due before all others; each session would be one of these.
async fn beat(stop: CancellationToken) {
    let mut beats = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beats.tick() => {}
        }
    }
}

/// Accepts on one socket until `stop`, and hands what is accepted to `take`. No error of the
/// network ends it.
async fn accept(
    door: Door,
    shared: Arc<Shared>,
    stop: CancellationToken,
    serving: TaskTracker,
    take: impl Fn(Accepted) + Clone + Send + 'static,
) {
    let protocol = door.protocol();
    let receive = |accepted| greeting::receive(accepted, protocol, &shared.parts, &serving, &take);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = door.accept(receive) => accepted,
        };
        match accepted {
            Ok(false) => {}
            Ok(true) => tokio::task::yield_now().await,
            Err(error @ AcceptError::Connection(_)) => {
                shared.parts.metrics.accept_failed(protocol);
                debug!(%error, "accept failed");
            }
            Err(error @ AcceptError::Listener(_)) => {
                shared.parts.metrics.accept_failed(protocol);
                warn!(%error, "accept failed");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// Opens a session for each connection that was steered here.
fn admitting(
    protocol: Protocol,
    shared: Arc<Shared>,
    serving: TaskTracker,
) -> impl Fn(Accepted) + Clone + Send + 'static {
    move |accepted| admit(accepted, protocol, &shared, &serving)
}

/// Hears what each client wants that knows the gateway as its proxy.
fn hearing(
    shared: Arc<Shared>,
    serving: TaskTracker,
) -> impl Fn(Accepted) + Clone + Send + 'static {
    // Only this worker counts on its socket, so the lock over the count is always free.
    let places = Places::new(PENDING, PENDING_EACH);
    move |Accepted { stream, subscriber, .. }| {
        let (shared, places) = (Arc::clone(&shared), places.clone());
        serving.spawn(async move {
            let Shared { parts, http, pipes } = &*shared;
            explicit::serve(stream, subscriber, parts, http, pipes, &places).await;
        });
    }
}

/// Opens a session for `accepted` in a task of its own, or refuses it by a reset.
fn admit(accepted: Accepted, protocol: Protocol, shared: &Arc<Shared>, serving: &TaskTracker) {
    let Accepted { stream, subscriber, destination, port } = accepted;
    let parts = &shared.parts;
    let (limits, now) = (judge::class_limits(parts, subscriber), parts.judge.now());
    let admission = parts.sessions.admit(subscriber, protocol, port, destination, limits, now);
    let session = match admission {
        Ok(session) => session,
        Err(limit) => {
            judge::refused(parts, subscriber, protocol, destination, policy::Reason::Limit);
            parts.metrics.ended(protocol, Outcome::Us(OurEnd::Limit));
            debug!(%limit, "session refused");
            listener::reset(stream);
            return;
        }
    };
    spawn(serving, session.number(), serve(stream, session, Arc::clone(shared)));
}

/// Serves a session in a task of its own.
pub(super) fn spawn(
    serving: &TaskTracker,
    number: u64,
    served: impl Future<Output = ()> + Send + 'static,
) {
    // A span makes every task larger, for nothing where none is written.
    if tracing::enabled!(Level::DEBUG) {
        serving.spawn(served.instrument(debug_span!("session", number)));
    } else {
        serving.spawn(served);
    }
}

async fn serve(stream: std::net::TcpStream, session: Session, shared: Arc<Shared>) {
    let Shared { parts, http, pipes } = &*shared;
    let outcome = match session.protocol() {
        // On the heap, so that it does not make the tasks of TLS sessions larger.
        Protocol::Http => Box::pin(http.serve(stream, &session)).await,
        Protocol::Https | Protocol::Quic => tls::serve(stream, &session, parts, pipes).await,
    };
    debug!(outcome = outcome.label(), "session ended");
    session.end(outcome);
}

/// Pause after a failed accept: without it, running out of descriptors would burn a core.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Those at one socket who have said nothing yet that could be judged; with what each may hold,
/// about 70 MB.
pub(super) const PENDING: usize = 1_024;
/// Of one subscriber.
pub(super) const PENDING_EACH: usize = 32;
/// Shorter than what any session waits for.
const BEAT: Duration = Duration::from_millis(100);
/// Tasks run before the kernel is asked for more events: asking costs as much as ten of them.
const EVENT_INTERVAL: u32 = 128;
