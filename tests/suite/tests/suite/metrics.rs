//! METRICS.md says what a running gateway exports, no more and no less.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use crate::{node::Node, repository::text};

/// One metric, as documented or as exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    meaning: String,
}

/// Scrapes until a metric that needs traffic is there; each takes a round trip on loopback.
const SCRAPES_MAX: usize = 5_000;

#[test]
fn document_equals_the_registry() {
    let node = Node::start();
    node.use_everything();
    let documented = documented();
    let mut exported = BTreeMap::new();
    for _ in 0..SCRAPES_MAX {
        exported = parse(&node.scrape());
        if documented.keys().all(|name| exported.contains_key(name)) {
            break;
        }
    }
    let rows: String = exported.iter().map(|(name, metric)| metric.row(name)).collect();
    assert!(documented == exported, "deploy/METRICS.md should hold these rows:\n{rows}");
}

#[test]
fn label_values_name_nobody() {
    let node = Node::start();
    node.use_everything();
    let scraped = node.scrape();
    for secret in ["127.0.0.1", "login.live.com", "www.bing.com"] {
        assert!(!scraped.contains(secret), "{secret} is in the metrics");
    }
}

#[test]
fn every_reason_is_documented() {
    let document = text("deploy/METRICS.md");
    for reason in policy::Reason::ALL {
        assert!(document.contains(&format!("`{reason}`")), "{reason} is not in METRICS.md");
    }
}

/// The table of METRICS.md.
pub(crate) fn documented() -> BTreeMap<String, Metric> {
    text("deploy/METRICS.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `postern_"))
        .map(|row| {
            let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
            let [name, kind, labels, meaning] = cells[..] else { panic!("not four cells: {row}") };
            let labels = labels
                .split(", ")
                .filter(|label| *label != "–")
                .map(|label| label.trim_matches('`').to_owned())
                .collect();
            let name = format!("postern_{}", name.trim_end_matches('`'));
            (name, Metric { kind: kind.to_owned(), labels, meaning: meaning.to_owned() })
        })
        .collect()
}

impl Metric {
    fn row(&self, name: &str) -> String {
        let labels: Vec<String> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        format!("| `{name}` | {} | {labels} | {} |\n", self.kind, self.meaning)
    }
}

/// Our metrics in the exposition format of Prometheus: names, types, labels and help.
fn parse(scraped: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut last = String::new();
    for line in scraped.lines() {
        if let Some((name, help)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            metrics.entry(name.to_owned()).or_default().meaning = help.to_owned();
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            last = name.to_owned();
            metrics.entry(last.clone()).or_default().kind = kind.to_owned();
        } else if let Some((labels, _)) =
            line.split_once('{').and_then(|(_, rest)| rest.split_once('}'))
        {
            let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0));
            let metric = metrics.get_mut(&last).expect("a sample follows its type");
            // A histogram's own label is part of its type.
            metric.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    metrics.retain(|name, _| name.starts_with("postern_"));
    metrics
}

impl Node {
    /// Traffic of every kind, so that no metric waits for its first label.
    fn use_everything(&self) {
        for host in ["www.bing.com", "login.live.com"] {
            let question = question(host);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(&question, self.dns()).unwrap();
            let mut answer = [0; 1500];
            assert!(socket.recv(&mut answer).unwrap() >= 12, "an answer to {host}");

            let length = u16::try_from(question.len()).unwrap().to_be_bytes();
            assert!(!exchange(self.dns(), &[&length[..], &question].concat()).is_empty());

            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            assert!(!exchange(self.http(), request.as_bytes()).is_empty());
        }
        exchange(self.https(), b"GET / HTTP/1.1\r\n\r\n");
    }
}

/// Sends `bytes`, and reads what comes until the far side closes or is silent.
fn exchange(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).unwrap_or(0);
    answer.truncate(length);
    answer
}

/// A question for the addresses of `host` (RFC 1035 section 4.1).
fn question(host: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// Longer than the gateway's own limit on an upstream.
const PATIENCE: Duration = Duration::from_secs(20);
