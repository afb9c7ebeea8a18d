//! Running flows, as conntrack knows them: found by their source, and ended.
#![expect(clippy::wildcard_enum_match_arm, reason = "the crate's lists are open, and grow")]

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_DUMP, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Status, Tuple,
    },
};

use super::{super::passage::is_wide, Netlink, NetlinkError, append};

/// A running flow of a subscriber.
#[derive(Clone, Debug)]
pub(in crate::steering) struct Flow {
    /// The block it was looked for in.
    pub(in crate::steering) block: IpNet,
    /// Its ends, if it is a TCP connection.
    pub(in crate::steering) connection: Option<Connection>,
    family: NetfilterProtoFamily,
    /// What names it.
    naming: Vec<ConntrackAttribute>,
}

/// The ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::steering) struct Connection {
    /// Who opened it.
    pub(in crate::steering) subscriber: SocketAddr,
    /// Whom it was opened to.
    pub(in crate::steering) peer: SocketAddr,
}

impl Netlink {
    /// The flows whose source is in `blocks`, but for those that address translation brings to this
    /// host: they are the listeners' own.
    ///
    /// Reads the whole of conntrack once, whatever the number of blocks.
    pub(in crate::steering) fn flows(
        &mut self,
        blocks: &[IpNet],
    ) -> Result<Vec<Flow>, NetlinkError> {
        let narrow: HashSet<IpNet> = blocks.iter().copied().collect();
        let wide: Vec<IpNet> = narrow.iter().copied().filter(|block| is_wide(*block)).collect();
        let block = |source| {
            let around = || wide.iter().copied().find(|block| block.contains(&source));
            narrow.get(&block_of(source)).copied().or_else(around)
        };
        let mut found = Vec::new();
        for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
            let all = conntrack(family, ConntrackMessage::Get(Vec::new()));
            self.dump((NLM_F_DUMP, all), |message| found.extend(flow_of(message, family, &block)))?;
        }
        Ok(found)
    }

    /// Ends a flow. One that ended meanwhile is no failure.
    pub(in crate::steering) fn end(&mut self, flow: &Flow) -> Result<(), NetlinkError> {
        let mut question = Vec::new();
        let delete = conntrack(flow.family, ConntrackMessage::Delete(flow.naming.clone()));
        append(&mut question, &self.numbered(0, delete));
        self.socket.send(&question, 0)?;
        // Nothing else was asked.
        let _ = self.receive(|_| Ok(()));
        Ok(())
    }
}

/// The flow of a message, if its source is in a block.
fn flow_of(
    message: &NetfilterMessage,
    family: NetfilterProtoFamily,
    block: &impl Fn(IpAddr) -> Option<IpNet>,
) -> Option<Flow> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &message.inner else {
        return None;
    };
    let (mut from, mut ends) = (None, None);
    let mut naming = Vec::new();
    for attribute in attributes {
        if let ConntrackAttribute::CtaStatus(status) = attribute
            && status.contains(Status::DstNat)
        {
            return None;
        }
        if let ConntrackAttribute::CtaTupleOrig(tuples) = attribute {
            from = source(tuples).and_then(block);
            ends = connection(tuples);
            naming.push(attribute.clone());
        }
        if let ConntrackAttribute::Other(other) = attribute
            && [ID, ZONE].contains(&other.kind())
        {
            naming.push(attribute.clone());
        }
    }
    Some(Flow { block: from?, connection: ends, family, naming })
}

/// Both ends, of TCP alone.
fn connection(tuples: &[Tuple]) -> Option<Connection> {
    let is_tcp = |part: &ProtoTuple| matches!(part, ProtoTuple::Protocol(Protocol::Tcp));
    transport(tuples).find(|part| is_tcp(part))?;
    let source_port = transport(tuples).find_map(|part| match part {
        ProtoTuple::SourcePort(port) => Some(*port),
        _ => None,
    });
    let destination_port = transport(tuples).find_map(|part| match part {
        ProtoTuple::DestinationPort(port) => Some(*port),
        _ => None,
    });
    Some(Connection {
        subscriber: SocketAddr::new(source(tuples)?, source_port?),
        peer: SocketAddr::new(destination(tuples)?, destination_port?),
    })
}

fn source(tuples: &[Tuple]) -> Option<IpAddr> {
    addresses(tuples).find_map(|part| match part {
        IPTuple::SourceAddress(address) => Some(*address),
        _ => None,
    })
}

fn destination(tuples: &[Tuple]) -> Option<IpAddr> {
    addresses(tuples).find_map(|part| match part {
        IPTuple::DestinationAddress(address) => Some(*address),
        _ => None,
    })
}

fn addresses(tuples: &[Tuple]) -> impl Iterator<Item = &IPTuple> {
    let parts = tuples.iter().filter_map(|tuple| match tuple {
        Tuple::Ip(parts) => Some(parts),
        _ => None,
    });
    parts.flatten()
}

fn transport(tuples: &[Tuple]) -> impl Iterator<Item = &ProtoTuple> {
    let parts = tuples.iter().filter_map(|tuple| match tuple {
        Tuple::Proto(parts) => Some(parts),
        _ => None,
    });
    parts.flatten()
}

/// An address's block: itself, or its /64.
fn block_of(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 32 } else { 64 };
    IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |block| block.trunc())
}

fn conntrack(family: NetfilterProtoFamily, message: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

/// `CTA_ID` and `CTA_ZONE` of the kernel's `nfnetlink_conntrack.h`.
const ID: u16 = 12;
const ZONE: u16 = 18;
