//! Any octets as the head of a request: no panic, the same result however they are cut, no octet
//! lost, and a host that is read again as itself.

#![no_main]

#[expect(dead_code, reason = "each target uses a part of the module")]
#[path = "../../../gateway/src/proxy"]
mod proxy {
    pub(crate) mod http {
        pub(crate) mod head;
    }
}

use libfuzzer_sys::fuzz_target;
use proxy::http::head::{
    Head, HeadProgress, HeadReader, MAX_HEAD_OCTETS, ProxyProgress, authority,
};

fuzz_target!(|octets: &[u8]| {
    let mut whole = HeadReader::default();
    let expected = whole.push(octets, PORT);
    match &expected {
        HeadProgress::Incomplete => assert!(octets.len() <= MAX_HEAD_OCTETS),
        HeadProgress::Complete(head) => assert_fits(head, octets, PORT),
        HeadProgress::Reject(_) => {}
    }
    assert_eq!(whole.into_octets(), octets);

    let mut cut = HeadReader::default();
    let mut progress = HeadProgress::Incomplete;
    for octet in octets {
        progress = cut.push(std::slice::from_ref(octet), PORT);
        if progress != HeadProgress::Incomplete {
            break;
        }
    }
    assert_eq!(progress, expected);

    match HeadReader::default().push_to_proxy(octets) {
        ProxyProgress::Carry(head, port) => {
            assert_fits(&head, octets, port);
            assert_eq!(HeadReader::default().push(octets, port), HeadProgress::Complete(head));
        }
        ProxyProgress::Connect(host, port) => {
            assert_eq!(authority(host.as_str().as_bytes(), port), Ok(host));
            assert!(matches!(expected, HeadProgress::Reject(_)), "only proxies are asked so");
        }
        ProxyProgress::Incomplete | ProxyProgress::Reject(_) => {}
    }
});

fn assert_fits(head: &Head, octets: &[u8], port: u16) {
    assert!(octets[..head.length].ends_with(b"\r\n\r\n"));
    assert!(head.path.starts_with('/') || head.path == "*");
    assert_eq!(authority(head.host.as_str().as_bytes(), port).as_ref(), Ok(&head.host));
}

const PORT: u16 = 80;
