//! Encrypted upstreams: whom they must prove to be.

use std::io::Write;

use data_encoding::BASE64;
use hickory_proto::rr::RecordType;

use super::{
    scripted::Scripted,
    world::{HOST, World, told},
};
use crate::{InvalidTrust, Limits, Trust};

#[tokio::test]
async fn case_72_believes_an_encrypted_upstream_only_by_its_certificate() {
    let authoritative = Scripted::start().await;
    authoritative.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let upstream = World::start("127.0.0.1:0", &[&authoritative]).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let pem = BASE64.encode(&upstream.certificate);
    write!(file, "-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n").unwrap();
    let (own, web) = (Trust::load(file.path()).unwrap(), Trust::web().unwrap());
    for (scheme, at) in [("tls", upstream.tls), ("https", upstream.https)] {
        let right = format!("{scheme}://{HOST}@{at}");
        let other = format!("{scheme}://other.example@{at}");
        for (url, trust, expected) in [
            (&right, &own, "NoError listed.example. 30 198.51.100.7"),
            (&other, &own, "ServFail EDE 22"),
            (&right, &web, "ServFail EDE 22"),
        ] {
            let upstreams = [url.parse().unwrap()];
            let limits = Limits::default();
            let world = World::start_trusting("127.0.0.1:0", &upstreams, trust, limits).await;
            let answer = world.ask("listed.example.", RecordType::A).await;
            assert_eq!(told(&answer), expected, "{url}");
        }
    }
}

#[test]
fn case_72_says_what_is_wrong_with_a_file_of_authorities() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Trust::load(file.path()), Err(InvalidTrust::Pem { .. })));
    write!(file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(Trust::load(file.path()), Err(InvalidTrust::Pem { .. })));
    let absent = file.path().with_extension("absent");
    assert!(matches!(Trust::load(&absent), Err(InvalidTrust::Read { .. })));
}
