//! Any octets as the start of a connection: no panic, the same result however they are cut, no
//! octet lost, no growth past the limits.

#![no_main]

#[expect(dead_code, reason = "each target uses a part of the module")]
#[path = "../../../gateway/src/proxy"]
mod proxy {
    pub(crate) mod hello;
}

use libfuzzer_sys::fuzz_target;
use proxy::hello::{HelloReader, MAX_HELLO_OCTETS, MAX_HELLO_RECORDS, Progress, read_handshake};

fuzz_target!(|octets: &[u8]| {
    let mut whole = HelloReader::new();
    let expected = whole.push(octets);
    if expected == Progress::Incomplete {
        assert!(octets.len() <= MAX_HELLO_OCTETS + 5 * MAX_HELLO_RECORDS);
    }
    let (mut kept, behind) = whole.into_parts();
    kept.extend_from_slice(&behind);
    assert_eq!(kept, octets);

    let mut cut = HelloReader::new();
    let mut progress = Progress::Incomplete;
    for octet in octets {
        progress = cut.push(std::slice::from_ref(octet));
        if progress != Progress::Incomplete {
            break;
        }
    }
    assert_eq!(progress, expected);

    let _ = read_handshake(octets);
});
