use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::AdminTls;

/// A node that answers one request, and what it was sent.
async fn node(
    tls: Option<TlsAcceptor>,
    answer: &'static str,
) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let (stream, _) = listener.accept().await.unwrap();
        match tls {
            None => serve(stream, answer).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => serve(stream, answer).await,
                Err(_) => String::new(),
            },
        }
    };
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let task = tokio::spawn(serve);
    (address, task)
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => break,
        }
    }
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    String::from_utf8(head).unwrap()
}

fn config(listen: SocketAddr) -> AdminConfig {
    AdminConfig { listen, token_file: None, tls: None }
}

/// A certificate for 127.0.0.1 signed by an authority; both as PEM files, and the node's TLS.
fn certified(folder: &Path) -> (PathBuf, PathBuf, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::from_params(&params, &authority_key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let (own_file, authority_file) = (folder.join("own.pem"), folder.join("ca.pem"));
    std::fs::write(&own_file, own.pem()).unwrap();
    std::fs::write(&authority_file, authority.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (own_file, authority_file, TlsAcceptor::from(Arc::new(config)))
}

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"ready\": true}";

#[tokio::test]
async fn asks_a_node_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, " 0123456789abcdef\n").unwrap();
    let (address, node) = node(None, FINE).await;
    // Bound to every address, it is reached by loopback.
    let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
    let client = Client::of(&AdminConfig { token_file: Some(token_file), ..config(everywhere) });
    let answer = client.unwrap().post("/v1/x?dry_run=1", Bytes::new()).await.unwrap();
    assert_eq!((answer.status, &answer.body["ready"]), (StatusCode::OK, &true.into()));
    let sent = node.await.unwrap();
    assert!(sent.starts_with("POST /v1/x?dry_run=1 HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("authorization: Bearer 0123456789abcdef\r\n"), "{sent}");
    assert!(sent.contains(&format!("host: {address}\r\n")), "{sent}");
}

#[tokio::test]
async fn knows_a_node_by_its_own_certificate_or_its_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (own, authority, tls) = certified(folder.path());
    let pinned = |address, certificate: &Path| {
        let tls = AdminTls { certificate: certificate.to_owned(), key: PathBuf::new() };
        Client::of(&AdminConfig { tls: Some(tls), ..config(address) }).unwrap()
    };
    let (address, _node) = node(Some(tls.clone()), FINE).await;
    assert_eq!(pinned(address, &own).get("/").await.unwrap().status, StatusCode::OK);
    let (address, _node) = node(Some(tls.clone()), FINE).await;
    let url = format!("https://{address}");
    let client = Client::to(&url, Some(&authority), None).unwrap();
    assert_eq!(client.get("/").await.unwrap().status, StatusCode::OK);

    let other = tempfile::tempdir().unwrap();
    let (strange, strangers, _) = certified(other.path());
    let (address, imposed) = node(Some(tls.clone()), FINE).await;
    assert!(matches!(pinned(address, &strange).get("/").await, Err(ClientError::Connect { .. })));
    assert_eq!(imposed.await.unwrap(), "");
    let (address, imposed) = node(Some(tls), FINE).await;
    let client = Client::to(&format!("https://{address}"), Some(&strangers), None).unwrap();
    assert!(matches!(client.get("/").await, Err(ClientError::Connect { .. })));
    assert_eq!(imposed.await.unwrap(), "");
}

#[test]
fn a_token_is_not_sent_in_clear_and_addresses_are_checked() {
    let kind = |url: &str| match Client::to(url, None, None) {
        Ok(_) => "fine",
        Err(ClientError::Url { .. }) => "url",
        Err(ClientError::Clear { .. }) => "clear",
        Err(ClientError::NoAuthority) => "no authority",
        Err(_) => "other",
    };
    for (url, expected) in [
        ("http://127.0.0.1:9180", "fine"),
        ("http://[::1]:9180/", "fine"),
        ("http://192.0.2.1:9180", "clear"),
        ("http://localhost.evil.example:80", "clear"),
        ("https://edge-1.example:9180", "no authority"),
        ("http://127.0.0.1", "url"),
        ("http://127.0.0.1:9180/v1", "url"),
        ("http://127.0.0.1@192.0.2.1:80", "url"),
        ("ftp://127.0.0.1:21", "url"),
        ("127.0.0.1:9180", "url"),
    ] {
        assert_eq!(kind(url), expected, "{url}");
    }
    let any = Client::of(&config(SocketAddr::from(([127, 0, 0, 1], 0))));
    assert!(matches!(any.err(), Some(ClientError::AnyPort { .. })));
}

#[tokio::test]
async fn a_node_that_is_not_there_or_breaks_off_is_an_error() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::of(&config(gone)).unwrap().get("/").await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach {gone}"));
    for (answer, expected) in [
        ("", "broken"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "answer"),
    ] {
        let (address, _node) = node(None, answer).await;
        let kind = match Client::of(&config(address)).unwrap().get("/").await {
            Err(ClientError::Broken { .. }) => "broken",
            Err(ClientError::Answer { .. }) => "answer",
            other => panic!("{other:?}"),
        };
        assert_eq!(kind, expected, "{answer}");
    }
}
