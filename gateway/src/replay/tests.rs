//! Captures of real clients, captures bent at every joint, and the bounds.

mod files;
mod limits;
mod made;

use std::collections::BTreeMap;

use super::*;

/// What a capture asks, each with how often, and what was not judged.
struct Found {
    asked: BTreeMap<String, u32>,
    notes: Notes,
    error: Option<CaptureError>,
}

impl Found {
    fn names(&self) -> Vec<&str> {
        self.asked.keys().map(String::as_str).collect()
    }
}

fn read(capture: &[u8]) -> Found {
    read_within(capture, ReaderLimits::default())
}

fn read_within(capture: &[u8], limits: ReaderLimits) -> Found {
    let mut reader = Reader::new(limits);
    let mut asked = BTreeMap::new();
    let mut take = |reader: &mut Reader| {
        for Sighting { subscriber, asked: Asked { protocol, host, port } } in reader.sightings() {
            let host = match host {
                Host::Name(host) => host.to_string(),
                Host::Missing(reason) => format!("-{reason}"),
            };
            let line = format!("{subscriber} {} {host} {port}", protocol.label());
            *asked.entry(line).or_default() += 1;
        }
    };
    let mut error = None;
    match Frames::new(capture) {
        Err(fault) => error = Some(fault),
        Ok(mut frames) => loop {
            match frames.next() {
                Ok(Some(frame)) => reader.take(frame),
                Ok(None) => break,
                Err(fault) => {
                    error = Some(fault);
                    break;
                }
            }
            take(&mut reader);
        },
    }
    reader.finish();
    take(&mut reader);
    let notes = reader.notes().clone();
    Found { asked, notes, error }
}
