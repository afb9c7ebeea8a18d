//! Link layers: where in a frame the IP packet begins.

use pcap_parser::Linktype;

use super::Note;

/// The IP packet in a frame.
///
/// # Errors
///
/// The link type is not read, or the frame carries something else.
pub(super) fn ip_packet(link: Linktype, frame: &[u8]) -> Result<&[u8], Note> {
    match link {
        Linktype::ETHERNET => ethernet(frame),
        Linktype::RAW
        | Linktype(RAW_OLD)
        | Linktype(RAW_OPENBSD)
        | Linktype::IPV4
        | Linktype::IPV6 => Ok(frame),
        Linktype::LINUX_SLL => typed(frame, SLL_TYPE, SLL_OCTETS),
        Linktype(LINUX_SLL2) => typed(frame, 0, SLL2_OCTETS),
        // The family is in the byte order of the host that captured; the packet tells it as well.
        Linktype::NULL | Linktype(LOOP) => frame.get(FAMILY_OCTETS..).ok_or(Note::Malformed),
        _ => Err(Note::OtherLink),
    }
}

/// Ethernet with any number of VLAN tags up to [`MAX_TAGS`] (IEEE 802.1Q, 802.1ad).
fn ethernet(frame: &[u8]) -> Result<&[u8], Note> {
    let mut at = MAC_OCTETS;
    for _ in 0..=MAX_TAGS {
        match ether_type(frame, at)? {
            TYPE_IPV4 | TYPE_IPV6 => return frame.get(at + 2..).ok_or(Note::Malformed),
            TYPE_VLAN | TYPE_QINQ | TYPE_QINQ_OLD => at += TAG_OCTETS,
            _ => return Err(Note::NotIp),
        }
    }
    Err(Note::NotIp)
}

/// A header of `length` octets with the EtherType at `at`; VLAN tags may follow it.
fn typed(frame: &[u8], at: usize, length: usize) -> Result<&[u8], Note> {
    let rest = frame.get(length..).ok_or(Note::Malformed)?;
    match ether_type(frame, at)? {
        TYPE_IPV4 | TYPE_IPV6 => Ok(rest),
        TYPE_VLAN | TYPE_QINQ => match ether_type(rest, 2)? {
            TYPE_IPV4 | TYPE_IPV6 => rest.get(TAG_OCTETS..).ok_or(Note::Malformed),
            _ => Err(Note::NotIp),
        },
        _ => Err(Note::NotIp),
    }
}

fn ether_type(octets: &[u8], at: usize) -> Result<u16, Note> {
    let octets = octets.get(at..).and_then(|rest| rest.first_chunk());
    octets.map(|octets| u16::from_be_bytes(*octets)).ok_or(Note::Malformed)
}

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_QINQ: u16 = 0x88a8;
const TYPE_QINQ_OLD: u16 = 0x9100;
const MAC_OCTETS: usize = 12;
const TAG_OCTETS: usize = 4;
const MAX_TAGS: usize = 4;
/// The EtherType is the last field of the header of 16 octets.
const SLL_TYPE: usize = 14;
const SLL_OCTETS: usize = 16;
/// The EtherType is the first field of the header of 20 octets.
const SLL2_OCTETS: usize = 20;
const LINUX_SLL2: i32 = 276;
const LOOP: i32 = 108;
const FAMILY_OCTETS: usize = 4;
/// DLT_RAW as some systems write it into files.
const RAW_OLD: i32 = 12;
const RAW_OPENBSD: i32 = 14;
