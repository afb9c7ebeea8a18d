//! Whether a question is within its subscriber's rate, and what is done if it is not.

use std::sync::PoisonError;

use policy::{HostName, Reason, Record};

use super::{Begun, PROTOCOL, Responder, Sitting, write};
use crate::{
    metrics::{Origin, Said, Transport},
    plan,
    rates::{Asking, Rate},
    sources::source,
    wire::{Answer, Dropped, Notice, Query, Rcode},
};

impl Responder {
    /// Counts a question against its subscriber's rate, and records it if it is over.
    pub(super) fn rate(&self, query: &Query, sitting: Sitting<'_>) -> Rate {
        let Sitting { asker, subscriber, class, is_proven, moment } = sitting;
        let snapshot = moment.snapshot.as_deref();
        let per_second =
            class.and_then(|class| class.limits().dns_qps).unwrap_or(self.questions_per_second);
        let asking = Asking { source: source(asker.from.ip()), is_proven };
        let now = moment.started.saturating_duration_since(self.began);
        let (rate, is_taken_over, used) = {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            let (rate, is_taken_over) = rates.count(asking, per_second, now);
            (rate, is_taken_over, rates.used())
        };
        self.metrics.rated(used, is_taken_over);
        if rate != Rate::Within {
            let name = query.question().map(|question| &question.name);
            let host = name.and_then(|name| HostName::from_wire_labels(name.labels()).ok());
            let reason = Reason::Limit;
            let record = Record::denied(subscriber, PROTOCOL, reason, snapshot, asker.to);
            self.judge.record(&Record { host: host.as_ref(), ..record });
        }
        rate
    }

    /// What a question over the rate gets. Whoever is there is told; an asker that may be made up
    /// gets every second time an answer that is hardly larger than its question: a cookie to come
    /// back with, if it speaks of cookies, or else that it should come by a connection.
    pub(super) fn over_rate(
        &self,
        query: &Query,
        slips: bool,
        Sitting { asker, is_proven, .. }: Sitting<'_>,
        answer: &mut Vec<u8>,
    ) -> Begun {
        match asker.transport {
            Transport::Udp if is_proven => {
                let said = plan::refused(Notice::TooMany);
                Begun::Said(write(query, &said, Origin::Local, asker.transport, answer))
            }
            Transport::Udp if slips && query.cookie().is_some() => {
                let said = Answer::empty(Rcode::BadCookie);
                Begun::Said(write(query, &said, Origin::Local, asker.transport, answer))
            }
            Transport::Udp if slips => {
                Answer::truncated(query, answer);
                Begun::Said(Said { rcode: Rcode::NoError, origin: Origin::Local })
            }
            Transport::Udp => {
                self.metrics.dropped(Dropped::Rate);
                Begun::Silence
            }
            Transport::Tcp | Transport::Tls | Transport::Https => {
                let said = plan::refused(Notice::TooMany);
                Begun::Said(write(query, &said, Origin::Local, asker.transport, answer))
            }
        }
    }
}
