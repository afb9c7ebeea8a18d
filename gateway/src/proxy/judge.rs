//! Asks the policy about one request of a session, and keeps the books about the answer.
//!
//! What is allowed here is bound to the session before it goes on, so that no publication can slip
//! between the verdict and the watch over live sessions.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use policy::{HostName, Reason, Record, Rule, Snapshot, Subject, decide};

use super::{Parts, Protocol, sessions::Session};

/// A request that may go on.
#[derive(Clone, Copy)]
pub(super) struct Passed<'s> {
    /// The host entry that lists it.
    pub(super) rule: Option<&'s Rule>,
    /// Why it passes.
    pub(super) reason: Reason,
}

/// Judges `host` for the session under `snapshot`, and records the verdict. A request that passes
/// is bound to the session.
///
/// # Errors
///
/// The reason of the denial.
pub(super) fn judged<'s>(
    parts: &Parts,
    session: &Session,
    snapshot: &'s Snapshot,
    host: &HostName,
) -> Result<Passed<'s>, Reason> {
    // What was opened for one name does not go on to another.
    if session.is_for_other_than(host) {
        return Err(denied(parts, session, Reason::HelloChanged));
    }
    let passed = weighed(parts, session, snapshot, host)?;
    session.name(host, snapshot.generation());
    // A policy published since then did not see this session among the live ones.
    if let Some(newer) = parts.judge.snapshot()
        && newer.generation() != snapshot.generation()
    {
        weighed(parts, session, &newer, host)?;
    }
    Ok(passed)
}

fn weighed<'s>(
    parts: &Parts,
    session: &Session,
    snapshot: &'s Snapshot,
    host: &HostName,
) -> Result<Passed<'s>, Reason> {
    let subscriber = parts.judge.subscriber(session.subscriber());
    let request = session.protocol().request(host, session.port());
    let subject = Subject::Subscriber(&subscriber);
    let decision = decide(snapshot.policy(), subject, request, parts.judge.now());
    let destination = session.destination();
    let record = Record::decided(&subscriber, &request, &decision, snapshot, destination);
    parts.judge.record(&record.in_session(session.number()));
    tracing::debug!(
        %host,
        verdict = decision.verdict().label(),
        reason = decision.reason().label(),
        class = decision.class_label(),
        generation = snapshot.generation(),
        "judged"
    );
    let reason = decision.reason();
    if !decision.passes() {
        return Err(reason);
    }
    // Under observation the rule is the nearest that did not list the host: its networks are not
    // this host's.
    Ok(Passed { rule: decision.rule().filter(|_| reason == Reason::Listed), reason })
}

/// The policy in force.
///
/// # Errors
///
/// There is none; the denial is recorded.
pub(super) fn in_force(parts: &Parts, session: &Session) -> Result<Arc<Snapshot>, Reason> {
    parts.judge.snapshot().ok_or_else(|| denied(parts, session, Reason::NoPolicy))
}

/// Records a denial that came before or after the verdict, and hands the reason back.
pub(super) fn denied(parts: &Parts, session: &Session, reason: Reason) -> Reason {
    let (subscriber, protocol) = (session.subscriber(), session.protocol());
    record_denial(
        parts,
        subscriber,
        protocol,
        session.destination(),
        Some(session.number()),
        reason,
    );
    reason
}

/// Records the denial of a session that was never opened.
pub(super) fn refused(
    parts: &Parts,
    subscriber: IpAddr,
    protocol: Protocol,
    destination: Option<SocketAddr>,
    reason: Reason,
) {
    record_denial(parts, subscriber, protocol, destination, None, reason);
}

fn record_denial(
    parts: &Parts,
    subscriber: IpAddr,
    protocol: Protocol,
    destination: Option<SocketAddr>,
    session: Option<u64>,
    reason: Reason,
) {
    let snapshot = parts.judge.snapshot();
    let subscriber = parts.judge.subscriber(subscriber);
    let snapshot = snapshot.as_deref();
    let record = Record::denied(&subscriber, protocol.label(), reason, snapshot, destination);
    parts.judge.record(&Record { session, ..record });
    tracing::debug!(reason = reason.label(), "denied");
}

/// Counts a session whose subscriber had chosen an address that is none of the name's `addresses`,
/// neither by itself nor as what DNS64 makes of one.
pub(super) fn compare_destination(parts: &Parts, session: &Session, addresses: &[IpAddr]) {
    let Some(chosen) = session.destination().map(|chosen| chosen.ip()) else { return };
    let guard = parts.resolver.guard();
    if ![chosen, guard.host_of(chosen)].iter().any(|chosen| addresses.contains(chosen)) {
        parts.metrics.destination_mismatched();
    }
}

/// What the subscriber's class allows it, as far as it says.
pub(super) fn class_limits(parts: &Parts, subscriber: IpAddr) -> policy::Limits {
    let snapshot = parts.judge.snapshot();
    let subscriber = parts.judge.subscriber(subscriber);
    let subject = Subject::Subscriber(&subscriber);
    let class = snapshot.as_ref().and_then(|snapshot| snapshot.policy().class_of(subject));
    class.map(policy::Class::limits).unwrap_or_default()
}
