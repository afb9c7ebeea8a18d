//! Port 80 from a raw client through the proxy to a raw origin, on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex},
};

use policy::Verdict;
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet};

use super::*;
use crate::proxy::{
    Limits,
    tests::{Bench, DEAD, DENIED, GUARDED, HTTPS_ONLY, LISTED, Terms, all, limits, within},
};

#[tokio::test]
async fn carries_an_allowed_request_with_path_and_host_unchanged() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let answer = ask(&bench, &get(LISTED, "/a%2Fb/../c?d=%20")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let head = origin.heads().pop().unwrap();
    assert!(head.starts_with("GET /a%2Fb/../c?d=%20 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nHost: {LISTED}\r\n")), "{head}");
    assert!(answer.ends_with("request 1"), "{answer}");
    bench.settled().await;
    assert_eq!(bench.judge.last(), Some((Verdict::Allow, Reason::Listed)));
    assert_eq!(bench.outcomes("http", "finished"), 1.0);
}

#[tokio::test]
async fn refuses_the_second_request_of_a_connection_for_a_denied_host() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut client = Client::connect(&bench).await;
    client.send(&keep_alive(LISTED)).await;
    assert!(client.response().await.ends_with("request 1"));
    client.send(&keep_alive(DENIED)).await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
    assert_eq!(origin.heads().len(), 1);
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::NotListed)));
}

#[tokio::test]
async fn each_request_of_a_connection_has_an_origin_connection_of_its_own() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut client = Client::connect(&bench).await;
    for number in 1..=3 {
        client.send(&keep_alive(LISTED)).await;
        let answer = client.response().await;
        assert!(answer.ends_with(&format!("request {number}")), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    }
    assert_eq!(origin.connections(), 3);
    let finished = [("outcome", "finished")];
    bench.until(|| bench.metric("postern_http_requests_total", &finished) == 3.0).await;
}

#[tokio::test]
async fn pipelined_requests_are_judged_one_by_one() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut client = Client::connect(&bench).await;
    let body = format!("POST / HTTP/1.1\r\nHost: {LISTED}\r\nContent-Length: 5\r\n\r\nGET /");
    let both = [keep_alive(LISTED), body, keep_alive(DENIED), keep_alive(LISTED)].concat();
    client.send(&both).await;
    assert!(client.response().await.ends_with("request 1"));
    assert!(client.response().await.ends_with("request 2"));
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
    assert_eq!(origin.heads().len(), 2);
}

#[tokio::test]
async fn octets_behind_a_chunked_body_never_reach_an_origin() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let smuggled = format!(
        "POST / HTTP/1.1\r\nHost: {LISTED}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
        keep_alive(DENIED)
    );
    ask(&bench, &smuggled).await;
    for head in origin.heads() {
        assert!(!head.contains(DENIED), "{head}");
    }
    bench.settled().await;
    assert!(origin.heads().len() <= 1);
}

#[tokio::test]
async fn denial_speaks_as_the_policy_says() {
    let origin = Origin::start().await;
    for (http, start) in
        [("redirect", "HTTP/1.1 302 Found\r\n"), ("511", "HTTP/1.1 511 "), ("close", "")]
    {
        let terms = Terms { http, ..Terms::new(origin.address.port()) };
        let bench = Bench::with(&terms, limits());
        let answer = ask(&bench, &get(DENIED, "/")).await;
        assert!(answer.starts_with(start), "{http}: {answer}");
        assert_eq!(answer.is_empty(), start.is_empty(), "{http}: {answer}");
        assert_eq!(answer.contains(DENIED), http == "511", "{http}: {answer}");
    }
    assert!(origin.heads().is_empty());
}

#[tokio::test]
async fn refusals_have_their_status_and_reason() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let missing = "GET / HTTP/1.1\r\n\r\n".to_owned();
    let twice = format!("GET / HTTP/1.1\r\nHost: {LISTED}\r\nHost: {LISTED}\r\n\r\n");
    let other = format!("GET http://{DENIED}/ HTTP/1.1\r\nHost: {LISTED}\r\n\r\n");
    let connect = format!("CONNECT {LISTED}:80 HTTP/1.1\r\nHost: {LISTED}:80\r\n\r\n");
    let upgrade = format!("GET / HTTP/1.1\r\nHost: {LISTED}\r\nUpgrade: websocket\r\n\r\n");
    let big = format!("GET / HTTP/1.1\r\nHost: {LISTED}\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    for (request, status, reason) in [
        (missing, "400", Reason::NoHost),
        (twice, "400", Reason::BadHost),
        (other, "400", Reason::BadHost),
        (connect, "405", Reason::MethodNotAllowed),
        (upgrade, "405", Reason::MethodNotAllowed),
        (big, "431", Reason::Limit),
        (get("192.0.2.1", "/"), "302", Reason::IpLiteral),
        (get(HTTPS_ONLY, "/"), "302", Reason::SchemeNotListed),
        (get(GUARDED, "/"), "502", Reason::UpstreamAddressRefused),
        (get(DEAD, "/"), "502", Reason::Listed),
    ] {
        let answer = ask(&bench, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert_eq!(bench.judge.last().map(|(_, reason)| reason), Some(reason), "{request}");
    }
    assert!(origin.heads().is_empty());
}

#[tokio::test]
async fn garbage_and_other_versions_are_refused() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    for (garbage, status) in [
        ("\u{16}\u{3}\u{1}", "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ("hello\n", "400"),
    ] {
        let answer = ask(&bench, garbage).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{garbage:?}: {answer}");
    }
    bench.settled().await;
    assert_eq!(bench.outcomes("http", "subscriber-bad-request"), 3.0);
}

#[tokio::test]
async fn without_a_policy_everything_is_refused() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    bench.judge.withdraw();
    assert!(ask(&bench, &get(LISTED, "/")).await.starts_with("HTTP/1.1 503 "));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::NoPolicy)));
}

#[tokio::test]
async fn head_that_trickles_is_refused_at_the_deadline() {
    let origin = Origin::start().await;
    let header_time = Duration::from_millis(100);
    let bench = Bench::new(origin.address, Limits { header_time, ..limits() });
    let mut client = Client::connect(&bench).await;
    client.send("GET / HT").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::HelloTimeout)));
}

#[tokio::test]
async fn origin_may_not_invite_to_another_protocol() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {LISTED}\r\nConnection: close, Upgrade, HTTP2-Settings\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    );
    let answer = ask(&bench, &upgrade).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    assert!(!answer.contains("alt-svc") && !answer.contains("upgrade"), "{answer}");
    let head = origin.heads().pop().unwrap().to_ascii_lowercase();
    assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
}

#[tokio::test]
async fn absolute_form_for_the_host_itself_goes_out_as_a_path() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let request =
        format!("GET http://{LISTED}/x HTTP/1.1\r\nHost: {LISTED}\r\nConnection: close\r\n\r\n");
    assert!(ask(&bench, &request).await.starts_with("HTTP/1.1 200 "));
    let head = origin.heads().pop().unwrap();
    assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn bodies_of_both_kinds_arrive_whole() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let long = "z".repeat(200_000);
    let fixed = format!(
        "POST /fixed HTTP/1.1\r\nHost: {LISTED}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{long}",
        long.len()
    );
    assert!(ask(&bench, &fixed).await.ends_with("request 1"));
    let chunked = format!(
        "POST /chunked HTTP/1.1\r\nHost: {LISTED}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    assert!(ask(&bench, &chunked).await.ends_with("request 2"));
    assert_eq!(origin.bodies(), [long.len(), long.len()]);
}

#[tokio::test]
async fn probes_are_answered_or_redirected_as_the_class_says() {
    let origin = Origin::start().await;
    let probe = get("www.msftconnecttest.com", "/connecttest.txt");
    for (ncsi, start, end) in [
        ("answer", "HTTP/1.1 200 OK\r\n", "\r\n\r\nMicrosoft Connect Test"),
        ("redirect", "HTTP/1.1 302 Found\r\n", "\r\n\r\n"),
        // Any answer would be taken for a portal's.
        ("deny", "", ""),
    ] {
        let terms = Terms { ncsi, ..Terms::new(origin.address.port()) };
        let bench = Bench::with(&terms, limits());
        let answer = ask(&bench, &probe).await;
        assert!(answer.starts_with(start) && answer.ends_with(end), "{ncsi}: {answer}");
        assert_eq!(answer.is_empty(), start.is_empty(), "{ncsi}: {answer}");
        assert_eq!(bench.judge.last().map(|(_, reason)| reason), Some(Reason::Ncsi), "{ncsi}");
    }
    assert!(origin.heads().is_empty());
}

#[tokio::test]
async fn every_denial_of_a_class_that_redirects_leads_to_the_portal() {
    let origin = Origin::start().await;
    for http in ["511", "close", "redirect"] {
        let terms = Terms { ncsi: "redirect", http, ..Terms::new(origin.address.port()) };
        let bench = Bench::with(&terms, limits());
        for request in [
            get("www.msftconnecttest.com", "/connecttest.txt"),
            get("www.msftconnecttest.com", "/redirect"),
            get(DENIED, "/"),
            get(HTTPS_ONLY, "/"),
            get("192.0.2.1", "/"),
        ] {
            let answer = ask(&bench, &request).await;
            assert!(answer.starts_with("HTTP/1.1 302 Found\r\nLocation: https://"), "{answer}");
        }
    }
}

#[tokio::test]
async fn page_refers_to_the_session_by_what_the_log_calls_it() {
    let origin = Origin::start().await;
    let bench = Bench::with(&Terms { http: "511", ..Terms::new(origin.address.port()) }, limits());
    let [one, other] = [ask(&bench, &get(DENIED, "/")).await, ask(&bench, &get(DENIED, "/")).await];
    let id = |page: &str| {
        let (_, rest) = page.split_once("Reference: <code>").unwrap();
        rest.split_once("</code>").unwrap().0.to_owned()
    };
    assert_ne!(id(&one), id(&other));
    assert_eq!(bench.judge.last_session().map(session_id), Some(id(&other)));
}

#[tokio::test]
async fn publication_cuts_a_denied_response_and_frees_an_idle_connection() {
    let origin = Origin::start().await;
    let terms = Terms::new(origin.address.port());
    let bench = Bench::with(&terms, limits());
    let mut waiting = Client::connect(&bench).await;
    waiting.send(&get(LISTED, "/never")).await;
    let mut idle = Client::connect(&bench).await;
    idle.send(&keep_alive(LISTED)).await;
    idle.response().await;
    // A request is live a little longer than the client waits for its answer.
    let finished = [("outcome", "finished")];
    bench.until(|| bench.metric("postern_http_requests_total", &finished) == 1.0).await;
    bench.until(|| origin.heads().len() == 2).await;
    let narrower = bench.judge.publish(&Terms { listed: false, ..terms }, 2);
    assert_eq!(bench.sessions.rejudge(&narrower, &*bench.judge), 1);
    assert_eq!(waiting.rest().await, "");
    idle.send(&keep_alive(LISTED)).await;
    assert!(idle.rest().await.starts_with("HTTP/1.1 302 Found\r\n"));
}

#[tokio::test]
async fn stop_lets_a_response_end_and_closes_idle_connections() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut idle = Client::connect(&bench).await;
    idle.send(&keep_alive(LISTED)).await;
    idle.response().await;
    within(bench.stop()).await;
    assert_eq!(idle.rest().await, "");
}

#[tokio::test]
async fn ipv6_is_served_like_ipv4() {
    let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let origin = Origin::start_on(loopback).await;
    let bench = Bench::with(&Terms { loopback, ..Terms::new(origin.address.port()) }, limits());
    assert!(ask(&bench, &get(LISTED, "/")).await.ends_with("request 1"));
    assert!(ask(&bench, &get(DENIED, "/")).await.starts_with("HTTP/1.1 302 Found\r\n"));
}

/// One request on a connection of its own, and everything that comes back.
async fn ask(bench: &Bench, request: &str) -> String {
    let mut client = Client::connect(bench).await;
    client.send(request).await;
    client.rest().await
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

fn keep_alive(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn connect(bench: &Bench) -> Self {
        Self { stream: TcpStream::connect(bench.http).await.unwrap() }
    }

    async fn send(&mut self, octets: &str) {
        // A refusal may come, and the connection be closed, before everything was sent.
        let _ = within(self.stream.write_all(octets.as_bytes())).await;
    }

    async fn rest(&mut self) -> String {
        String::from_utf8(all(&mut self.stream).await).unwrap()
    }

    /// One response with a Content-Length.
    async fn response(&mut self) -> String {
        let mut response = Vec::new();
        loop {
            response.push(within(self.stream.read_u8()).await.unwrap());
            let text = String::from_utf8_lossy(&response);
            let Some((head, content)) = text.split_once("\r\n\r\n") else { continue };
            if content.len() == length(head) {
                return text.into_owned();
            }
        }
    }
}

/// An HTTP server that remembers what it was asked.
struct Origin {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    heads: Vec<String>,
    bodies: Vec<usize>,
}

impl Origin {
    async fn start() -> Self {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    async fn start_on(loopback: IpAddr) -> Self {
        let listener = TcpListener::bind((loopback, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        let books = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                books.lock().unwrap().connections += 1;
                connections.spawn(answer_all(stream, Arc::clone(&books)));
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().heads.clone()
    }

    fn bodies(&self) -> Vec<usize> {
        self.seen.lock().unwrap().bodies.iter().copied().filter(|length| *length > 0).collect()
    }

    fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }
}

async fn answer_all(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(octet) = stream.read_u8().await else { return };
            head.push(octet);
        }
        let head = String::from_utf8(head).unwrap();
        let length = if head.to_ascii_lowercase().contains("transfer-encoding") {
            chunks(&mut stream).await
        } else {
            let length = length(&head);
            stream.read_exact(&mut vec![0; length]).await.unwrap();
            length
        };
        let close = head.to_ascii_lowercase().contains("\r\nconnection: close\r\n");
        let (count, silent) = {
            let mut seen = seen.lock().unwrap();
            let silent = head.contains(" /never ");
            seen.heads.push(head);
            seen.bodies.push(length);
            (seen.heads.len(), silent)
        };
        if silent {
            let _ = stream.read_u8().await;
            return;
        }
        let content = format!("request {count}");
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nAlt-Svc: h3=\":443\"\r\n\
             Upgrade: h2c\r\nConnection: {}\r\n\r\n{content}",
            content.len(),
            if close { "close" } else { "keep-alive" }
        );
        if stream.write_all(response.as_bytes()).await.is_err() || close {
            return;
        }
    }
}

async fn chunks(stream: &mut TcpStream) -> usize {
    let mut total = 0;
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        let length = usize::from_str_radix(String::from_utf8(line).unwrap().trim(), 16).unwrap();
        stream.read_exact(&mut vec![0; length + 2]).await.unwrap();
        total += length;
        if length == 0 {
            return total;
        }
    }
}

fn length(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().map_or(0, |(_, length)| length.trim().parse().unwrap())
}
