//! The netfilter messages: edits of our table, and questions about it.
//!
//! Numbers are those of the kernel's `include/uapi/linux/netfilter/nf_tables.h`.

use std::{net::IpAddr, time::Duration};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, Nla, NlasIterator};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags,
        SetElementList, SetElementMessage,
    },
};

use super::{Edit, Element, ElementKind};

/// The messages of one edit, with their flags. A message holds a bounded number of elements,
/// because the length of its list has 16 bits.
pub(super) fn messages(edit: &Edit, table: &str) -> Vec<(u16, NetfilterMessage)> {
    match edit {
        Edit::Flush(set) => {
            let all = SetElementMessage { attributes: list(table, set).to_vec() };
            vec![(0, nftables(NfTablesMessage::DeleteSetElement(all)))]
        }
        Edit::Add(set, elements) => elements
            .chunks(ELEMENTS_MAX)
            .map(|chunk| {
                let chunk = some(table, set, chunk);
                (NLM_F_CREATE, nftables(NfTablesMessage::NewSetElement(chunk)))
            })
            .collect(),
        Edit::Remove(set, elements) => elements
            .chunks(ELEMENTS_MAX)
            .map(|chunk| (0, nftables(NfTablesMessage::DeleteSetElement(some(table, set, chunk)))))
            .collect(),
        Edit::Quota { name, bytes, used } => {
            let data = [
                DefaultNla::new(QUOTA_BYTES, bytes.to_be_bytes().to_vec()),
                DefaultNla::new(QUOTA_FLAGS, 0_u32.to_be_bytes().to_vec()),
                DefaultNla::new(QUOTA_CONSUMED, used.to_be_bytes().to_vec()),
            ];
            let mut attributes = object(table, Some(name));
            attributes.push(DefaultNla::new(OBJ_DATA | NESTED, packed(&data)));
            vec![(NLM_F_CREATE, nftables(NfTablesMessage::NewObject(attributes)))]
        }
        Edit::DropQuota(name) => {
            let one = object(table, Some(name));
            vec![(0, nftables(NfTablesMessage::DeleteObject(one)))]
        }
    }
}

/// The question for all quotas of a table.
pub(super) fn list_quotas(table: &str) -> (u16, NetfilterMessage) {
    (NLM_F_DUMP, nftables(NfTablesMessage::GetObject(object(table, None))))
}

/// The name of a quota, and the bytes used of it.
pub(super) fn quota(message: &NetfilterMessage) -> Option<(String, u64)> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewObject(attributes)) = &message.inner
    else {
        return None;
    };
    let value = |kind| attributes.iter().find(|found| found.kind() & !NESTED == kind).map(value);
    let name = String::from_utf8(value(OBJ_NAME)?).ok()?.trim_end_matches('\0').to_owned();
    let data = value(OBJ_DATA)?;
    let consumed = NlasIterator::new(&data[..])
        .filter_map(Result::ok)
        .find(|found| found.kind() == QUOTA_CONSUMED)?;
    Some((name, u64::from_be_bytes(consumed.value().try_into().ok()?)))
}

fn nftables(message: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), message)
}

fn list(table: &str, set: &str) -> [SetElementList; 2] {
    [SetElementList::Table(table.to_owned()), SetElementList::Set(set.to_owned())]
}

fn some(table: &str, set: &str, elements: &[Element]) -> SetElementMessage {
    let elements = elements.iter().map(|Element { key, kind }| {
        let octets = match key {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(octets))];
        let limited = |time: &Duration| {
            let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            // Zero would mean: for ever.
            SetElementAttribute::Timeout(milliseconds.max(1))
        };
        match kind {
            ElementKind::Plain => {}
            ElementKind::End => {
                attributes.push(SetElementAttribute::Flags(SetElementFlags::IntervalEnd));
            }
            ElementKind::Lasting(time) => attributes.push(limited(time)),
            ElementKind::Metered(time, quota) => {
                attributes.push(limited(time));
                attributes.push(SetElementAttribute::ObjectRefrence(quota.clone()));
            }
        }
        ListAttribute::Element(attributes)
    });
    let mut attributes = list(table, set).to_vec();
    attributes.push(SetElementList::Elements(elements.collect()));
    SetElementMessage { attributes }
}

fn object(table: &str, name: Option<&str>) -> Vec<DefaultNla> {
    let text = |kind, text: &str| DefaultNla::new(kind, [text.as_bytes(), &[0]].concat());
    let quota = DefaultNla::new(OBJ_TYPE, OBJECT_QUOTA.to_be_bytes().to_vec());
    let mut attributes = vec![text(OBJ_TABLE, table)];
    attributes.extend(name.map(|name| text(OBJ_NAME, name)));
    attributes.push(quota);
    attributes
}

fn packed(attributes: &[DefaultNla]) -> Vec<u8> {
    use netlink_packet_core::Emitable;
    let mut octets = vec![0; attributes.buffer_len()];
    attributes.emit(&mut octets);
    octets
}

fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut octets = vec![0; attribute.value_len()];
    attribute.emit_value(&mut octets);
    octets
}

/// The subsystem's number, for the batch that holds its messages.
pub(super) const NFTABLES: u16 = 10;
/// The largest element takes about 90 octets.
const ELEMENTS_MAX: usize = 512;

const NESTED: u16 = netlink_packet_core::NLA_F_NESTED;
const OBJ_TABLE: u16 = 1;
const OBJ_NAME: u16 = 2;
const OBJ_TYPE: u16 = 3;
const OBJ_DATA: u16 = 4;
const OBJECT_QUOTA: u32 = 2;
const QUOTA_BYTES: u16 = 1;
const QUOTA_FLAGS: u16 = 2;
const QUOTA_CONSUMED: u16 = 4;
