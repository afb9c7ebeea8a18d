//! Any octets as a RADIUS request: no panic, no answer longer than a packet, and every Proxy-State
//! in it, unchanged and in order.

#![no_main]

#[expect(dead_code, reason = "each target uses a part of the module")]
#[path = "../../../gateway/src/radius"]
mod radius {
    pub(crate) mod content;
    pub(crate) mod packet;
}
#[expect(dead_code, reason = "each target uses a part of the module")]
#[path = "../../../gateway/src/sims"]
mod sims {
    pub(crate) mod identity;
    pub(crate) mod prefix;

    pub(crate) use identity::Identities;
    pub(crate) use prefix::{InvalidPrefix, Prefix};
}

use libfuzzer_sys::fuzz_target;
use radius::{
    content::Content,
    packet::{ErrorCause, PACKET_MAX, Packet, Secret},
};

fuzz_target!(|octets: &[u8]| {
    let Ok(packet) = Packet::parse(octets) else { return };
    let Some(secret) = Secret::new(b"fuzz") else { return };
    let _ = packet.verify(&secret, true);
    let _ = Content::read(&packet);
    for refused in [None, Some(ErrorCause::NotFound)] {
        let mut reply = packet.reply(&secret, refused);
        assert!(reply.len() <= PACKET_MAX);
        // A code that is read.
        reply[0] = 4;
        assert_eq!(states(&Packet::parse(&reply).unwrap()), states(&packet));
    }
});

fn states<'p>(packet: &Packet<'p>) -> Vec<&'p [u8]> {
    packet.attributes().filter(|attribute| attribute.kind == 33).map(|a| a.value).collect()
}
