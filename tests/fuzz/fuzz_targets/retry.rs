//! Any octets behind a good hello, cut and interleaved with a server's as the first octets say:
//! no panic, nothing passes but what was sent, the same however it is cut.

#![no_main]

#[expect(dead_code, reason = "each target uses a part of the module")]
#[path = "../../../gateway/src/proxy"]
mod proxy {
    pub(crate) mod hello;
    pub(crate) mod retry;
}

use libfuzzer_sys::fuzz_target;
use proxy::{
    hello::{HelloReader, Progress},
    retry::RetryWatch,
};

const HELLO: &[u8] = include_bytes!("../../data/hello/rustls.bin");

fuzz_target!(|octets: &[u8]| {
    let Some((&size, octets)) = octets.split_first() else { return };
    let Some((&share, octets)) = octets.split_first() else { return };
    let (client, server) = octets.split_at(octets.len() * usize::from(share) / 255);

    let (mut watch, mut out) = begin();
    let mut answers = server.chunks(usize::from(size).max(1));
    let mut result = Ok(());
    for part in client.chunks(usize::from(size).max(1)) {
        result = watch.client(part, &mut out);
        if result.is_err() {
            break;
        }
        watch.server(answers.next().unwrap_or_default());
    }
    assert!(client.starts_with(&out[HELLO.len()..]));
    if result.is_ok() {
        out.extend(watch.into_held());
        assert_eq!(&out[HELLO.len()..], client);
    }

    let (mut watch, mut out) = begin();
    assert_eq!(watch.client(client, &mut out), result);
});

fn begin() -> (RetryWatch, Vec<u8>) {
    let mut reader = HelloReader::new();
    let Progress::Complete(hello) = reader.push(HELLO) else { unreachable!() };
    RetryWatch::begin(&hello, reader).unwrap_or_else(|_| unreachable!())
}
