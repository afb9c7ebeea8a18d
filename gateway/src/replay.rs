//! Captured traffic, read for the names in it and judged again.
//!
//! [`capture`] reads files, [`packet`] headers, [`flows`] what was asked; [`tally`] asks the one
//! [`policy::decide`] about it. Everything is bounded: a capture is as hostile as a network, and
//! longer than memory. What cannot be read is counted by kind, never guessed.

mod capture;
mod decisions;
mod flows;
mod fragments;
mod http;
mod link;
mod notes;
mod packet;
mod quic;
mod stream;
mod suggest;
mod table;
mod tally;
mod tcp;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use foldhash::quality::RandomState;
use jiff::Timestamp;
use policy::{Decision, HostName, Policy, Reason, Request, Subject, decide, decide_nameless};

pub(crate) use capture::{CaptureError, Frame, Frames};
pub(crate) use decisions::{LogLine, LogLines};
pub(crate) use flows::{Limits as ReaderLimits, Reader};
pub(crate) use notes::{Note, Notes};
pub(crate) use suggest::{Proposal, Proposals};
pub(crate) use table::{json, text};
pub(crate) use tally::{Change, Limits as TallyLimits, Row, Tally, Who};

/// Keyed by what a capture says, which may be made to crowd a table: the hash has a seed of its own
/// for each run. A quick one, since every packet is looked up.
type Map<K, V> = HashMap<K, V, RandomState>;
type Set<T> = HashSet<T, RandomState>;

/// One thing that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// The address that asked.
    pub(crate) subscriber: IpAddr,
    /// What for.
    pub(crate) asked: Asked,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Asked {
    /// How.
    pub(crate) protocol: Protocol,
    /// The name in it.
    pub(crate) host: Host,
    /// The port asked; 53 for DNS.
    pub(crate) port: u16,
}

/// The name that was judged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Host {
    /// A name.
    Name(HostName),
    /// None, for this reason.
    Missing(Reason),
}

/// How something was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    /// A DNS question.
    Dns,
    /// An HTTP/1 request.
    Http,
    /// A TLS session.
    Https,
    /// A QUIC connection.
    Quic,
    /// Any other TCP connection.
    Tcp,
    /// Any other UDP flow.
    Udp,
}

impl Asked {
    pub(crate) fn named(protocol: Protocol, host: HostName, port: u16) -> Self {
        Self { protocol, host: Host::Name(host), port }
    }

    pub(crate) fn nameless(protocol: Protocol, reason: Reason, port: u16) -> Self {
        Self { protocol, host: Host::Missing(reason), port }
    }

    /// Judges it as the gateway would.
    pub(crate) fn decide<'p>(
        &self,
        policy: &'p Policy,
        subject: Subject<'_>,
        at: Timestamp,
    ) -> Decision<'p> {
        let port = self.port;
        match &self.host {
            Host::Missing(reason) => decide_nameless(policy, subject, *reason, at),
            Host::Name(host) => {
                let request = match self.protocol {
                    Protocol::Dns => Request::Dns { host },
                    Protocol::Http => Request::Http { host, port },
                    Protocol::Https => Request::Https { host, port },
                    Protocol::Quic => Request::Quic { host, port },
                    // A name beside a flow that carries none opens nothing.
                    Protocol::Tcp | Protocol::Udp => Request::Tcp { host, port },
                };
                decide(policy, subject, request, at)
            }
        }
    }
}

impl Protocol {
    const ALL: [Self; 6] = [Self::Dns, Self::Http, Self::Https, Self::Quic, Self::Tcp, Self::Udp];

    /// The protocol of this name in reports and logs.
    pub(crate) fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.label() == label)
    }

    /// The protocol's name in reports and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Http => "http",
            Self::Https => "https",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The port where none was written down.
    pub(crate) fn usual_port(self) -> u16 {
        match self {
            Self::Dns => 53,
            Self::Http => 80,
            Self::Https | Self::Quic => 443,
            Self::Tcp | Self::Udp => 0,
        }
    }
}

#[cfg(test)]
mod tests;
