//! One session, as whoever serves it has it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{Context, Poll},
};

use policy::HostName;

use super::{Fate, Live, Named, Sessions, subscriber_key};
use crate::proxy::{
    Protocol,
    meter::{Flow, Meter},
    metrics::Direction,
    outcome::Outcome,
};

/// One session, from accept to close. Dropped without [`Session::end`], it counts as broken.
pub(crate) struct Session {
    pub(super) sessions: Arc<Sessions>,
    pub(super) live: Arc<Live>,
    pub(super) number: u64,
    pub(super) outcome: Outcome,
}

impl Session {
    /// The session's number: the next one each, from a first one by chance, so that it is not given
    /// twice by processes that follow each other.
    pub(in crate::proxy) fn number(&self) -> u64 {
        self.number
    }

    /// The subscriber's address.
    pub(in crate::proxy) fn subscriber(&self) -> IpAddr {
        self.live.subscriber
    }

    /// What is spoken.
    pub(in crate::proxy) fn protocol(&self) -> Protocol {
        self.live.protocol
    }

    /// The port the subscriber connected to.
    pub(in crate::proxy) fn port(&self) -> u16 {
        self.live.port
    }

    /// The address the subscriber connected to, where it is known.
    pub(in crate::proxy) fn destination(&self) -> Option<SocketAddr> {
        self.live.destination
    }

    /// What counts the session's bytes.
    pub(in crate::proxy) fn meter(&self, judge: &Arc<dyn dns::Judge>) -> Meter {
        Meter::new(Arc::clone(&self.sessions), Arc::clone(&self.live), Arc::clone(judge))
    }

    /// Counts bytes that were moved.
    pub(in crate::proxy) fn moved(
        &self,
        judge: &dyn dns::Judge,
        direction: Direction,
        bytes: usize,
    ) -> Flow {
        self.sessions.moved(&self.live, judge, direction, bytes)
    }

    /// Says what the session was allowed, and by which generation of the policy.
    pub(in crate::proxy) fn name(&self, host: &HostName, generation: u64) {
        *self.live.named.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Named { host: host.clone(), generation });
        self.sessions.is_judged(&self.live);
    }

    /// Whether what the session was allowed is another host.
    pub(in crate::proxy) fn is_for_other_than(&self, host: &HostName) -> bool {
        let named = self.live.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.as_ref().is_some_and(|named| named.host != *host)
    }

    /// Says that nothing allowed is in progress.
    pub(in crate::proxy) fn unname(&self) {
        *self.live.named.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits until the session has to end, and says why. For one task only.
    pub(in crate::proxy) async fn cut(&self) -> Outcome {
        std::future::poll_fn(|context| self.poll_cut(context)).await
    }

    fn poll_cut(&self, context: &Context<'_>) -> Poll<Outcome> {
        self.live.waker.register(context.waker());
        let fate = Fate::outcome(self.live.fate.load(Ordering::Acquire));
        fate.map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until the gateway is about to stop, or was replaced.
    pub(in crate::proxy) async fn draining(&self) {
        self.sessions.draining.cancelled().await;
    }

    /// Waits until the gateway is about to stop, and nobody takes its place.
    pub(in crate::proxy) async fn stopping(&self) {
        self.sessions.stopping.cancelled().await;
    }

    /// Closes the session's books.
    pub(in crate::proxy) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Self { sessions, live, number, outcome } = self;
        // Whoever sees the session gone sees how it ended.
        sessions.metrics.closed(live.protocol, *outcome);
        sessions.is_judged(live);
        sessions.part(*number).remove(number);
        sessions.open.give_back(&live.account.open);
        sessions.quotas.close(subscriber_key(live.subscriber), &live.account);
    }
}
