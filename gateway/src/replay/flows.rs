//! The flows of a capture: which octets belong together, and who is the client.
//!
//! Most octets of a capture belong to flows that have been judged; those are passed over without a
//! copy. What is kept is bounded in flows and in octets; beyond it the oldest flow is given up.

use std::{collections::VecDeque, net::SocketAddr};

use dns::wire::{self, Dropped, Gate};
use policy::{HostName, Reason};

use super::{
    Asked, Frame, Map, Note, Notes, Protocol, Sighting,
    fragments::Fragments,
    link,
    packet::{self, Packet, Parsed, Transport},
    quic::{Initials, Opened, Seen},
    tcp::{self, Client, DNS_PORT, Interest},
};
use crate::proxy::quic::initial;

/// Reads frames; keeps what has to be put together.
pub(crate) struct Reader {
    fragments: Fragments,
    flows: Map<Direction, Flow>,
    /// Every flow in the table, oldest first.
    order: VecDeque<Direction>,
    held: usize,
    limits: Limits,
    notes: Notes,
    asked: Vec<Asked>,
    sightings: Vec<Sighting>,
}

/// What a reader may keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Directions of flows, judged ones included; each takes about 120 octets.
    pub(crate) flows: usize,
    /// Octets of messages that are not whole, in all flows together.
    pub(crate) octets: usize,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Direction {
    from: SocketAddr,
    to: SocketAddr,
    is_tcp: bool,
}

enum Flow {
    /// Nothing more is read of it; the number its connection began with, if that is known.
    Passed(Option<u32>),
    Tcp(Box<Client>),
    Quic(Box<Initials>),
}

impl Default for Limits {
    fn default() -> Self {
        Self { flows: MAX_FLOWS, octets: MAX_HELD_OCTETS }
    }
}

impl Reader {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            fragments: Fragments::default(),
            flows: Map::default(),
            order: VecDeque::new(),
            held: 0,
            limits,
            notes: Notes::default(),
            asked: Vec::new(),
            sightings: Vec::new(),
        }
    }

    /// Takes a frame.
    pub(crate) fn take(&mut self, frame: Frame<'_>) {
        let parsed = link::ip_packet(frame.link, frame.octets).and_then(packet::parse);
        match parsed {
            Ok(Parsed::Packet(packet)) => self.packet(packet),
            Ok(Parsed::Fragment(fragment)) => {
                let of = fragment.of;
                let Some(whole) = self.fragments.take(fragment, &mut self.notes) else { return };
                let parsed =
                    packet::transport(of.source, of.destination, of.protocol, &whole, false);
                match parsed {
                    Ok(packet) => self.packet(packet),
                    Err(note) => self.notes.add(note),
                }
            }
            Err(note) => self.notes.add(note),
        }
    }

    /// What was asked since the last call.
    pub(crate) fn sightings(&mut self) -> std::vec::Drain<'_, Sighting> {
        self.sightings.drain(..)
    }

    /// Ends every flow.
    pub(crate) fn finish(&mut self) {
        self.fragments.finish(&mut self.notes);
        while let Some(oldest) = self.order.pop_front() {
            self.end(&oldest);
        }
    }

    /// What was met and not judged.
    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    fn packet(&mut self, packet: Packet<'_>) {
        let is_tcp = matches!(packet.transport, Transport::Tcp { .. });
        let direction = Direction { from: packet.source, to: packet.destination, is_tcp };
        match packet.transport {
            Transport::Udp => self.datagram(direction, &packet),
            Transport::Tcp { sequence, syn: true, ack: false } => {
                self.open(direction, sequence);
                self.segment(direction, sequence.wrapping_add(1), &packet);
            }
            Transport::Tcp { syn: true, ack: true, .. } => {
                self.pass(direction, Flow::Passed(None));
            }
            Transport::Tcp { sequence, syn: false, .. } => {
                self.segment(direction, sequence, &packet);
            }
        }
        while self.held > self.limits.octets || self.flows.len() > self.limits.flows {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(Flow::Tcp(_) | Flow::Quic(_)) = self.flows.get(&oldest) {
                self.notes.add(Note::Evicted);
            }
            self.end(&oldest);
        }
    }

    /// A connection begins; its number is the same if the packet came twice.
    fn open(&mut self, direction: Direction, sequence: u32) {
        let first = sequence.wrapping_add(1);
        let again = match self.flows.get(&direction) {
            Some(Flow::Tcp(client)) => client.first() == first,
            Some(Flow::Passed(known)) => *known == Some(first),
            Some(Flow::Quic(_)) | None => false,
        };
        if !again {
            let client = Client::new(first, direction.to.port());
            self.pass(direction, Flow::Tcp(Box::new(client)));
        }
    }

    fn segment(&mut self, direction: Direction, sequence: u32, packet: &Packet<'_>) {
        let octets = packet.payload;
        if octets.is_empty() {
            return;
        }
        let client = match self.flows.get_mut(&direction) {
            Some(Flow::Tcp(client)) => client,
            Some(Flow::Passed(_) | Flow::Quic(_)) => return,
            None => {
                let is_answer = self.flows.contains_key(&direction.reversed());
                if is_answer || !tcp::begins(octets) {
                    if !is_answer {
                        self.notes.add(Note::Midstream);
                    }
                    self.pass(direction, Flow::Passed(None));
                    return;
                }
                let client = Client::new(sequence, direction.to.port());
                self.pass(direction, Flow::Tcp(Box::new(client)));
                let Some(Flow::Tcp(client)) = self.flows.get_mut(&direction) else { return };
                client
            }
        };
        let before = client.held();
        let mut interest = client.push(sequence, octets, &mut self.asked, &mut self.notes);
        if packet.cut && interest == Interest::Goes && self.asked.is_empty() {
            self.notes.add(Note::Cut);
            interest = Interest::Ends;
        }
        let (first, after) = (client.first(), client.held());
        self.held = (self.held + after).saturating_sub(before);
        if interest == Interest::Ends {
            self.held = self.held.saturating_sub(after);
            self.flows.insert(direction, Flow::Passed(Some(first)));
        }
        self.report(direction);
    }

    fn datagram(&mut self, direction: Direction, packet: &Packet<'_>) {
        let octets = packet.payload;
        if direction.to.port() == DNS_PORT {
            if packet.cut {
                self.notes.add(Note::Cut);
                return;
            }
            self.asked.extend(read_question(octets, &mut self.notes));
            return self.report(direction);
        }
        if direction.from.port() == DNS_PORT {
            return self.notes.add(Note::DnsAnswer);
        }
        match self.flows.get_mut(&direction) {
            Some(Flow::Quic(initials)) => {
                let before = initials.held();
                let mut seen = Seen::default();
                let opened = initials.push(octets, &mut seen);
                let after = initials.held();
                self.held = (self.held + after).saturating_sub(before);
                self.notes.add_many(Note::QuicUnopened, seen.unopened);
                if seen.conflict {
                    self.notes.add(Note::Conflict);
                }
                let port = direction.to.port();
                let asked = match opened {
                    Opened::Incomplete => return,
                    Opened::Named(host) => Asked::named(Protocol::Quic, host, port),
                    Opened::Nameless(reason) => Asked::nameless(Protocol::Quic, reason, port),
                };
                self.held = self.held.saturating_sub(after);
                self.flows.insert(direction, Flow::Passed(None));
                self.asked.push(asked);
                self.report(direction);
            }
            Some(Flow::Passed(_) | Flow::Tcp(_)) => {}
            None => self.first_datagram(direction, packet),
        }
    }

    fn first_datagram(&mut self, direction: Direction, packet: &Packet<'_>) {
        let (from, to) = (direction.from.port(), direction.to.port());
        if self.flows.contains_key(&direction.reversed()) {
            return self.pass(direction, Flow::Passed(None));
        }
        if from < FIRST_FREE_PORT && to >= FIRST_FREE_PORT {
            self.notes.add(Note::Midstream);
            return self.pass(direction, Flow::Passed(None));
        }
        if initial::is_known_version(packet.payload) {
            self.pass(direction, Flow::Quic(Box::new(Initials::new())));
            return self.datagram(direction, packet);
        }
        let protocol = if initial::is_long_header(packet.payload) && to == QUIC_PORT {
            (Protocol::Quic, Reason::Quic)
        } else {
            (Protocol::Udp, Reason::PortNotListed)
        };
        self.asked.push(Asked::nameless(protocol.0, protocol.1, to));
        self.pass(direction, Flow::Passed(None));
        self.report(direction);
    }

    /// Puts a flow into the table, in place of what was there.
    fn pass(&mut self, direction: Direction, flow: Flow) {
        match self.flows.insert(direction, flow) {
            None => self.order.push_back(direction),
            Some(old) => self.ended(direction, &old),
        }
    }

    fn end(&mut self, direction: &Direction) {
        if let Some(flow) = self.flows.remove(direction) {
            self.ended(*direction, &flow);
        }
    }

    fn ended(&mut self, direction: Direction, flow: &Flow) {
        match flow {
            Flow::Passed(_) => {}
            Flow::Tcp(client) => {
                self.held = self.held.saturating_sub(client.held());
                client.finish(&mut self.asked, &mut self.notes);
            }
            Flow::Quic(initials) => {
                self.held = self.held.saturating_sub(initials.held());
                if initials.has_begun() {
                    self.notes.add(Note::Unfinished);
                } else {
                    let port = direction.to.port();
                    self.asked.push(Asked::nameless(Protocol::Quic, Reason::Quic, port));
                }
            }
        }
        self.report(direction);
    }

    fn report(&mut self, direction: Direction) {
        let subscriber = direction.from.ip();
        self.sightings.extend(self.asked.drain(..).map(|asked| Sighting { subscriber, asked }));
    }
}

impl Direction {
    fn reversed(self) -> Self {
        Self { from: self.to, to: self.from, is_tcp: self.is_tcp }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flows = self.flows.len();
        formatter.debug_struct("Reader").field("flows", &flows).finish_non_exhaustive()
    }
}

/// What a DNS message asks for, as the resolver reads it.
pub(super) fn read_question(message: &[u8], notes: &mut Notes) -> Option<Asked> {
    let query = match wire::read(message) {
        Gate::Ask(query) => query,
        Gate::Drop(Dropped::Response) => {
            notes.add(Note::DnsAnswer);
            return None;
        }
        Gate::Drop(_) | Gate::Reject(..) => {
            notes.add(Note::DnsUnreadable);
            return None;
        }
    };
    let name = &query.question()?.name;
    Some(match HostName::from_wire_labels(name.labels()) {
        Ok(host) => Asked::named(Protocol::Dns, host, DNS_PORT),
        Err(_) => Asked::nameless(Protocol::Dns, Reason::BadHost, DNS_PORT),
    })
}

/// Directions of flows in memory.
const MAX_FLOWS: usize = 1 << 19;
/// Octets of unfinished messages in memory.
const MAX_HELD_OCTETS: usize = 64 << 20;
/// Below are the ports of services (RFC 6335 section 6).
const FIRST_FREE_PORT: u16 = 1_024;
const QUIC_PORT: u16 = 443;
