//! The tools: how each is run, and what it found.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bench::network::{CLIENT, command};

use crate::stand::{Server, Stand, http_of, name};

/// One run of one tool.
pub(crate) enum Tool {
    /// A script of tlsfuzzer; with the name in every hello, or as it is.
    Fuzz {
        folder: PathBuf,
        script: &'static str,
        is_named: bool,
    },
    /// tldr.fail's test: a post-quantum hello in two writes.
    Tldr(PathBuf),
    Testssl,
    /// slowhttptest on port 80 while an honest client asks, too.
    Slow,
    Curl,
    Chromium,
}

/// What a run found, by the name of the check.
pub(crate) struct Found(BTreeMap<String, Check>);

struct Check {
    is_good: bool,
    said: String,
}

/// How two runs differ.
#[derive(Default)]
pub(crate) struct Difference {
    pub(crate) same: usize,
    /// The gateway ended what the server would have gone on with, or failed otherwise.
    pub(crate) refused: Vec<(String, String)>,
    pub(crate) hangs: Vec<String>,
    /// What nothing explains.
    pub(crate) other: Vec<(String, String)>,
}

impl Tool {
    pub(crate) fn all(folder: &Path) -> Vec<Self> {
        let fuzz = |script, is_named| Self::Fuzz { folder: folder.to_owned(), script, is_named };
        let mut all: Vec<_> = SCRIPTS
            .iter()
            .flat_map(|script| [true, false].map(|named| fuzz(*script, named)))
            .collect();
        all.extend([Self::Tldr(folder.to_owned())]);
        all.extend([Self::Testssl, Self::Slow, Self::Curl, Self::Chromium]);
        all
    }

    pub(crate) fn needs(&self) -> Server {
        match self {
            Self::Fuzz { .. } | Self::Tldr(_) => Server::OpenSsl,
            Self::Testssl | Self::Slow | Self::Curl | Self::Chromium => Server::Nginx,
        }
    }

    pub(crate) fn part(&self) -> &'static str {
        match self {
            Self::Fuzz { .. } => "tlsfuzzer",
            Self::Tldr(_) => "tldr",
            Self::Testssl => "testssl",
            Self::Slow => "slow",
            Self::Curl | Self::Chromium => "clients",
        }
    }

    pub(crate) fn title(&self) -> String {
        match self {
            Self::Fuzz { script, is_named: true, .. } => format!("{script}, named"),
            Self::Fuzz { script, is_named: false, .. } => format!("{script}, as it is"),
            Self::Tldr(_) => String::from("tldr_fail_test"),
            Self::Testssl => String::from("testssl.sh"),
            Self::Slow => String::from("slowhttptest -H, 1000 connections"),
            Self::Curl => String::from("curl, TLS 1.2 and 1.3"),
            Self::Chromium => String::from("Chromium"),
        }
    }

    /// Runs it against `to`.
    pub(crate) fn run(&self, stand: &Stand, to: SocketAddr) -> Found {
        let (address, port) = (to.ip().to_string(), to.port().to_string());
        let name = name();
        match self {
            Self::Fuzz { folder, script, is_named } => {
                let path = format!("scripts/test-{script}.py");
                let python = folder.join("venv/bin/python");
                let mut run = command(CLIENT, "timeout");
                run.arg(TIME).arg(python);
                run.arg(fs::canonicalize("tests/bench/python/named.py").expect("the script"));
                let named = if *is_named { &name } else { "-" };
                run.args([named, &path, "-h", &address, "-p", &port, "-d"]);
                if script.starts_with("invalid-server-name") {
                    run.args(["--sni", &name]);
                }
                run.env("PYTHONPATH", ".").current_dir(folder.join("tlsfuzzer"));
                Found::of_fuzzer(&said(&mut run))
            }
            Self::Tldr(folder) => {
                let mut run = command(CLIENT, "timeout");
                run.args([TIME, "python3"]).arg(folder.join("tldr.fail/tldr_fail_test.py"));
                Found::of_tldr(&said(run.args([&name, "--addr", &address, "--port", &port])))
            }
            Self::Testssl => {
                let file = stand.folder().join("found.json");
                let _ = fs::remove_file(&file);
                let mut run = command(CLIENT, "testssl");
                run.args(["--quiet", "--color", "0", "--warnings", "off", "--ip", &address]);
                run.args(["-p", "-s", "-f", "-P", "-S", "-R", "-I", "-Z", "--jsonfile"]);
                run.arg(&file).arg(format!("{name}:{port}")).current_dir(stand.folder());
                // It does without a name server: the address is given.
                said(run.env("NODNS", "none"));
                Found::of_testssl(&fs::read_to_string(&file).unwrap_or_default())
            }
            Self::Slow => slow(http_of(to), &name),
            Self::Curl => {
                let versions = ["1.2", "1.3"].map(|version| {
                    let mut run = command(CLIENT, "curl");
                    run.args(["-s", "--max-time", "20", "--tls-max", version, "--cacert"]);
                    run.arg(stand.folder().join("pem"));
                    run.args(["--resolve", &format!("{name}:{port}:{address}")]);
                    run.arg(format!("https://{name}:{port}/"));
                    (format!("TLS {version}"), Check::page(&said(&mut run)))
                });
                Found(versions.into())
            }
            Self::Chromium => {
                let mut run = command(CLIENT, "timeout");
                run.args([TIME, "chromium", "--headless", "--no-sandbox", "--disable-gpu"]);
                run.args(["--ignore-certificate-errors", "--disable-quic", "--dump-dom"]);
                run.arg(format!("--user-data-dir={}", stand.folder().join("chromium").display()));
                run.arg(format!("--host-resolver-rules=MAP {name} {address}:{port}"));
                let page = said(run.arg(format!("https://{name}/")));
                Found([(String::from("page"), Check::page(&page))].into())
            }
        }
    }
}

/// The attack, and an honest client at its height.
fn slow(to: SocketAddr, name: &str) -> Found {
    let url = format!("http://{to}/");
    let mut attack = command(CLIENT, "slowhttptest");
    attack.args(["-H", "-c", "1000", "-r", "150", "-i", "5", "-l", "30", "-p", "5", "-v", "1"]);
    // Its probe names the address, which is refused like any address: an answer, too.
    let attack = attack.args(["-u", &url]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let attack = attack.expect("slowhttptest is installed");
    let _ = Command::new("sleep").arg("9").status();
    let mut honest = command(CLIENT, "curl");
    honest.args(["-s", "--max-time", "5", "-H", &format!("Host: {name}"), &url]);
    let page = Check::page(&said(&mut honest));
    let output = attack.wait_with_output().map(|output| output.stdout).unwrap_or_default();
    let report = String::from_utf8_lossy(&output);
    let number = |what: &str| {
        let line = report.lines().rev().find(|line| line.contains(what)).unwrap_or_default();
        line.split_whitespace().rev().find_map(|word| word.parse::<u32>().ok()).unwrap_or_default()
    };
    let closed = number("closed:");
    let is_ended = Check { is_good: closed > 0, said: format!("{closed} of 1000 closed in 30 s") };
    Found([(String::from("honest request"), page), (String::from("attack"), is_ended)].into())
}

impl Found {
    /// So many of so many are good.
    pub(crate) fn summary(&self) -> String {
        let good = self.0.values().filter(|check| check.is_good).count();
        format!("{good} of {}", self.0.len())
    }

    /// A line `NAME ...`, then `OK` or a traceback, for each conversation.
    fn of_fuzzer(output: &str) -> Self {
        let mut found = BTreeMap::new();
        let conversations = output.split("\n\n").filter_map(|part| {
            let (name, rest) = part.trim().split_once(" ...\n")?;
            Some((name.lines().last()?, rest.lines().last()?))
        });
        for (at, (name, last)) in conversations.enumerate() {
            let check = Check { is_good: last == "OK", said: last.to_owned() };
            // The same conversation may be held twice.
            let name =
                if found.contains_key(name) { format!("{name} {at}") } else { name.to_owned() };
            found.insert(name, check);
        }
        Self(found)
    }

    /// What the server answered, four times, as Python writes octets.
    fn of_tldr(output: &str) -> Self {
        let mut found = BTreeMap::new();
        let mut lines = output.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("Sending the ClientHello in") {
                let answer = lines.next().unwrap_or_default();
                let is_good =
                    answer.trim_start_matches(['b', '\'', '"']).starts_with(r"\x16\x03\x03");
                let said = if is_good { "a ServerHello" } else { answer };
                let name = format!("{} {}", found.len() + 1, line.trim_end_matches(':'));
                found.insert(name, Check { is_good, said: said.to_owned() });
            }
        }
        Self(found)
    }

    /// A list of objects, one key a line.
    fn of_testssl(json: &str) -> Self {
        let value = |line: &str| {
            let (_, value) = line.split_once(" : ")?;
            Some(value.trim_end_matches(',').trim_matches('"').to_owned())
        };
        let mut found = BTreeMap::new();
        let mut id = String::new();
        for line in json.lines().map(str::trim) {
            if line.starts_with("\"id\"") {
                id = value(line).unwrap_or_default();
            } else if line.starts_with("\"finding\"") && !PASSING.contains(&id.as_str()) {
                let said = value(line).unwrap_or_default();
                let name = format!("{id} {}", found.len());
                found.insert(name, Check { is_good: true, said });
            }
        }
        Self(found)
    }
}

impl Check {
    fn page(text: &str) -> Self {
        let said = text.lines().next().unwrap_or("nothing").to_owned();
        Self { is_good: text.contains("it works"), said }
    }
}

impl Difference {
    pub(crate) fn between(straight: &Found, through: &Found) -> Self {
        let mut difference = Self::default();
        for (name, there) in &straight.0 {
            let Some(here) = through.0.get(name) else {
                difference.hangs.push(format!("{name}: not run to its end"));
                continue;
            };
            // Both failed: each in its own words.
            let is_same =
                there.is_good == here.is_good && (!here.is_good || there.said == here.said);
            let is_told = TOLD.iter().any(|word| here.said.contains(word));
            let is_late = here.said.to_lowercase().contains("time");
            if is_same {
                difference.same += 1;
            } else if here.is_good && !there.is_good || is_told {
                difference.refused.push((name.clone(), here.said.clone()));
            } else if is_late {
                difference.hangs.push(format!("{name}: {}", here.said));
            } else {
                let said = format!("{} straight, {} through", there.said, here.said);
                difference.other.push((name.clone(), said));
            }
        }
        if straight.0.is_empty() {
            difference.other.push((String::from("run"), String::from("the tool found nothing")));
        }
        difference
    }
}

/// Everything a program prints.
fn said(run: &mut Command) -> String {
    let output = run.output().expect("the tool is installed");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Of tlsfuzzer, what is about hellos.
const SCRIPTS: [&str; 7] = [
    "large-hello",
    "client-hello-max-size",
    "record-layer-fragmentation",
    "invalid-server-name-extension",
    "invalid-server-name-extension-resumption",
    "renegotiation-changed-clienthello",
    "large-number-of-extensions",
];
/// How tlsfuzzer says that the far side ended it.
const TOLD: [&str; 8] = [
    "Alert(",
    "alert description",
    "closed",
    "closure",
    "reset",
    // How testssl.sh says it of the three hellos that it sends without a name.
    "request w/o SNI didn't succeed",
    "SNI mandatory",
    "OpenSSL handshake didn't succeed",
];
/// What testssl.sh finds anew each time.
const PASSING: [&str; 3] = ["scanTime", "HTTP_clock_skew", "TLS_timestamp"];
/// Seconds for one run.
const TIME: &str = "240";
