//! Any datagrams, and any frames in Initial packets, from a client on one path: no panic, bounded
//! memory, nothing passes before a name was handed out, and no second name ever passes.

#![no_main]

#[expect(dead_code, reason = "each target uses a part of the module")]
#[path = "../../../gateway/src/proxy"]
mod proxy {
    pub(crate) mod hello;
    pub(crate) mod quic {
        pub(crate) mod initial;
        pub(crate) mod made;
        pub(crate) mod refusal;
        pub(crate) mod watch;
    }
}

use libfuzzer_sys::fuzz_target;
use proxy::quic::{
    made::initial,
    refusal,
    watch::{MAX_KEPT, Step, Watch},
};

fuzz_target!(|octets: &[u8]| {
    let mut watch = Watch::default();
    let (mut named, mut kept) = (0, 0);
    for (number, piece) in pieces(octets).enumerate() {
        let Some((kind, frames)) = piece.split_first() else { continue };
        let datagram = match kind % 8 {
            0 => frames.to_vec(),
            kind => {
                let id = [b'0' + kind / 3; 8];
                initial(1 + kind % 2, &id, number as u8, frames, 1_200)
            }
        };
        let _ = refusal::versions(&datagram);
        match watch.push(&datagram) {
            Step::Named(_) => {
                named += 1;
                kept = 0;
            }
            Step::Pass | Step::Release => {
                assert_eq!(named, 1, "passed before it was named");
                kept = 0;
            }
            Step::Keep => kept += 1,
            Step::Ignore => {}
            Step::Reject(_) => break,
        }
        assert!(named <= 1 && kept <= MAX_KEPT);
    }
    if let Some(refusal) = watch.refusal() {
        assert!(refusal.len() < 120);
    }
});

/// Pieces behind their lengths in two octets; the last takes what is left.
fn pieces(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len()).min(16_000);
        let (piece, behind) = behind.split_at(length);
        rest = behind;
        Some(piece)
    })
    .take(40)
}
