//! The resolver from outside: programs that know nothing of ours ask it, and read every answer.
//!
//! dnspython asks what RFC 8906 section 8 asks of servers and every odd case; tshark reads what went over
//! the wire; kdig asks over every transport and says what it does not like.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    node::Node,
    repository::top,
    tool::{checker, finish, succeed},
};

#[test]
fn every_answer_is_right_and_tshark_reads_it() {
    let Some(_tshark) = checker("tshark") else { return };
    let stage = Stage::new();
    let addresses = stage.node.addresses("dns");
    let capture = Capture::start(stage.folder.path(), &addresses);
    // The system's own, for which dnspython is packaged.
    let mut python = Command::new("/usr/bin/python3");
    python.arg(top().join("tests/suite/python/dns_blackbox.py"));
    let (code, said) = finish(python.args(addresses.iter().map(SocketAddr::to_string)));
    println!("{said}");
    let file = capture.stop();
    assert_eq!(code, 0, "{said}");

    // Only what the resolver said: what was asked is malformed on purpose.
    let ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
    let from = |transport: &str| {
        let sources = ports.iter().map(|port| format!("{transport}.srcport == {port}"));
        format!("({})", sources.collect::<Vec<_>>().join(" || "))
    };
    let read = |filter: &str| {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&file).args(["-Y", filter]);
        for port in &ports {
            tshark.args(["-d", &format!("udp.port=={port},dns")]);
            tshark.args(["-d", &format!("tcp.port=={port},dns")]);
        }
        succeed(tshark.stderr(Stdio::null()))
    };
    let (udp, tcp) = (from("udp"), from("tcp"));
    for (transport, said) in [("UDP", &udp), ("TCP", &tcp)] {
        let answers = read(&format!("{said} && dns.flags.response == 1")).lines().count();
        println!("tshark read {answers} answers over {transport}");
        assert!(answers > 300, "{answers} answers only over {transport}");
        // tshark wants a TLV even in the refusal of a stateful operation, which has none to give
        // (RFC 8490); dnspython has held it to a bare header.
        let known = "dns.flags.opcode == 6";
        let faults =
            format!("{said} && !({known}) && (_ws.malformed || _ws.expert.severity >= error)");
        assert_eq!(read(&faults), "", "answers that tshark finds fault with");
    }
    assert_eq!(read(&format!("{udp} && !dns")), "", "answers that are none");
}

#[test]
fn kdig_warns_of_nothing_on_any_transport() {
    let stage = Stage::new();
    let certificate = stage.folder.path().join("dns.pem");
    let tls = [format!("+tls-ca={}", certificate.display()), format!("+tls-hostname={HOST}")];
    let tls = tls.each_ref().map(String::as_str);
    let transports: [(&str, Vec<&str>); 4] = [
        ("dns", vec![]),
        ("dns", vec!["+tcp"]),
        ("dot", [&["+tls"][..], &tls].concat()),
        ("doh", [&["+https"][..], &tls].concat()),
    ];
    let mut asked = 0;
    for (service, options) in &transports {
        for address in stage.node.addresses(service) {
            let (host, port) = (format!("@{}", address.ip()), format!("-p{}", address.port()));
            for (question, status, text) in QUESTIONS {
                let mut kdig = Command::new("kdig");
                kdig.args([&host, &port]).args(options).arg("+edns").args(question.split(' '));
                let said = succeed(&mut kdig);
                // That an answer was cut and is asked for again by TCP is news, not a fault.
                let mut news = said.lines().filter(|line| !line.contains("truncated reply"));
                let is_sound = !news
                    .any(|line| line.starts_with(";; WARNING") || line.starts_with(";; ERROR"));
                assert!(
                    is_sound && said.contains(&format!("status: {status}")),
                    "{kdig:?}: {said}"
                );
                assert!(said.contains(text), "{kdig:?}: {text:?} is missing: {said}");
                asked += 1;
            }
            // The error that sends a phone to the portal is told to those alone who can believe it.
            let mut kdig = Command::new("kdig");
            kdig.args([&host, &port]).args(options);
            let said = succeed(kdig.args(["+ednsopt=15:0000", "www.bing.com", "A"]));
            let is_structured = said.contains(PORTAL);
            assert_eq!(is_structured, *service != "dns", "{kdig:?}: {said}");
        }
    }
    println!("{asked} questions answered");
}

/// A gateway that answers every question itself, on every transport and in both families.
struct Stage {
    node: Node,
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=dns", "-addext"])
            .arg(format!("subjectAltName=DNS:{HOST},IP:127.0.0.1,IP:::1"))
            .arg("-keyout")
            .arg(folder.path().join("dns.key"))
            .arg("-out")
            .arg(folder.path().join("dns.pem"));
        succeed(&mut openssl);
        let many: Vec<String> = (1..=60).map(|n| format!("\"198.51.100.{n}\"")).collect();
        let gateway = GATEWAY.replace("FOLDER", &folder.path().display().to_string());
        let policy = POLICY.replace("MANY", &many.join(", "));
        Self { node: Node::start_with(&gateway, &policy), folder }
    }
}

/// A recording of what passes the loopback interface.
struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

impl Capture {
    /// Records what goes to and from the ports of `addresses`, from now on.
    fn start(folder: &Path, addresses: &[SocketAddr]) -> Self {
        let file = folder.join("dns.pcap");
        let ports: Vec<String> =
            addresses.iter().map(|address| format!("port {}", address.port())).collect();
        let mut tcpdump = Command::new("tcpdump")
            .args(["-i", "lo", "-U", "--immediate-mode", "-w"])
            .arg(&file)
            .arg(ports.join(" or "))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut words = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(words.read_line(&mut line).unwrap() > 0, "tcpdump does not record");
        }
        // Its last words have to go somewhere.
        tcpdump.stderr = Some(words.into_inner());
        Self { tcpdump, file }
    }

    /// Ends the recording; the file that holds it.
    fn stop(mut self) -> PathBuf {
        succeed(Command::new("kill").args(["-INT", &self.tcpdump.id().to_string()]));
        assert!(self.tcpdump.wait().unwrap().success());
        assert!(File::open(&self.file).unwrap().metadata().unwrap().len() > 0);
        self.file
    }
}

const HOST: &str = "dns.operator.example";
const PORTAL: &str = "https://portal.operator.example/start";

/// What kdig is asked, the status it must see, and what its answer must hold.
const QUESTIONS: [(&str, &str, &str); 16] = [
    ("listed.example A", "NOERROR", "198.51.100.7"),
    ("listed.example AAAA +dnssec", "NOERROR", "2001:db8::7"),
    ("LISTED.example HTTPS", "NOERROR", "SOA"),
    ("listed.example ANY", "NOERROR", "HINFO"),
    ("listed.example TYPE666 +cdflag +adflag +zflag", "NOERROR", "SOA"),
    ("long.example A +bufsize=4096", "NOERROR", "198.51.100.60"),
    ("long.example A +noedns", "NOERROR", "198.51.100.60"),
    ("v4only.example AAAA", "NOERROR", "64:ff9b::c633:6408"),
    ("www.bing.com A", "NXDOMAIN", "EDE: 15 (Blocked)"),
    ("www.bing.com A +cookie", "NXDOMAIN", "SOA"),
    ("www.bing.com A +subnet=192.0.2.0/24", "NXDOMAIN", "SOA"),
    ("www.bing.com TXT +nsid +padding", "NXDOMAIN", "SOA"),
    ("ipv4only.arpa AAAA", "NOERROR", "64:ff9b::c000:aa"),
    ("_dns.resolver.arpa TYPE64", "NOERROR", "ANSWER: 2"),
    ("use-application-dns.net A", "NXDOMAIN", "SOA"),
    ("version.bind CH TXT", "REFUSED", "QUERY: 1"),
];

const GATEWAY: &str = r#"
node        = "suite"
environment = "lab"
policy      = "policy.toml"
[steering]
mode        = "none"
[dns]
listen      = ["127.0.0.1:0", "[::1]:0"]
upstreams   = ["udp://127.0.0.1:1"]
dns64       = "64:ff9b::/96"
[dns.tls]
listen      = ["127.0.0.1:0", "[::1]:0"]
certificate = "FOLDER/dns.pem"
key         = "FOLDER/dns.key"
[dns.https]
listen      = ["127.0.0.1:0", "[::1]:0"]
certificate = "FOLDER/dns.pem"
key         = "FOLDER/dns.key"
[dns.limits]
qps_per_subscriber = 100000
[admin]
listen      = "127.0.0.1:0"
"#;

const POLICY: &str = r#"
schema        = 1
name          = "suite"
serial        = 1
environment   = "lab"
default_class = "unprovisioned"
[dns]
denied        = "nxdomain"
denied_ttl    = "5s"
max_ttl       = "60s"
[http]
denied        = "redirect"
portal        = "https://portal.operator.example/start"
[[hostset]]
name     = "listed"
source   = "the suite"
reviewed = 2026-08-22
[[hostset.host]]
match    = "listed.example"
schemes  = ["https"]
[[hostset.host]]
match    = "long.example"
schemes  = ["https"]
[[hostset.host]]
match    = "v4only.example"
schemes  = ["https"]
[[hostset.host]]
match    = "portal.operator.example"
schemes  = ["https"]
[[class]]
name     = "unprovisioned"
priority = 100
action   = "garden"
hostsets = ["listed"]
ncsi     = "answer"
[[class.match]]
networks = ["127.0.0.0/8", "::1/128"]
[lab.resolve]
"listed.example" = ["198.51.100.7", "2001:db8::7"]
"v4only.example" = ["198.51.100.8"]
"long.example"   = [MANY]
"#;
