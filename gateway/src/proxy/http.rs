//! One connection on port 80: every request on it is read, judged and dialled for itself.
//!
//! Our own reader sees each head first, and what it refuses nobody else sees. What is allowed is
//! handed to the forwarder, one request at a time, together with a connection to the origin that
//! was dialled for this request alone.

pub(super) mod answer;
mod forward;
pub(crate) mod head;
mod probe;
mod wire;

use std::{sync::Arc, time::Duration};

use policy::{Ncsi, Reason, Snapshot, Subject};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use self::{
    answer::Answer,
    forward::{Errand, Forwarder},
    head::{Head, HeadFault, HeadProgress, HeadReader, Method},
    wire::Wire,
};
use super::{
    Parts,
    dial::{DialError, Dialled},
    farewell::farewell,
    judge::{self, Passed},
    outcome::{OurEnd, Outcome, PolicyEnd, SubscriberEnd},
    sessions::Session,
};
use crate::log::session_id;

/// Serves connections on port 80.
pub(super) struct HttpService {
    parts: Arc<Parts>,
    forwarder: Forwarder,
}

/// Why there is no head.
enum NoHead {
    /// The subscriber closed; true if in the middle of a head.
    Gone { midway: bool },
    /// Nothing came for too long.
    Idle,
    /// The gateway stops, and nothing had begun.
    Draining,
    /// It was not complete in time.
    TooSlow,
    /// It is refused.
    Fault(HeadFault),
}

/// A request that goes no further: what is said, and how it ends.
struct Refusal {
    answer: Option<Answer>,
    outcome: Outcome,
}

impl HttpService {
    pub(super) fn new(parts: Arc<Parts>) -> Arc<Self> {
        let forwarder = Forwarder::new(parts.limits);
        Arc::new(Self { parts, forwarder })
    }

    /// Serves one connection until it ends, or has to end.
    pub(super) async fn serve(&self, stream: std::net::TcpStream, session: &Session) -> Outcome {
        let Ok(stream) = TcpStream::from_std(stream) else { return Outcome::Us(OurEnd::Broken) };
        self.serve_from(Vec::new(), stream, session).await
    }

    /// The same, where the octets `carried` came already.
    pub(super) async fn serve_from(
        &self,
        carried: Vec<u8>,
        stream: TcpStream,
        session: &Session,
    ) -> Outcome {
        tokio::select! {
            outcome = session.cut() => outcome,
            outcome = self.converse(carried, stream, session) => outcome,
        }
    }

    async fn converse(
        &self,
        mut carried: Vec<u8>,
        mut stream: TcpStream,
        session: &Session,
    ) -> Outcome {
        let mut wait = self.parts.limits.header_time;
        let mut served = false;
        loop {
            let read = self.read_head(&mut stream, &carried, wait, session).await;
            let (head, octets) = match read {
                Ok(read) => read,
                Err(NoHead::Gone { midway: false }) if served => return Outcome::Finished,
                Err(none) => return self.without_head(&mut stream, none, session).await,
            };
            let dialled = match self.admitted(&head, session).await {
                Ok(dialled) => dialled,
                Err(Refusal { answer, outcome }) => {
                    self.parts.metrics.requested(outcome);
                    if let Some(answer) = answer {
                        farewell(&mut stream, &answer.octets(head.method)).await;
                    }
                    return outcome;
                }
            };
            let wire = Wire::new(stream, octets, &head, session.meter(&self.parts.judge));
            let errand = Errand::new(head, session.port(), dialled);
            let (outcome, wire) = self.forwarder.forward(wire, errand).await;
            session.unname();
            self.parts.metrics.requested(outcome);
            match wire {
                Some(wire) => (stream, carried) = wire.into_parts(),
                None => return outcome,
            }
            wait = KEEP_ALIVE_TIME;
            served = true;
        }
    }

    /// Reads one head, of which `carried` came already; waits for its first octet for `wait`.
    async fn read_head(
        &self,
        stream: &mut TcpStream,
        carried: &[u8],
        wait: Duration,
        session: &Session,
    ) -> Result<(Head, Vec<u8>), NoHead> {
        let port = session.port();
        let mut reader = HeadReader::default();
        let mut buffer = vec![0; HEAD_BUFFER];
        let mut progress = reader.push(carried, port);
        if reader.is_empty() {
            let length = tokio::select! {
                () = session.draining() => return Err(NoHead::Draining),
                read = timeout(wait, stream.read(&mut buffer)) => match read {
                    Err(_) => return Err(NoHead::Idle),
                    Ok(Err(_) | Ok(0)) => return Err(NoHead::Gone { midway: false }),
                    Ok(Ok(length)) => length,
                },
            };
            progress = reader.push(buffer.get(..length).unwrap_or_default(), port);
        }
        let rest = async {
            loop {
                match progress {
                    HeadProgress::Incomplete => {}
                    HeadProgress::Complete(head) => return Ok((head, reader.into_octets())),
                    HeadProgress::Reject(fault) => return Err(NoHead::Fault(fault)),
                }
                let gone = NoHead::Gone { midway: true };
                match stream.read(&mut buffer).await {
                    Err(_) | Ok(0) => return Err(gone),
                    Ok(length) => {
                        progress = reader.push(buffer.get(..length).unwrap_or_default(), port);
                    }
                }
            }
        };
        timeout(self.parts.limits.header_time, rest).await.unwrap_or(Err(NoHead::TooSlow))
    }

    /// Ends a connection on which no further head can be had.
    async fn without_head(
        &self,
        stream: &mut TcpStream,
        none: NoHead,
        session: &Session,
    ) -> Outcome {
        let refusal = match none {
            NoHead::Draining => return Outcome::Finished,
            NoHead::Gone { .. } => return Outcome::Subscriber(SubscriberEnd::Gone),
            NoHead::Idle => return Outcome::Subscriber(SubscriberEnd::Idle),
            NoHead::TooSlow => {
                let reason = judge::denied(&self.parts, session, Reason::HelloTimeout);
                Refusal::new(
                    Answer::too_slow(),
                    Outcome::Subscriber(SubscriberEnd::Malformed(reason)),
                )
            }
            NoHead::Fault(fault) => self.faulty(fault, session),
        };
        self.parts.metrics.requested(refusal.outcome);
        if let Some(answer) = refusal.answer {
            farewell(stream, &answer.octets(Method::Other)).await;
        }
        refusal.outcome
    }

    fn faulty(&self, fault: HeadFault, session: &Session) -> Refusal {
        let outcome = match fault.reason() {
            None => SubscriberEnd::BadRequest,
            Some(Reason::IpLiteral) => {
                let reason = judge::denied(&self.parts, session, Reason::IpLiteral);
                return self.denied(None, reason, session);
            }
            Some(reason) => SubscriberEnd::Malformed(judge::denied(&self.parts, session, reason)),
        };
        Refusal::new(Answer::for_fault(fault), Outcome::Subscriber(outcome))
    }

    /// Judges a request and dials its host.
    async fn admitted(&self, head: &Head, session: &Session) -> Result<Dialled, Refusal> {
        let parts = &self.parts;
        let host = &head.host;
        let snapshot = judge::in_force(parts, session).map_err(|reason| {
            Refusal::new(Answer::unavailable(), Outcome::Policy(PolicyEnd::Denied(reason)))
        })?;
        let Passed { rule, reason } =
            judge::judged(parts, session, &snapshot, host).map_err(|reason| {
                if reason == Reason::Ncsi {
                    self.denied_probe(session, &snapshot)
                } else {
                    self.denied(Some(head), reason, session)
                }
            })?;
        if reason == Reason::Ncsi {
            return Err(Self::probed(head));
        }
        let port = session.port();
        match parts
            .dialer
            .dial(&parts.resolver, &snapshot, session.subscriber(), host, rule, port)
            .await
        {
            Ok(dialled) => {
                judge::compare_destination(parts, session, &dialled.addresses);
                Ok(dialled)
            }
            Err(error) => {
                tracing::debug!(%host, error = &error as &dyn std::error::Error, "not dialled");
                if let Some(reason) = error.reason() {
                    judge::denied(parts, session, reason);
                }
                let answer = match error {
                    DialError::TimedOut { .. } => Answer::origin_too_slow(),
                    DialError::TooManyNames => Answer::unavailable(),
                    DialError::Unresolved(_)
                    | DialError::AddressRefused
                    | DialError::Loop
                    | DialError::Unreachable { .. } => Answer::unreachable(),
                };
                Err(Refusal::new(answer, error.outcome()))
            }
        }
    }

    /// The answer to a connectivity probe that the gateway gives itself. What else is asked of the
    /// probe's host is not there.
    fn probed(head: &Head) -> Refusal {
        let answer = probe::content(head).map_or_else(Answer::not_found, Answer::probe);
        Refusal::new(answer, Outcome::Us(OurEnd::Answered))
    }

    /// What is said to a connectivity probe that does not pass: the way to the portal, where the
    /// class redirects probes; else nothing, since any answer would be taken for a portal.
    fn denied_probe(&self, session: &Session, snapshot: &Snapshot) -> Refusal {
        let outcome = Outcome::Policy(PolicyEnd::Denied(Reason::Ncsi));
        Refusal { answer: self.way_to_portal(session, snapshot), outcome }
    }

    /// A denial in the words of the policy. Where the class redirects probes every request is
    /// redirected: Windows tells a portal by all of them leading there (Microsoft, "Captive portals").
    fn denied(&self, head: Option<&Head>, reason: Reason, session: &Session) -> Refusal {
        let snapshot = self.parts.judge.snapshot();
        let answer = match snapshot {
            Some(snapshot) => self.way_to_portal(session, &snapshot).or_else(|| {
                let (host, id) = (head.map(|head| &head.host), session_id(session.number()));
                Answer::denied(snapshot.policy().http(), host, &id)
            }),
            None => Some(Answer::unavailable()),
        };
        Refusal { answer, outcome: Outcome::Policy(PolicyEnd::Denied(reason)) }
    }

    /// The redirect to the portal, for a class that redirects probes.
    fn way_to_portal(&self, session: &Session, snapshot: &Snapshot) -> Option<Answer> {
        let subscriber = self.parts.judge.subscriber(session.subscriber());
        let class = snapshot.policy().class_of(Subject::Subscriber(&subscriber));
        let redirects = class.is_some_and(|class| class.ncsi() == Ncsi::Redirect);
        snapshot.policy().http().portal.as_deref().filter(|_| redirects).map(Answer::redirect)
    }
}

impl Refusal {
    fn new(answer: Answer, outcome: Outcome) -> Self {
        Self { answer: Some(answer), outcome }
    }
}

/// Between two requests on one connection.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(60);
/// Octets read at once of a head; most heads fit.
const HEAD_BUFFER: usize = 4096;

#[cfg(test)]
mod tests;
