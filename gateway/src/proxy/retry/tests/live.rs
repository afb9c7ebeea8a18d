//! A whole rustls handshake with a HelloRetryRequest, carried through the watch octet by octet.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    pki_types::PrivateKeyDer,
};

use super::super::*;

#[test]
fn carries_a_handshake_with_a_retry() {
    let (mut client, mut server) = connections();
    let mut reader = HelloReader::new();
    let mut hello = None;
    for octet in taken(&mut client) {
        if let Progress::Complete(complete) = reader.push(&[octet]) {
            hello = Some(complete);
        }
    }
    let (mut watch, first) = RetryWatch::begin(&hello.unwrap(), reader).unwrap();
    give(&mut server, &first);

    let mut steps = Vec::new();
    while !steps.contains(&ServerStep::Over) {
        let answer = taken(&mut server);
        assert!(!answer.is_empty(), "the server answers");
        steps.extend(answer.iter().map(|octet| watch.server(&[*octet])));
        give(&mut client, &answer);
        let mut out = Vec::new();
        if !steps.contains(&ServerStep::Over) {
            for octet in taken(&mut client) {
                watch.client(&[octet], &mut out).unwrap();
            }
            give(&mut server, &out);
        }
    }
    assert!(watch.into_held().is_empty());
    let rest = taken(&mut client);
    give(&mut server, &rest);
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::FullWithHelloRetryRequest));
}

fn connections() -> (ClientConnection, ServerConnection) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider(vec![
        ring::kx_group::X25519,
        ring::kx_group::SECP384R1,
    ]))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider(vec![ring::kx_group::SECP384R1]))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()),
        )
        .unwrap();
    (
        ClientConnection::new(Arc::new(client), "a.example".try_into().unwrap()).unwrap(),
        ServerConnection::new(Arc::new(server)).unwrap(),
    )
}

fn provider(kx_groups: Vec<&'static dyn SupportedKxGroup>) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups, ..ring::default_provider() })
}

fn taken<D>(connection: &mut rustls::ConnectionCommon<D>) -> Vec<u8> {
    let mut octets = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut octets).unwrap();
    }
    octets
}

fn give<D>(connection: &mut rustls::ConnectionCommon<D>, mut octets: &[u8]) {
    while !octets.is_empty() {
        connection.read_tls(&mut octets).unwrap();
        connection.process_new_packets().unwrap();
    }
}
