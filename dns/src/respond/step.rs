//! One judgement of a question: the policy in force, the plan it leads to, and what has been found
//! so far, to an answer or to what must be asked first.

use std::sync::Arc;

use policy::{
    HostName, Policy, Reason, Record, Request, Rule, Snapshot, Subject, Verdict, decide, decide_in,
};
use tokio::time::Instant;

use super::{Asker, Ended, Moment, PROTOCOL, Responder, Search, Sitting, Slate, Step, limit};
use crate::{
    dns64,
    metrics::{Origin, Said},
    packets::{Key, Packets},
    plan::{self, Asked, Plan},
    resolver::{Found, Told},
    screen::{Family, Screened},
    upstream::UpstreamError,
    wire::{Answer, Notice, Packet, Query, Rcode, TYPE_PTR},
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
    results: &'c [Ended],
}

impl Responder {
    /// Judges the question under the policy in force, with what has been found so far.
    ///
    /// An answer that lies ready is written to `message`.
    pub(super) fn step(
        &self,
        slate: &mut Slate,
        sitting: Sitting<'_>,
        results: &[Ended],
        message: &mut Vec<u8>,
    ) -> Step {
        let Slate { query, host, packets } = slate;
        let (query, Sitting { asker, subscriber, class, moment, .. }) = (&*query, sitting);
        let say = |answer| Step::Say(answer, Origin::Local);
        let Some(question) = query.question() else {
            return say(Answer::empty(Rcode::FormatError));
        };
        let Some(snapshot) = &moment.snapshot else {
            let reason = Reason::NoPolicy;
            self.judge.record(&Record::denied(subscriber, PROTOCOL, reason, None, asker.to));
            return say(plan::refused(Notice::NotReady));
        };
        let policy = snapshot.policy();
        // Only over an encrypted transport may an asker believe it.
        let reads_structure = query.wants_structure() && asker.transport.is_encrypted();
        let explain =
            |answer| say(if reads_structure { plan::structured(policy, answer) } else { answer });
        let Ok(host) = host.read_wire_labels(question.name.labels()) else {
            let is_served = class.is_some();
            let reason = if is_served { Reason::BadHost } else { Reason::UnknownSubscriber };
            let snapshot = Some(&**snapshot);
            self.judge.record(&Record::denied(subscriber, PROTOCOL, reason, snapshot, asker.to));
            return explain(if is_served {
                plan::no_host(policy, &question.name, question.record_type)
            } else {
                plan::refused(Notice::Prohibited)
            });
        };
        let is_pointer = question.record_type == TYPE_PTR;
        let nat64 = self.site.nat64.filter(|_| is_pointer);
        let mapped = nat64.and_then(|nat64| dns64::mapped(nat64, host));
        let (host, alias) = match mapped.as_ref() {
            Some((host, alias)) => (host, Some(alias)),
            None => (host, None),
        };
        let request = Request::Dns { host };
        let decision = decide_in(policy, class, request, moment.now);
        let record = Record::decided(subscriber, &request, &decision, snapshot, asker.to);
        let case = Case { responder: self, query, asker, moment, snapshot, record, results };
        let to = asker.to.map(|to| to.ip());
        let asked = Asked { host, record_type: question.record_type, to };
        match plan::plan(&self.site, policy, &decision, asked) {
            Plan::Special(answer) => say(plan::behind(alias, answer)),
            Plan::Answer(answer) => {
                case.record();
                explain(plan::behind(alias, answer))
            }
            Plan::Resolve { family, rule } => {
                case.resolve(host, family, rule, packets.as_mut(), message)
            }
            Plan::Prefix => case.ask_for_prefix(host),
            // Who can read why a name is denied is not led elsewhere (draft-ietf-dnsop-structured-
            // dns-error section 5.2).
            Plan::Portal { .. } if reads_structure => {
                case.record();
                explain(plan::at_portal(policy, None))
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
        if let Some(packets) = packets.as_deref_mut() {
            packets.tidy(self.now());
        }
        if let Some(packet) = packets.as_deref().and_then(|packets| packets.get(key, self.now()))
            && packet.write(self.query, limit(self.query, self.asker.transport), message)
        {
            self.record();
            self.responder.metrics.packet_hit();
            return Step::Written(Said { rcode: packet.rcode(), origin: Origin::Cache });
        }
        let policy = self.snapshot.policy();
        let Told { found, screened } = match self.find(host, family, rule) {
            // The search of DNS64 is for the same name.
            Err(_) if self.results.is_empty() && !self.may_search(host, rule) => {
                self.record_as(Verdict::Deny, Reason::Limit);
                return Step::Say(plan::refused(Notice::TooMany), Origin::Local);
            }
            Err(search) => return Step::Ask(search),
            Ok(Ok(told)) => told,
            Ok(Err(error)) => {
                self.record();
                return Step::Say(plan::failed(notice(&error)), Origin::Upstream);
            }
        };
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

    fn may_search(&self, host: &HostName, rule: Option<&Rule>) -> bool {
        self.responder.resolver.may_search(self.asker.from.ip(), host, rule, self.now())
    }

    fn now(&self) -> Instant {
        self.moment.started
    }

    /// Says by which prefix the upstream's NAT64 is reached, if it has one.
    fn ask_for_prefix(&self, host: &HostName) -> Step {
        let search = self.search(host.clone(), Family::V6);
        match self.look(&search) {
            None => Step::Ask(search),
            Some(Ok(found)) => {
                let policy = self.snapshot.policy();
                Step::Say(plan::prefix(policy, found.unscreened(policy)), found.origin)
            }
            Some(Err(error)) => Step::Say(plan::failed(notice(&error)), Origin::Upstream),
        }
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
        let told = match self.find(&portal, family, plan::listing(&decision)) {
            Err(search) => return Step::Ask(search),
            Ok(told) => told,
        };
        self.record();
        let screened = told.ok().map(|told| told.screened);
        Step::Say(plan::at_portal(policy, screened), Origin::Local)
    }

    /// What may be told of the addresses of `host`, made by DNS64 where it has none; or what must be
    /// asked for first.
    fn find(
        &self,
        host: &HostName,
        family: Family,
        rule: Option<&Rule>,
    ) -> Result<Result<Told, UpstreamError>, Search> {
        let own = self.find_in(host, family, rule)?;
        // Who validates answers by itself would find made ones to be forged (RFC 6147 section 5.5).
        let validates = self.query.checking_disabled() && self.query.dnssec_ok();
        let nat64 = self.responder.site.nat64.filter(|_| family == Family::V6 && !validates);
        let Some(nat64) = nat64.filter(|_| dns64::may_synthesize(&own)) else { return Ok(own) };
        let v4 = self.find_in(host, Family::V4, rule)?;
        Ok(dns64::synthesize(nat64, &own, v4).map_or(own, Ok))
    }

    fn find_in(
        &self,
        host: &HostName,
        family: Family,
        rule: Option<&Rule>,
    ) -> Result<Result<Told, UpstreamError>, Search> {
        let search = self.search(host.clone(), family);
        let found = self.look(&search).ok_or(search)?;
        Ok(found.map(|found| {
            let policy = self.snapshot.policy();
            let screened = self.responder.resolver.weigh(&found, policy, rule);
            Told { found, screened }
        }))
    }

    fn search(&self, host: HostName, family: Family) -> Search {
        let slot = (family, self.query.checking_disabled());
        Search { snapshot: Arc::clone(self.snapshot), host, slot }
    }

    /// What is known about what `search` is for: a result at hand, else what needs no asking.
    fn look(&self, search: &Search) -> Option<Result<Found, UpstreamError>> {
        let is_at_hand = |result: &&Ended| result.host == search.host && result.slot == search.slot;
        match self.results.iter().find(is_at_hand) {
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
