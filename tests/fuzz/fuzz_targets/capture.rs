//! Any octets as a capture: no panic, bounded memory, and the same result when it is read again.

#![no_main]

#[expect(dead_code, reason = "each target uses a part of the module")]
#[path = "../../../gateway/src/proxy"]
mod proxy {
    pub(crate) mod hello;
    pub(crate) mod http {
        pub(crate) mod head;
    }
    pub(crate) mod quic {
        pub(crate) mod initial;
    }
}
#[expect(dead_code, unused_imports, reason = "each target uses a part of the module")]
#[path = "../../../gateway/src"]
mod gateway {
    pub(crate) mod replay;
}

use gateway::replay::{Frames, Reader, ReaderLimits, Sighting};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    assert_eq!(read(octets), read(octets));
});

fn read(octets: &[u8]) -> Vec<Sighting> {
    let mut reader = Reader::new(ReaderLimits { flows: 64, octets: 1 << 16 });
    let mut seen = Vec::new();
    if let Ok(mut frames) = Frames::new(octets) {
        while let Ok(Some(frame)) = frames.next() {
            reader.take(frame);
            seen.extend(reader.sightings());
        }
    }
    reader.finish();
    seen.extend(reader.sightings());
    seen
}
