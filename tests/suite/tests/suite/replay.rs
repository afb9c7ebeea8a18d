//! Replay beside the journey: a capture taken where a SIM lives, judged by `postern replay`, has the
//! verdicts that the SIM met.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
};

use lab::{Fetch, Question, Seen, Sim, Transport, places};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    stage::{BING, Family, LOGIN, address, assert_sealed, eventually, world},
    tool::{checker, postern, succeed},
};

/// What was met for one protocol and host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Met {
    verdict: String,
    times: u64,
}

/// By protocol and host.
type Journey = BTreeMap<(String, String), Met>;

#[test]
fn capture_of_a_journey_is_judged_as_the_journey_was() {
    let Some(tcpdump) = checker("tcpdump") else { return };
    let world = world();
    let sim = world.ue(1);
    let mut recorder = Recorder::start(tcpdump, sim);
    let mut journey = Journey::new();
    for place in places() {
        for family in Family::BOTH {
            ask(sim, place.name, family, &mut journey);
            let (http, https) = (Fetch::http, Fetch::https);
            let pages = [("http", http(place.name, family)), ("https", https(place.name, family))];
            for (protocol, page) in pages {
                let seen = sim.fetch(&page.at(place.address(family)));
                meet(&mut journey, protocol, place.name, verdict(place.name, &seen));
            }
        }
    }
    // The name decides, not the address: a closed one at an open one's, and the other way round.
    for family in Family::BOTH {
        let fetch = Fetch::https(BING, family).at(address(LOGIN, family));
        meet(&mut journey, "https", BING, verdict(BING, &sim.fetch(&fetch)));
        let fetch = Fetch::https(LOGIN, family).at(address(BING, family));
        meet(&mut journey, "https", LOGIN, verdict(LOGIN, &sim.fetch(&fetch)));
    }
    ask(sim, LAST, Family::V6, &mut journey);
    let capture = recorder.stop();

    let (rows, told) = replay(&world.policy_file(), &capture);
    assert_eq!(rows, journey, "{told:#}");
    for verdict in ["allow", "deny"] {
        for protocol in ["dns", "http", "https"] {
            let shown =
                journey.iter().any(|((of, _), met)| of == protocol && met.verdict == verdict);
            assert!(shown, "the journey has no {verdict} by {protocol}");
        }
    }
    assert_sealed(&world);
}

/// Asks for the addresses of `host` over UDP and TCP.
fn ask(sim: &Sim, host: &str, family: Family, journey: &mut Journey) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = sim.ask(&Question::address(host, family).over(transport));
        let given = answer.addresses().next().is_some();
        assert!(given || answer.is_denied(), "{host}: {answer}");
        let verdict = if given { "allow" } else { "deny" };
        meet(journey, "dns", host, verdict);
    }
}

/// The verdict a SIM can tell from what it saw.
#[track_caller]
fn verdict(host: &str, seen: &Seen) -> &'static str {
    match seen.host() {
        Some(answered) => {
            assert_eq!(answered, host);
            "allow"
        }
        None => {
            assert!(seen.is_refused_at_once(), "{host}: {seen}");
            "deny"
        }
    }
}

#[track_caller]
fn meet(journey: &mut Journey, protocol: &str, host: &str, verdict: &str) {
    let met = journey.entry((protocol.to_owned(), host.to_owned())).or_default();
    assert!(met.times == 0 || met.verdict == verdict, "{protocol} {host}: now {verdict}");
    met.verdict = verdict.to_owned();
    met.times += 1;
}

/// What `postern replay` makes of a capture.
fn replay(policy: &Path, capture: &Path) -> (Journey, Value) {
    let mut command = postern();
    command.args(["replay", "--format", "json", "--policy"]).arg(policy);
    let output = command.arg("--pcap").arg(capture).output().unwrap();
    // Something was denied.
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut rows = Journey::new();
    for row in told["rows"].as_array().unwrap() {
        assert_eq!(row["now"]["class"], "unprovisioned", "{row}");
        let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        let met =
            Met { verdict: word(&row["now"]["verdict"]), times: row["count"].as_u64().unwrap() };
        let old = rows.insert((word(&row["protocol"]), word(&row["host"])), met);
        assert_eq!(old, None, "two rows: {row}");
    }
    (rows, told)
}

/// tcpdump on the link of a SIM; killed with this value.
struct Recorder {
    child: Child,
    /// Kept open: tcpdump writes its sums to it at the end.
    said: Lines<BufReader<ChildStderr>>,
    folder: TempDir,
}

impl Recorder {
    fn start(mut tcpdump: Command, sim: &Sim) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Written as root, or it could not write to the folder; the buffer, in KiB, holds it all.
        tcpdump.args(["-i", "eth0", "-n", "-B", "16384", "-U", "-Z", "root", "-w"]);
        tcpdump.arg(folder.path().join(CAPTURE)).stderr(Stdio::piped()).stdin(Stdio::null());
        let mut child = sim.namespace().call(move || tcpdump.spawn()).unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut recorder = Self { child, said, folder };
        let listens = recorder.said.any(|line| line.unwrap().contains("listening on"));
        assert!(listens, "tcpdump does not listen");
        recorder
    }

    /// Waits for the last question of the journey, then ends the recording in order; the capture.
    fn stop(&mut self) -> PathBuf {
        let capture = self.folder.path().join(CAPTURE);
        // In a question each label has its length before it.
        let label = LAST.split('.').next().unwrap();
        let mark = [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
        eventually("the last question is recorded", || {
            let octets = fs::read(&capture).unwrap();
            // Question and answer, over UDP and TCP.
            let times = octets.windows(mark.len()).filter(|part| **part == *mark).count();
            (times >= 4).then_some(())
        });
        succeed(Command::new("kill").args(["-INT", &self.child.id().to_string()]));
        let sums: Vec<String> = self.said.by_ref().map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success(), "{sums:?}");
        let is_whole = sums.iter().any(|sum| sum == "0 packets dropped by kernel");
        assert!(is_whole, "the recording has holes: {sums:?}");
        capture
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asked for last; listed nowhere.
const LAST: &str = "the-last-one.example";
const CAPTURE: &str = "journey.pcap";
