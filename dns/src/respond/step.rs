//! One judgement of a question: the policy in force, the plan it leads to, and what has been found
//! so far, to an answer or to what must be asked first.

use std::sync::Arc;

use policy::{HostName, Policy, Reason, Record, Request, Rule, Snapshot, Subject, Verdict, decide};
use tokio::time::Instant;

use super::{Asker, Ended, Moment, PROTOCOL, Responder, Search, Sitting, Slate, Step, limit};
use crate::{
    metrics::{Origin, Said},
    packets::{Key, Packets},
    plan::{self, Plan},
    resolver::{Found, weigh},
    screen::{Family, Screened},
    upstream::UpstreamError,
    wire::{Answer, Notice, Packet, Query, Rcode},
};

/// What all parts of one judgement share.
struct Case<'c> {
    responder: &'c Responder,
    query: &'c Query,
    asker: Asker,
    moment: &'c Moment,
    snapshot: &'c Arc<Snapshot>,
    /// What is counted and logged, unless what is found says otherwise.
    record: Record<'c>,
    result: Option<&'c Ended>,
}

impl Responder {
    /// Judges the question under the policy in force, with what has been found so far.
    ///
    /// An answer that lies ready is written to `message`.
    pub(super) fn step(
        &self,
        slate: &mut Slate,
        sitting: Sitting<'_>,
        result: Option<&Ended>,
        message: &mut Vec<u8>,
    ) -> Step {
        let Slate { query, host, packets } = slate;
        let (query, Sitting { asker, subscriber, moment, .. }) = (&*query, sitting);
        let say = |answer| Step::Say(answer, Origin::Local);
        let Some(question) = query.question() else {
            return say(Answer::empty(Rcode::FormatError));
        };
        let subject = Subject::Subscriber(subscriber);
        let Some(snapshot) = &moment.snapshot else {
            let reason = Reason::NoPolicy;
            self.judge.record(&Record::denied(subscriber, PROTOCOL, reason, None, asker.to));
            return say(plan::refused(Notice::NotReady));
        };
        let policy = snapshot.policy();
        let Ok(host) = host.read_wire_labels(question.name.labels()) else {
            let is_served = policy.class_of(subject).is_some();
            let reason = if is_served { Reason::BadHost } else { Reason::UnknownSubscriber };
            let snapshot = Some(&**snapshot);
            self.judge.record(&Record::denied(subscriber, PROTOCOL, reason, snapshot, asker.to));
            return say(if is_served {
                plan::no_host(policy, &question.name, question.record_type)
            } else {
                plan::refused(Notice::Prohibited)
            });
        };
        let request = Request::Dns { host };
        let decision = decide(policy, subject, request, moment.now);
        let record = Record::decided(subscriber, &request, &decision, snapshot, asker.to);
        let case = Case { responder: self, query, asker, moment, snapshot, record, result };
        match plan::plan(policy, &decision, host, question.record_type) {
            Plan::Special(answer) => say(answer),
            Plan::Answer(answer) => {
                case.record();
                say(answer)
            }
            Plan::Resolve { family, rule } => {
                case.resolve(host, family, rule, packets.as_mut(), message)
            }
            Plan::Portal { family } => case.lead_to_portal(host, family),
        }
    }
}

impl Case<'_> {
    /// Says where a name that passes is.
    fn resolve(
        &self,
        host: &HostName,
        family: Family,
        rule: Option<&Rule>,
        mut packets: Option<&mut Packets>,
        message: &mut Vec<u8>,
    ) -> Step {
        let key = self.key(host, family, rule);
        if let Some(packet) = packets.as_deref().and_then(|packets| packets.get(key, self.now()))
            && packet.write(self.query, limit(self.query, self.asker.transport), message)
        {
            self.record();
            self.responder.metrics.packet_hit();
            return Step::Written(Said { rcode: packet.rcode(), origin: Origin::Cache });
        }
        let policy = self.snapshot.policy();
        let search = self.search(host.clone(), family);
        let found = match self.look(&search) {
            None if !self.responder.may_search(self.asker.from.ip(), host, rule, self.now()) => {
                self.record_as(Verdict::Deny, Reason::Limit);
                return Step::Say(plan::refused(Notice::TooMany), Origin::Local);
            }
            None => return Step::Ask(search),
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                self.record();
                return Step::Say(plan::failed(notice(&error)), Origin::Upstream);
            }
        };
        let screened = weigh(&found, policy, rule);
        if screened == Screened::Refused {
            self.record_as(Verdict::Deny, Reason::UpstreamAddressRefused);
        } else {
            self.record();
        }
        let mut answer = plan::resolved(policy, &found.finding.aliases, screened);
        if found.origin == Origin::Stale {
            let rcode = answer.rcode;
            answer.notice.get_or_insert_with(|| plan::stale(rcode));
        }
        if found.origin == Origin::Cache
            && let Some(packets) = packets.as_mut()
            && let Some(packet) = Packet::of(&answer, self.query)
        {
            packets.put(key, packet, found.age, self.now());
        }
        Step::Say(answer, found.origin)
    }

    fn key<'k>(&'k self, host: &'k HostName, family: Family, rule: Option<&'k Rule>) -> Key<'k> {
        Key {
            generation: self.snapshot.generation(),
            class: self.record.class,
            rule,
            host,
            family,
            checking_disabled: self.query.checking_disabled(),
            dnssec_ok: self.query.dnssec_ok(),
        }
    }

    fn now(&self) -> Instant {
        self.moment.started
    }

    /// Says where the portal is to whoever asked for something that is denied. The portal is
    /// resolved as a listed name is, or not at all.
    fn lead_to_portal(&self, host: &HostName, family: Family) -> Step {
        let policy = self.snapshot.policy();
        let nowhere = || Step::Say(plan::at_portal(policy, None), Origin::Local);
        let Some(portal) = portal(policy).filter(|portal| portal != host) else {
            self.record();
            return nowhere();
        };
        let subject = Subject::Subscriber(self.record.subscriber);
        let request = Request::Dns { host: &portal };
        let decision = decide(policy, subject, request, self.moment.now);
        if !decision.passes() {
            self.record();
            return nowhere();
        }
        let search = self.search(portal.clone(), family);
        let Some(found) = self.look(&search) else { return Step::Ask(search) };
        self.record();
        let screened = found.ok().map(|found| weigh(&found, policy, plan::listing(&decision)));
        Step::Say(plan::at_portal(policy, screened), Origin::Local)
    }

    fn search(&self, host: HostName, family: Family) -> Search {
        let slot = (family, self.query.checking_disabled());
        Search { snapshot: Arc::clone(self.snapshot), host, slot }
    }

    /// What is known about what `search` is for: the result at hand, else what needs no asking.
    fn look(&self, search: &Search) -> Option<Result<Found, UpstreamError>> {
        let is_at_hand = |result: &&Ended| result.host == search.host && result.slot == search.slot;
        match self.result.filter(is_at_hand) {
            Some(result) => Some(result.found.clone()),
            None => {
                let resolver = &self.responder.resolver;
                resolver.known(self.snapshot, &search.host, search.slot).map(Ok)
            }
        }
    }

    fn record(&self) {
        self.responder.judge.record(&self.record);
    }

    fn record_as(&self, verdict: Verdict, reason: Reason) {
        self.responder.judge.record(&Record { verdict, reason, ..self.record });
    }
}

/// The host of the portal's URL.
fn portal(policy: &Policy) -> Option<HostName> {
    let url = policy.http().portal.as_deref()?;
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _port)| host);
    HostName::parse(host).ok()
}

fn notice(error: &UpstreamError) -> Notice {
    match error {
        UpstreamError::Busy { .. } => Notice::NetworkError,
        UpstreamError::Timeout
        | UpstreamError::Unreachable
        | UpstreamError::ResponseCode { .. }
        | UpstreamError::Unreadable => Notice::NoReachableAuthority,
        UpstreamError::BadAnswer(_) => Notice::Other,
    }
}
