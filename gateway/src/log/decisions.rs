//! The decision log: one JSON line a judgement, denials always, allows sampled.
//!
//! Never waits for the disk on the traffic's path: what the writer cannot keep up with is left out,
//! counted, and marked by a line that says how much is missing.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use jiff::Timestamp;
use policy::{Record, Verdict};
use prometheus::{IntCounter, Registry};
use serde::Serialize;

use super::{LogError, Pseudonyms, append};

/// The open decision log.
#[derive(Debug)]
pub(crate) struct DecisionLog {
    /// `None` once the log is closing.
    lines: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
    pseudonyms: Pseudonyms,
    node: String,
    allow_sample: u64,
    allows: AtomicU64,
    missing: AtomicU64,
    dropped: IntCounter,
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    node: &'a str,
    protocol: &'static str,
    class: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriber: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    verdict: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// What a page of ours calls itself by, where the judgement was one of the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    missing_before: u64,
}

impl DecisionLog {
    /// Opens the log at `path` and starts its writer.
    pub(crate) fn open(
        path: &Path,
        node: &str,
        allow_sample: u32,
        pseudonyms: Pseudonyms,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
        let file = append(path)?;
        let dropped =
            IntCounter::new(DROPPED, "Judgements that the decision log could not keep up with.")?;
        registry.register(Box::new(dropped.clone()))?;
        let (lines, queue) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("decision-log".into())
            .spawn(move || write_lines(file, &queue))
            .map_err(|source| LogError::Open { path: path.to_owned(), source })?;
        Ok(Self {
            lines: Some(lines),
            writer: Some(writer),
            pseudonyms,
            node: node.to_owned(),
            allow_sample: u64::from(allow_sample.max(1)),
            allows: AtomicU64::new(0),
            missing: AtomicU64::new(0),
            dropped,
        })
    }

    /// Writes `record` down, unless it is an allow that the sample leaves out.
    pub(crate) fn write(&self, record: &Record<'_>, now: Timestamp) {
        if record.verdict == Verdict::Allow
            && !self.allows.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.allow_sample)
        {
            return;
        }
        let missing_before = self.missing.swap(0, Ordering::Relaxed);
        let line = Line {
            time: now,
            node: &self.node,
            protocol: record.protocol,
            class: record.class,
            subscriber: record.subscriber.address().map(|address| self.pseudonyms.of(address)),
            host: record.host.map(policy::HostName::as_str),
            port: record.destination.as_ref().map(SocketAddr::port),
            verdict: record.verdict.label(),
            reason: record.reason.label(),
            rule: record.rule.map(|rule| rule.place().to_string()),
            policy: record.snapshot.map(|snapshot| snapshot.policy().name()),
            serial: record.snapshot.map(|snapshot| snapshot.policy().serial()),
            generation: record.snapshot.map(policy::Snapshot::generation),
            id: record.session.map(session_id),
            missing_before,
        };
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        let kept = self.lines.as_ref().is_some_and(|lines| lines.try_send(text).is_ok());
        if !kept {
            self.missing.fetch_add(missing_before + 1, Ordering::Relaxed);
            self.dropped.inc();
        }
    }
}

/// The number of a session as it is written for people: in the log, and on the page that a
/// subscriber reads to somebody who has the log.
pub(crate) fn session_id(number: u64) -> String {
    format!("{number:010x}")
}

impl Drop for DecisionLog {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

fn write_lines(mut file: File, queue: &Receiver<Vec<u8>>) {
    while let Ok(mut block) = queue.recv() {
        while let Some(line) = queue.try_recv().ok().filter(|_| block.len() < BLOCK) {
            block.extend_from_slice(&line);
        }
        if let Err(error) = file.write_all(&block) {
            tracing::error!(%error, "decision log cannot be written");
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Lines that may wait for the disk.
const QUEUE: usize = 8192;
/// Octets written at once.
const BLOCK: usize = 64 * 1024;
/// Judgements that were left out of the log.
const DROPPED: &str = "postern_decision_log_dropped_total";

#[cfg(test)]
mod tests {
    use policy::{Reason, Subscriber};

    use super::*;

    fn record(subscriber: &Subscriber, verdict: Verdict) -> Record<'_> {
        Record { verdict, ..Record::denied(subscriber, "https", Reason::NoSni, None, None) }
    }

    #[test]
    fn keeps_every_denial_and_a_sample_of_allows_and_no_address() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = DecisionLog::open(
            file.path(),
            "edge-1",
            10,
            Pseudonyms::new(None).unwrap(),
            &Registry::new(),
        )
        .unwrap();
        let subscriber = Subscriber::at("100.64.0.9".parse().unwrap());
        for _ in 0..30 {
            log.write(&record(&subscriber, Verdict::Deny), Timestamp::UNIX_EPOCH);
            log.write(&record(&subscriber, Verdict::Allow), Timestamp::UNIX_EPOCH);
        }
        drop(log);
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.matches("\"verdict\":\"deny\"").count(), 30);
        assert_eq!(text.matches("\"verdict\":\"allow\"").count(), 3);
        assert!(!text.contains("100.64.0.9"), "{text}");
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
