//! What is kept of one judgement: the plain data that counters and the decision log are fed with.

use std::net::SocketAddr;

use crate::{
    class::Subscriber,
    decide::{Decision, Request, Verdict},
    host::HostName,
    policy::Snapshot,
    reason::Reason,
    rule::Rule,
};

/// One judgement, as it is counted and logged.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Who asked.
    pub subscriber: &'a Subscriber,
    /// The protocol's name: `dns`, `http`, `https`, `quic` or `tcp`.
    pub protocol: &'static str,
    /// The name asked for; `None` if no host name could be read.
    pub host: Option<&'a HostName>,
    /// The address and port the subscriber sent to, where the gateway knows it.
    pub destination: Option<SocketAddr>,
    /// The class's name, `none` without one.
    pub class: &'a str,
    /// Whether it passed.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The host entry that allowed it, or the nearest that did not.
    pub rule: Option<&'a Rule>,
    /// The policy in force; `None` if none was.
    pub snapshot: Option<&'a Snapshot>,
    /// The number of the session in which it was asked, where there is one.
    pub session: Option<u64>,
}

impl<'a> Record<'a> {
    /// The record of a decision taken under `snapshot`.
    #[must_use]
    pub fn decided(
        subscriber: &'a Subscriber,
        request: &Request<'a>,
        decision: &Decision<'a>,
        snapshot: &'a Snapshot,
        destination: Option<SocketAddr>,
    ) -> Self {
        Self {
            subscriber,
            protocol: request.protocol(),
            host: Some(request.host()),
            destination,
            class: decision.class_label(),
            verdict: decision.verdict(),
            reason: decision.reason(),
            rule: decision.rule(),
            snapshot: Some(snapshot),
            session: None,
        }
    }

    /// The same, asked in the session of this number.
    #[must_use]
    pub fn in_session(self, number: u64) -> Self {
        Self { session: Some(number), ..self }
    }

    /// The record of a request that was denied before it could be decided.
    #[must_use]
    pub fn denied(
        subscriber: &'a Subscriber,
        protocol: &'static str,
        reason: Reason,
        snapshot: Option<&'a Snapshot>,
        destination: Option<SocketAddr>,
    ) -> Self {
        use crate::decide::Subject;
        let class = snapshot
            .and_then(|snapshot| snapshot.policy().class_of(Subject::Subscriber(subscriber)))
            .map_or("none", crate::class::Class::name);
        Self {
            subscriber,
            protocol,
            host: None,
            destination,
            class,
            verdict: Verdict::Deny,
            reason,
            rule: None,
            snapshot,
            session: None,
        }
    }
}
