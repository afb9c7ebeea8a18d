//! Subscribers that have moved as many bytes as their class allows for the day.

use policy::{Reason, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Bench, LISTED, Origin, Terms, all, limits, within};

/// What a test's class allows, in bytes.
const LIMIT: f64 = 100_000.0;
/// What one session may have in its buffers when the limit is reached.
const OVERSHOOT: f64 = 2.0 * 64.0 * 1024.0;

#[tokio::test]
async fn cuts_every_session_of_the_subscriber_and_refuses_new_ones_until_the_next_day() {
    let origin = Origin::start().await;
    let terms = limited(origin.address.port());
    let bench = Bench::with(&terms, limits());
    let mut busy = within(bench.tls(LISTED, &origin)).await.unwrap();
    let mut idle = within(bench.tls(LISTED, &origin)).await.unwrap();
    let flood = async {
        let mut echo = vec![0; 8 * 1024];
        while busy.write_all(&echo).await.is_ok() && busy.read_exact(&mut echo).await.is_ok() {}
    };
    within(flood).await;
    // The idle one is cut as well.
    within(idle.read(&mut [0])).await.unwrap_or_default();
    bench.settled().await;
    let moved = bench.metric("postern_session_bytes_total", &[]);
    assert!((LIMIT..LIMIT + OVERSHOOT).contains(&moved), "{moved}");
    assert_eq!(bench.outcomes("https", "policy-exhausted"), 2.0);
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::Limit)));
    assert_eq!(bench.metric("postern_metered_subscribers", &[]), 1.0);

    let refused = async |told: usize| {
        assert!(within(bench.tls(LISTED, &origin)).await.is_err());
        if let Ok(mut stream) = TcpStream::connect(bench.http).await {
            assert!(all(&mut stream).await.is_empty());
        }
        assert_eq!(bench.judge.count(), told + 2, "each is recorded");
        assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::Limit)));
    };
    refused(bench.judge.count()).await;
    let snapshot = bench.judge.publish(&terms, 2);
    bench.sessions.rejudge(&snapshot, &*bench.judge);
    refused(bench.judge.count()).await;

    bench.judge.sleep_over_it();
    within(bench.tls(LISTED, &origin)).await.unwrap();
}

#[tokio::test]
async fn cuts_a_response_and_an_upload_over_http() {
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {LISTED}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {LISTED}\r\nContent-Length: 10000000\r\n\r\n"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bench = Bench::with(&limited(listener.local_addr().unwrap().port()), limits());
        let mut origin = JoinSet::new();
        let is_upload = request.starts_with("POST");
        origin.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut from, mut to) = stream.split();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n";
            to.write_all(answer.as_bytes()).await.unwrap();
            let mut swallow = vec![0; 64 * 1024];
            loop {
                tokio::select! {
                    read = from.read(&mut swallow) => if read.unwrap_or_default() == 0 { return },
                    written = to.write(&[0; 1024]), if !is_upload => if written.is_err() { return },
                }
            }
        });
        let mut client = TcpStream::connect(bench.http).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut from, mut to) = client.split();
        let ending = async {
            let mut got = vec![0; 64 * 1024];
            while from.read(&mut got).await.is_ok_and(|length| length > 0) {}
        };
        let uploading = async {
            while is_upload && to.write_all(&[0; 1024]).await.is_ok() {}
            std::future::pending::<()>().await
        };
        within(async {
            tokio::select! { () = ending => {}, () = uploading => {} }
        })
        .await;
        bench.settled().await;
        let moved = bench.metric("postern_session_bytes_total", &[]);
        assert!((LIMIT..LIMIT + OVERSHOOT).contains(&moved), "{moved}");
        assert_eq!(bench.outcomes("http", "policy-exhausted"), 1.0);
        let labels = [("direction", "to-origin")];
        let up = bench.metric("postern_session_bytes_total", &labels);
        assert_eq!(up > 1_000.0, is_upload, "{up}");
    }
}

#[tokio::test]
async fn a_limit_that_comes_with_a_policy_counts_what_was_moved_before() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut session = within(bench.tls(LISTED, &origin)).await.unwrap();
    let mut echo = vec![0; 60_000];
    let exchange = async {
        session.write_all(&echo).await.unwrap();
        session.read_exact(&mut echo).await.unwrap();
    };
    within(exchange).await;
    let snapshot = bench.judge.publish(&limited(origin.address.port()), 2);
    assert_eq!(bench.sessions.rejudge(&snapshot, &*bench.judge), 1);
    within(session.read(&mut [0])).await.unwrap_or_default();
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "policy-exhausted"), 1.0);
    assert!(within(bench.tls(LISTED, &origin)).await.is_err());
}

fn limited(origin_port: u16) -> Terms {
    Terms { bytes_per_day: Some("100kB"), ..Terms::new(origin_port) }
}
