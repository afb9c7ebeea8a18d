//! The clerk: takes one request, writes it into the table, and says what is to be answered.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};
use policy::SimState;
use sha2::{Digest, Sha256};

use super::{
    Client, Clients, Metrics,
    cache::{Replies, Seen},
    content::{Content, Unusable},
    packet::{Code, ErrorCause, Malformed, Packet},
    resets::Resets,
};
use crate::{
    gate::{Gate, NotNew},
    sims::{Kind, Record, Refusal, Seconds, SimId, Sims, Source, seconds},
};

/// Takes requests; shared by all RADIUS sockets.
#[derive(Debug)]
pub(crate) struct Clerk {
    clients: Clients,
    sims: Arc<Sims>,
    metrics: Metrics,
    replies: Mutex<Replies>,
    /// Which orders are new.
    orders: Mutex<Gate>,
    resets: Mutex<Resets>,
}

/// What a socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Accounting.
    Accounting,
    /// Orders.
    Orders,
}

/// A reply that waits until what it confirms is stored.
#[derive(Debug)]
pub(crate) struct Pending {
    from: SocketAddr,
    identifier: u8,
    authenticator: [u8; 16],
    reply: Arc<[u8]>,
    /// How much must be stored before.
    pub(crate) mark: u64,
}

/// What is to be sent for one datagram.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Nothing.
    Silence,
    /// The reply to an earlier one of the same.
    Again(Arc<[u8]>),
    /// A reply, once its mark is stored.
    After(Pending),
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("the sender is not one of the configured ones")]
    Unknown,
    #[error("the request is not served at this address")]
    Service,
    #[error("the record names no session or status")]
    Missing,
    #[error("the NAS restarts too often")]
    Resets,
    #[error(transparent)]
    NotNew(#[from] NotNew),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Clerk {
    /// A clerk for these senders, from `now` on.
    pub(crate) fn new(clients: Clients, sims: Arc<Sims>, metrics: Metrics, now: Timestamp) -> Self {
        let orders = Mutex::new(Gate::new(ORDER_WINDOW, ORDERS_MAX, now));
        let (replies, resets) = Default::default();
        Self { clients, sims, metrics, replies, orders, resets }
    }

    /// The table that records go to.
    pub(crate) fn sims(&self) -> &Sims {
        &self.sims
    }

    /// Takes one datagram.
    pub(crate) fn take(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        service: Service,
        (now, instant): (Timestamp, Instant),
    ) -> Answer {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        match self.try_take(datagram, from, service, now, instant) {
            Ok((result, answer)) => {
                self.metrics.count(result);
                answer
            }
            Err(dropped) => {
                let result = dropped.label();
                self.metrics.count(result);
                // The sender is a node of the operator's, not a subscriber.
                tracing::debug!(result, from = %from.ip(), "RADIUS request dropped");
                Answer::Silence
            }
        }
    }

    /// Keeps the reply for repetitions, and hands it out with its destination.
    pub(crate) fn answered(&self, pending: Pending) -> (Arc<[u8]>, SocketAddr) {
        let Pending { from, identifier, authenticator, reply, .. } = pending;
        self.replies().answer(from, identifier, authenticator, Arc::clone(&reply));
        (reply, from)
    }

    /// Gives up a reply whose record could not be stored: its repetition is tried again.
    pub(crate) fn unstored(&self, pending: &Pending) {
        self.metrics.count("not-stored");
        self.replies().give_up(pending.from, pending.identifier, pending.authenticator);
        self.orders().forget(&name(pending.authenticator));
    }

    fn try_take(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        service: Service,
        now: Timestamp,
        instant: Instant,
    ) -> Result<(&'static str, Answer), Dropped> {
        let client = self.clients.get(&from.ip()).ok_or(Dropped::Unknown)?;
        let packet = Packet::parse(datagram)?;
        match (service, packet.code()) {
            (Service::Accounting, Code::Accounting) => {
                packet.verify(&client.secret, client.signed)?
            }
            (Service::Orders, Code::Change | Code::Disconnect) => {
                packet.verify(&client.secret, true)?;
            }
            (Service::Accounting, Code::Change | Code::Disconnect)
            | (Service::Orders, Code::Accounting) => return Err(Dropped::Service),
        }
        let (identifier, authenticator) = (packet.identifier(), packet.authenticator());
        match self.replies().note(from, identifier, authenticator, instant) {
            Seen::New => {}
            Seen::Pending => return Ok(("duplicate", Answer::Silence)),
            Seen::Answered(reply) => return Ok(("duplicate", Answer::Again(reply))),
        }
        let taken =
            Content::read(&packet).map_err(Dropped::from).and_then(|content| match packet.code() {
                Code::Accounting => {
                    self.account(client, &content, now, instant).map(|result| (result, None))
                }
                Code::Change => {
                    self.admit(client, &content, authenticator, now)?;
                    Ok(self.change(&content, now))
                }
                Code::Disconnect => {
                    self.admit(client, &content, authenticator, now)?;
                    Ok(self.disconnect(&content, now))
                }
            });
        match taken {
            Ok((result, refused)) => {
                let reply = packet.reply(&client.secret, refused).into();
                let mark = self.sims.mark();
                Ok((
                    result,
                    Answer::After(Pending { from, identifier, authenticator, reply, mark }),
                ))
            }
            Err(dropped) => {
                self.replies().give_up(from, identifier, authenticator);
                Err(dropped)
            }
        }
    }

    fn account(
        &self,
        client: &Client,
        content: &Content<'_>,
        now: Timestamp,
        instant: Instant,
    ) -> Result<&'static str, Dropped> {
        let nas = match &content.nas {
            Some(nas) => format!("{}/{nas}", client.name),
            None => client.name.clone(),
        };
        let at = content.event.unwrap_or_else(|| seconds(now).0.saturating_sub(content.delay));
        let at = Seconds(at.max(1));
        let indicated = content.last_bearer || !client.keeps_without_indicator;
        let (kind, result) = match content.status.ok_or(Dropped::Missing)? {
            1 => (Kind::Start, "start"),
            2 if indicated => (Kind::Stop, "stop"),
            2 => (Kind::Interim, "bearer-stop"),
            3 => (Kind::Interim, "interim"),
            status @ (7 | 8) => {
                let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
                if !resets.admit(&nas, instant) {
                    return Err(Dropped::Resets);
                }
                self.sims.reset(&nas, at, Source::Radius, now)?;
                self.metrics.taken(now.as_second());
                tracing::info!(nas = client.name, "a NAS restarted or goes away");
                return Ok(if status == 7 { "on" } else { "off" });
            }
            // Tunnels and failures (RFC 2867) say nothing of addresses.
            _ => return Ok("ignored"),
        };
        let record = Record {
            kind,
            nas: &nas,
            session: digest(content.session.ok_or(Dropped::Missing)?),
            domain: &client.domain,
            prefixes: content.prefixes.clone(),
            identities: content.identities,
            apn: content.apn.clone(),
            at,
            lifetime: client.lifetime,
        };
        self.sims.record(&record, Source::Radius, now)?;
        self.metrics.taken(now.as_second());
        Ok(result)
    }

    /// Lets an order in within the window around its Event-Timestamp, and once (RFC 5176 section
    /// 6.3). Repetitions of the sender's own have their answer from [`Replies`] before.
    fn admit(
        &self,
        client: &Client,
        content: &Content<'_>,
        authenticator: [u8; 16],
        now: Timestamp,
    ) -> Result<(), Dropped> {
        let Some(event) = content.event else {
            return if client.dated { Err(Dropped::Missing) } else { Ok(()) };
        };
        let signed = Timestamp::from_second(event.into()).unwrap_or_default();
        let (name, body) = (name(authenticator), [0; 32]);
        let mut orders = self.orders();
        orders.admit(&name, signed, body, now)?;
        orders.remember(&name, signed, body);
        Ok(())
    }

    /// Sets the state that Filter-Id names.
    fn change(&self, content: &Content<'_>, now: Timestamp) -> (&'static str, Option<ErrorCause>) {
        let Some(filter) = content.filter else {
            return ("refused", Some(ErrorCause::MissingAttribute));
        };
        let state = std::str::from_utf8(filter).ok().and_then(SimState::from_label);
        let Some(state) = state else { return ("refused", Some(ErrorCause::InvalidValue)) };
        let Some(sim) = self.meant(content, now) else {
            return ("refused", Some(ErrorCause::NotFound));
        };
        match self.sims.set_state(sim, state, Source::Coa, now) {
            Ok(_) => ("state", None),
            Err(_) => ("refused", Some(ErrorCause::Resources)),
        }
    }

    /// Takes the SIM's addresses from it.
    fn disconnect(
        &self,
        content: &Content<'_>,
        now: Timestamp,
    ) -> (&'static str, Option<ErrorCause>) {
        let sim = self.meant(content, now).and_then(|id| self.sims.sim(id));
        let networks = sim.map(|sim| sim.networks).unwrap_or_default();
        let prefixes: Vec<_> =
            networks.iter().filter_map(|network| crate::sims::Prefix::new(*network).ok()).collect();
        if prefixes.is_empty() {
            return ("refused", Some(ErrorCause::NotFound));
        }
        for prefix in prefixes {
            self.sims.unbind(prefix, Source::Coa, now);
        }
        ("disconnect", None)
    }

    /// The one SIM that everything in an order speaks of (RFC 5176 section 3: all must match).
    fn meant(&self, content: &Content<'_>, now: Timestamp) -> Option<SimId> {
        let mut named = content.identities.all().map(|id| self.sims.sim(id)).collect::<Vec<_>>();
        named.extend(content.prefixes.iter().map(|prefix| {
            let binding = self.sims.binding(prefix.network().addr(), now)?;
            self.sims.sim(binding.identities.primary()?)
        }));
        let primary = |sim: Option<crate::sims::SimView>| sim?.identities.primary();
        let mut named = named.into_iter().map(primary);
        let first = named.next()??;
        named.all(|other| other == Some(first)).then_some(first)
    }

    fn orders(&self) -> std::sync::MutexGuard<'_, Gate> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replies(&self) -> std::sync::MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dropped {
    fn label(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown-client",
            Self::Service => "wrong-port",
            Self::Missing => "missing-attribute",
            Self::Resets => "resets-limited",
            Self::NotNew(fault) => fault.label(),
            Self::Malformed(fault) => fault.label(),
            Self::Unusable(fault) => fault.label(),
            Self::Refused(refusal) => refusal.label(),
        }
    }
}

/// What tells an order from all others: its signature.
fn name(authenticator: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(authenticator))
}

/// The first 64 bits of SHA-256: the same on every node and after every start.
fn digest(session: &[u8]) -> u64 {
    let digest = Sha256::digest(session);
    digest.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default()
}

/// How far an order's time may be from ours (RFC 5176 section 6.3).
const ORDER_WINDOW: SignedDuration = SignedDuration::from_secs(300);
/// Orders of two windows that are known again: about 10 MB, 160 a second.
const ORDERS_MAX: usize = 100_000;

#[cfg(test)]
mod tests;
