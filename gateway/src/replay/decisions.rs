//! The decision log, read back line by line.
//!
//! Logs are rotated, joined and cut; a line that is no decision is counted with its number, and
//! the rest is read.

use std::{
    borrow::Cow,
    io::{self, BufRead, Read},
};

use jiff::Timestamp;
use policy::{HostName, Reason, Verdict};
use serde::Deserialize;

use super::{Asked, Protocol, tally::Who};

/// The lines of one log.
#[derive(Debug)]
pub(crate) struct LogLines<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    octets: u64,
    bad: Vec<u64>,
    bad_count: u64,
    missing: u64,
}

/// One decision as it was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) time: Timestamp,
    pub(crate) class: Box<str>,
    pub(crate) who: Who,
    pub(crate) asked: Asked,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    /// Where the host entry was written that decided, or came nearest.
    pub(crate) rule: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    time: Timestamp,
    protocol: Cow<'a, str>,
    class: Cow<'a, str>,
    subscriber: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    port: Option<u16>,
    verdict: Cow<'a, str>,
    reason: Cow<'a, str>,
    rule: Option<Cow<'a, str>>,
    #[serde(default)]
    missing_before: u64,
}

impl<R: BufRead> LogLines<R> {
    pub(crate) fn new(input: R) -> Self {
        let (line, bad) = (Vec::new(), Vec::new());
        Self { input, line, number: 0, octets: 0, bad, bad_count: 0, missing: 0 }
    }

    /// The next decision; `None` at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(crate) fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if !self.read_line()? {
                return Ok(None);
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Raw<'_>>(&self.line).ok().and_then(Raw::check) {
                Some((line, missing)) => {
                    self.missing = self.missing.saturating_add(missing);
                    return Ok(Some(line));
                }
                None => {
                    self.bad_count += 1;
                    if self.bad.len() < MAX_BAD_NUMBERS {
                        self.bad.push(self.number);
                    }
                }
            }
        }
    }

    /// Octets read.
    pub(crate) fn position(&self) -> u64 {
        self.octets
    }

    /// Lines read.
    pub(crate) fn count(&self) -> u64 {
        self.number
    }

    /// Lines that are no decisions: how many, and the numbers of the first, from 1.
    pub(crate) fn bad(&self) -> (u64, &[u64]) {
        (self.bad_count, &self.bad)
    }

    /// Decisions that the log says were left out of it.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// Reads a line; of one that is too long, only its start, which is then no decision.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let most = u64::try_from(MAX_LINE_OCTETS).unwrap_or(u64::MAX);
        let mut read = self.input.by_ref().take(most).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        if read == MAX_LINE_OCTETS && !self.line.ends_with(b"\n") {
            read += self.input.skip_until(b'\n')?;
        }
        self.octets = self.octets.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(true)
    }
}

impl Raw<'_> {
    fn check(self) -> Option<(LogLine, u64)> {
        let protocol = Protocol::parse(&self.protocol)?;
        let verdict = [Verdict::Allow, Verdict::Deny, Verdict::Observe]
            .into_iter()
            .find(|verdict| verdict.label() == self.verdict)?;
        let reason = Reason::ALL.into_iter().find(|reason| reason.label() == self.reason)?;
        let port = match protocol {
            // The resolver may listen elsewhere; a question has no port of its own.
            Protocol::Dns => protocol.usual_port(),
            Protocol::Http | Protocol::Https | Protocol::Quic | Protocol::Tcp | Protocol::Udp => {
                self.port.unwrap_or_else(|| protocol.usual_port())
            }
        };
        let asked = match self.host {
            Some(host) => Asked::named(protocol, HostName::parse(&host).ok()?, port),
            None => Asked::nameless(protocol, reason, port),
        };
        let who = self.subscriber.map_or(Who::Unknown, |name| Who::Pseudonym((&*name).into()));
        let line = LogLine {
            time: self.time,
            class: (&*self.class).into(),
            who,
            asked,
            verdict,
            reason,
            rule: self.rule.map(|rule| (&*rule).into()),
        };
        Some((line, self.missing_before))
    }
}

/// Octets of one line; the longest that is written has about 1,000.
const MAX_LINE_OCTETS: usize = 64 * 1024;
/// Numbers of bad lines that are told.
const MAX_BAD_NUMBERS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"time":"2026-11-23T10:00:00Z","node":"edge-1","protocol":"https","class":"unprovisioned","subscriber":"ab","host":"www.bing.com","port":443,"verdict":"deny","reason":"not-listed","policy":"p","serial":1,"generation":1}"#;

    #[test]
    fn reads_decisions_and_numbers_what_is_none() {
        let mut long = GOOD.replace("edge-1", &"x".repeat(MAX_LINE_OCTETS));
        long.push('\n');
        let wrong = [("deny", "perhaps"), ("not-listed", "whim"), ("www.bing.com", "www..com")];
        let wrong: String =
            wrong.iter().map(|(from, to)| format!("{}\n", GOOD.replace(from, to))).collect();
        let nameless =
            GOOD.replace(r#""host":"www.bing.com","#, "").replace("not-listed", "no-sni");
        let text = format!("{GOOD}\n\n{long}{wrong}{nameless}\r\nnot json\n{}", &GOOD[..50]);
        let mut lines = LogLines::new(text.as_bytes());
        let first = lines.next().unwrap().unwrap();
        let host = HostName::parse("www.bing.com").unwrap();
        assert_eq!(first.asked, Asked::named(Protocol::Https, host, 443));
        assert_eq!(first.who, Who::Pseudonym("ab".into()));
        let second = lines.next().unwrap().unwrap();
        assert_eq!(second.asked, Asked::nameless(Protocol::Https, Reason::NoSni, 443));
        assert_eq!(lines.next().unwrap(), None);
        assert_eq!(lines.bad(), (6, &[3, 4, 5, 6, 8, 9][..]));
        assert_eq!((lines.count(), lines.position()), (9, text.len() as u64));
    }
}
