//! Two gardens side by side: what each lets through where they differ.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    cells::{Cell, Cells},
    ports::Ports,
    reach::{Access, Channel, Side},
    region::{Region, regions},
};
use crate::{host::HostName, policy::Policy};

/// What either class lets through by HTTP, HTTPS and QUIC, with the hosts, where it is not the same.
pub(crate) fn compare(
    old: (&Policy, &str),
    new: (&Policy, &str),
    now: Timestamp,
) -> Vec<(Vec<Access>, Vec<Access>, Vec<Region>)> {
    let cells = Cells::of(old.0, new.0);
    let sides = [old, new].map(|(policy, class)| Side::of(policy, Some(class)));
    let mut groups: BTreeMap<[Vec<Access>; 2], BTreeSet<Cell>> = BTreeMap::new();
    for (cell, host, listed) in cells.iter() {
        let both = sides.map(|side| allowed(side, host, listed, now));
        let [one, other] = &both;
        if one != other {
            groups.entry(both).or_default().insert(cell);
        }
    }
    groups
        .into_iter()
        .map(|([one, other], members)| (one, other, regions(&cells, &members)))
        .collect()
}

fn allowed(side: Side<'_>, host: &HostName, listed: &BTreeSet<u16>, now: Timestamp) -> Vec<Access> {
    let by = |channel: Channel| {
        let passes = |port| side.decide(channel.request(host, port), now).passes();
        let ports = Some(Ports::that(listed, passes)?);
        Some(Access { channel, ports })
    };
    [Channel::Http, Channel::Https, Channel::Quic].into_iter().filter_map(by).collect()
}
