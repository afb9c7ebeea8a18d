//! `postern replay`.

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ipnet::IpNet;
use jiff::Timestamp;
use policy::Policy;
use serde_json::{Value, json};

use super::policies::{check_class, compile};
use crate::{
    clock,
    replay::{self, Change, Frames, LogLines, Note, Notes, Reader, Row, Tally},
    report,
};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern replay --policy policy.toml --pcap garden.pcap
  postern replay --policy policy.toml --against new.toml --pcap monday.pcapng --pcap tuesday.pcapng
  postern replay --policy policy.toml --against new.toml --log decisions.jsonl --format json

Reads pcap and pcapng: DNS questions, every HTTP/1 request, TLS and QUIC server names. Subscribers
are told by their source address, in a log by their pseudonym.

Exit codes: 0 nothing denied, or with --against no verdict differs; 1 otherwise; 2 could not run, or
an input could not be read to its end: what came before is judged all the same.")]
pub(super) struct ReplayCommand {
    /// The policy.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Another policy to compare it with.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    inputs: Inputs,
    /// Take everybody to be of this class, instead of that of their address or of the log.
    #[arg(long)]
    class: Option<String>,
    /// Only what these networks ask; may be given several times.
    #[arg(long, value_name = "NETWORK")]
    from: Vec<IpNet>,
    /// The time at which it is judged; now, unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Inputs {
    /// A capture; `-` is standard input; may be given several times, in order of time.
    #[arg(long, value_name = "FILE")]
    pcap: Vec<PathBuf>,
    /// A decision log; `-` is standard input; may be given several times.
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

/// What was read of one input.
struct Input {
    name: String,
    kind: &'static str,
    octets: u64,
    /// Packets or lines.
    items: u64,
    bad_lines: Vec<u64>,
    /// Why it was not read to its end.
    fault: Option<String>,
}

pub(super) fn run(command: ReplayCommand) -> ExitCode {
    match replay(&command, &mut io::stdout().lock()) {
        Ok(code) => code,
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

fn replay(command: &ReplayCommand, out: &mut impl Write) -> Result<ExitCode, String> {
    let at = command.at.unwrap_or_else(clock::now);
    let now = compile(&command.policy, at)?;
    let candidate = command.against.as_deref().map(|path| compile(path, at)).transpose()?;
    let class = command.class.as_deref();
    for policy in [Some(&now), candidate.as_ref()].into_iter().flatten() {
        check_class(policy, class)?;
    }
    let limits = replay::TallyLimits::default();
    let mut tally = Tally::new(&now, candidate.as_ref(), class, at, limits);
    let mut inputs = Vec::new();
    let mut reader = Reader::new(replay::ReaderLimits::default());
    for path in &command.inputs.pcap {
        inputs.push(read_capture(path, &mut reader, &mut tally, &command.from)?);
    }
    reader.finish();
    tell(&mut reader, &mut tally, &command.from);
    tally.add_notes(reader.notes());
    for path in &command.inputs.log {
        inputs.push(read_log(path, &mut tally)?);
    }
    let (rows, notes) = tally.into_rows();

    let is_cut = inputs.iter().any(|input| input.fault.is_some());
    let differs = match candidate {
        Some(_) => rows.iter().any(|row| row.change() != Change::None),
        None => rows.iter().any(Row::is_denied),
    };
    let outcome = match (is_cut, differs, &candidate) {
        (true, _, _) => "incomplete",
        (false, true, Some(_)) => "different",
        (false, true, None) => "denied",
        (false, false, Some(_)) => "equal",
        (false, false, None) => "allowed",
    };
    let written = match command.format {
        Format::Text => write!(out, "{}", replay::text(&rows, &notes)),
        Format::Json => {
            let (rows, notes) = replay::json(&rows, &notes);
            let value = json!({
                "format_version": 1,
                "outcome": outcome,
                "truncated": is_cut,
                "at": at.to_string(),
                "policy": policy_json(&now),
                "against": candidate.as_ref().map(policy_json),
                "inputs": inputs.iter().map(Input::json).collect::<Vec<_>>(),
                "rows": rows,
                "not_judged": notes,
            });
            writeln!(out, "{value:#}")
        }
    };
    written.and_then(|()| out.flush()).map_err(|error| format!("error: cannot write: {error}"))?;
    for input in &inputs {
        input.complain();
    }
    Ok(ExitCode::from(if is_cut { 2 } else { u8::from(differs) }))
}

fn read_capture(
    path: &Path,
    reader: &mut Reader,
    tally: &mut Tally<'_>,
    from: &[IpNet],
) -> Result<Input, String> {
    let (input, bar) = open(path)?;
    let name = path.display().to_string();
    let (mut packets, mut octets, mut fault) = (0_u64, 0, None);
    match Frames::new(input) {
        // A file that is no capture at all is a mistake in the call.
        Err(error @ replay::CaptureError::Format) => return Err(format!("error: {name}: {error}")),
        Err(error) => fault = Some(report::with_causes(&error)),
        Ok(mut frames) => {
            loop {
                match frames.next() {
                    Ok(Some(frame)) => reader.take(frame),
                    Ok(None) => break,
                    Err(error) => {
                        fault = Some(report::with_causes(&error));
                        break;
                    }
                }
                packets += 1;
                tell(reader, tally, from);
                if packets.is_multiple_of(PACKETS_A_STEP) {
                    bar.set_position(u64::try_from(frames.position()).unwrap_or(u64::MAX));
                }
            }
            octets = u64::try_from(frames.position()).unwrap_or(u64::MAX);
        }
    }
    bar.finish_and_clear();
    Ok(Input { name, kind: "pcap", octets, items: packets, bad_lines: Vec::new(), fault })
}

/// Hands on what was asked.
fn tell(reader: &mut Reader, tally: &mut Tally<'_>, from: &[IpNet]) {
    let mut outside = Notes::default();
    for sighting in reader.sightings() {
        let subscriber = sighting.subscriber;
        if from.is_empty() || from.iter().any(|network| network.contains(&subscriber)) {
            tally.add(subscriber, sighting.asked);
        } else {
            outside.add(Note::Outside);
        }
    }
    if outside != Notes::default() {
        tally.add_notes(&outside);
    }
}

fn read_log(path: &Path, tally: &mut Tally<'_>) -> Result<Input, String> {
    let (input, bar) = open(path)?;
    let name = path.display().to_string();
    let mut lines = LogLines::new(BufReader::with_capacity(READ_OCTETS, input));
    let (mut decisions, mut fault) = (0_u64, None);
    loop {
        match lines.next() {
            Ok(Some(line)) => {
                tally.add_logged(line.who, &line.class, line.asked, line.verdict);
                decisions += 1;
            }
            Ok(None) => break,
            Err(error) => {
                fault = Some(format!("cannot read at offset {}: {error}", lines.position()));
                break;
            }
        }
        if decisions.is_multiple_of(PACKETS_A_STEP) {
            bar.set_position(lines.position());
        }
    }
    bar.finish_and_clear();
    let (bad, numbers) = lines.bad();
    if decisions == 0 && bad > 0 {
        return Err(format!(
            "error: {name}: not a decision log: none of {bad} lines is a decision"
        ));
    }
    let mut notes = Notes::default();
    notes.add_many(Note::BadLine, bad);
    notes.add_many(Note::MissingLine, lines.missing());
    tally.add_notes(&notes);
    let (octets, items, bad_lines) = (lines.position(), lines.count(), numbers.to_vec());
    Ok(Input { name, kind: "log", octets, items, bad_lines, fault })
}

/// Opens an input, with a progress bar if somebody is looking.
pub(super) fn open(path: &Path) -> Result<(Box<dyn Read>, ProgressBar), String> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), ProgressBar::hidden()));
    }
    let cannot = |error| format!("error: cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(cannot)?;
    let facts = file.metadata().map_err(cannot)?;
    if facts.is_dir() {
        return Err(cannot(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let bar = if io::stderr().is_terminal() && facts.is_file() {
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}");
        let bar = ProgressBar::new(facts.len());
        style.map_or_else(|_| ProgressBar::hidden(), |style| bar.with_style(style))
    } else {
        ProgressBar::hidden()
    };
    Ok((Box::new(file), bar))
}

impl Input {
    fn json(&self) -> Value {
        json!({
            "file": self.name,
            "kind": self.kind,
            "octets": self.octets,
            "items": self.items,
            "bad_lines": self.bad_lines,
            "truncated": self.fault.is_some(),
            "fault": self.fault,
        })
    }

    fn complain(&self) {
        if !self.bad_lines.is_empty() {
            let numbers: Vec<String> = self.bad_lines.iter().map(u64::to_string).collect();
            let numbers = numbers.join(", ");
            report::complain(&format!("warning: {}: no decision in line {numbers}", self.name));
        }
        if let Some(fault) = &self.fault {
            let what = if self.kind == "log" { "lines" } else { "packets" };
            report::complain(&format!(
                "error: {}: {fault}; the {} {what} before it are judged",
                self.name, self.items
            ));
        }
    }
}

fn policy_json(policy: &Policy) -> Value {
    json!({
        "name": policy.name(),
        "serial": policy.serial(),
        "sha256": policy.sha256().to_string(),
    })
}

/// Packets or lines between two looks at the progress bar.
const PACKETS_A_STEP: u64 = 8_192;
/// Octets of a log read at once.
const READ_OCTETS: usize = 1 << 18;

#[cfg(test)]
mod tests;
