//! Running flows, as conntrack knows them: found by their source, and ended.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_DUMP, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, Status, Tuple},
};

use super::{super::passage::is_wide, Netlink, NetlinkError, append};

impl Netlink {
    /// Ends the flows whose source is in `blocks`, but for those that address translation brings to
    /// this host: they are the listeners' own. Says how many were ended.
    ///
    /// Reads the whole of conntrack once, whatever the number of blocks.
    pub(in crate::steering) fn cut_flows(
        &mut self,
        blocks: &[IpNet],
    ) -> Result<usize, NetlinkError> {
        let narrow: HashSet<IpNet> = blocks.iter().copied().collect();
        let wide: Vec<IpNet> = narrow.iter().copied().filter(|block| is_wide(*block)).collect();
        let walled = |source| {
            narrow.contains(&block_of(source)) || wide.iter().any(|block| block.contains(&source))
        };
        let mut cut = 0;
        for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
            let all = conntrack(family, ConntrackMessage::Get(Vec::new()));
            let mut found = Vec::new();
            self.dump((NLM_F_DUMP, all), |message| found.extend(flow_of(message, &walled)))?;
            for flow in found {
                let mut question = Vec::new();
                let delete = conntrack(family, ConntrackMessage::Delete(flow));
                append(&mut question, &self.numbered(0, delete));
                self.socket.send(&question, 0)?;
                cut += 1;
            }
            // A flow that ended in between is no failure, and nothing else was asked.
            let _ = self.receive(|_| Ok(()));
        }
        Ok(cut)
    }
}

/// What names a flow that is to be ended.
fn flow_of(
    message: &NetfilterMessage,
    walled: &impl Fn(IpAddr) -> bool,
) -> Option<Vec<ConntrackAttribute>> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &message.inner else {
        return None;
    };
    let mut ours = false;
    let mut naming = Vec::new();
    for attribute in attributes {
        if let ConntrackAttribute::CtaStatus(status) = attribute
            && status.contains(Status::DstNat)
        {
            return None;
        }
        if let ConntrackAttribute::CtaTupleOrig(tuples) = attribute {
            ours = source(tuples).is_some_and(walled);
            naming.push(attribute.clone());
        }
        if let ConntrackAttribute::Other(other) = attribute
            && [ID, ZONE].contains(&other.kind())
        {
            naming.push(attribute.clone());
        }
    }
    ours.then_some(naming)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the crate's lists are open, and grow")]
fn source(tuples: &[Tuple]) -> Option<IpAddr> {
    let parts = tuples.iter().filter_map(|tuple| match tuple {
        Tuple::Ip(parts) => Some(parts),
        _ => None,
    });
    parts.flatten().find_map(|part| match part {
        IPTuple::SourceAddress(address) => Some(*address),
        _ => None,
    })
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
