//! The policy source: what is pulled goes the way of every policy, and a hostile server changes
//! nothing.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    desk::{Desk, Running},
    stage::eventually,
    tool::{finish, postern, succeed},
};

/// An HTTP server that says what it is told to, octet by octet.
struct Source {
    url: String,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    answer: Mutex<Vec<u8>>,
    /// What the last question said is known.
    tag: Mutex<Option<String>>,
    asked: AtomicUsize,
    /// The answer is followed by more, for as long as somebody reads.
    endless: Mutex<bool>,
}

impl Source {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/edge/policy.bundle", listener.local_addr().unwrap());
        let script = Arc::new(Script::default());
        let served = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let script = Arc::clone(&served);
                thread::spawn(move || script.serve(stream.unwrap()));
            }
        });
        Self { url, script }
    }

    fn say(&self, answer: &[u8], endless: bool) {
        *self.script.endless.lock().unwrap() = endless;
        *self.script.answer.lock().unwrap() = answer.to_vec();
    }

    fn page(&self, body: &[u8], tag: &str) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: {tag}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.say(&[head.as_bytes(), body].concat(), false);
    }

    /// Waits until a question has come that was not there yet, and its answer was read.
    fn wait(&self) {
        let before = self.script.asked.load(Ordering::Acquire);
        eventually("two more pulls", || {
            (self.script.asked.load(Ordering::Acquire) >= before + 2).then_some(())
        });
    }
}

impl Script {
    fn serve(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut octet = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut octet).is_ok_and(|read| read > 0) {
            head.push(octet[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let known = head.lines().find_map(|line| line.strip_prefix("if-none-match: "));
        *self.tag.lock().unwrap() = known.map(str::to_owned);
        self.asked.fetch_add(1, Ordering::AcqRel);
        let answer = self.answer.lock().unwrap().clone();
        let mut open = stream.write_all(&answer).is_ok();
        while open && *self.endless.lock().unwrap() {
            open = stream.write_all(&[b' '; 65_536]).is_ok();
        }
    }
}

/// A node that pulls from `source` every second.
fn desk(source: &Source) -> Desk {
    let desk = Desk::new();
    let settings = fs::read_to_string(desk.path("gateway.toml")).unwrap();
    let table = format!("[policy_source]\nurl = \"{}\"\ninterval = \"1s\"\n[steering]", source.url);
    fs::write(desk.path("gateway.toml"), settings.replace("[steering]", &table)).unwrap();
    desk.write(1, "one.example.com");
    desk.sign("release.key");
    desk
}

/// The bundle of a policy with this serial, signed with `key`.
fn bundle(serial: u64, key: &str, keys: &Desk) -> Vec<u8> {
    let press = Desk::new();
    for name in [key.to_owned(), format!("{key}.pub")] {
        fs::copy(keys.path(&name), press.path(&name)).unwrap();
    }
    press.write(serial, "pulled.example.com");
    press.sign(key);
    succeed(postern().args(["policy", "bundle"]).arg(press.path("policy.toml"))).into_bytes()
}

fn serial(node: &Running) -> u64 {
    node.status()["policy"]["serial"].as_u64().unwrap()
}

fn pulls(node: &Running, result: &str) -> u64 {
    node.status()["policy_pulls"][result].as_u64().unwrap()
}

#[test]
fn pulled_policy_comes_into_force_and_outlives_a_restart() {
    let source = Source::start();
    let desk = desk(&source);
    source.page(&bundle(5, "release.key", &desk), "\"five\"");
    let node = desk.start();
    eventually("the pulled policy", || (serial(&node) == 5).then_some(()));
    source.say(b"HTTP/1.1 304 Not Modified\r\n\r\n", false);
    source.wait();
    assert_eq!(source.script.tag.lock().unwrap().as_deref(), Some("\"five\""));
    assert_eq!(node.standing("published"), (5, false, 2));
    assert!(pulls(&node, "unchanged") > 0 && pulls(&node, "published") == 1);
    drop(node);

    // The file is older, the source is away: the kept copy is what the node goes on with.
    source.say(b"", false);
    let node = desk.start();
    assert_eq!(node.standing("rollback"), (5, true, 1));
    source.wait();
    assert_eq!(serial(&node), 5);
    assert!(pulls(&node, "broken") > 0);
}

#[test]
fn hostile_answers_change_nothing_and_are_counted() {
    let source = Source::start();
    let desk = desk(&source);
    let good = bundle(5, "release.key", &desk);
    let node = desk.start();
    let whole = good.len();
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let half =
        [format!("{json}Content-Length: {whole}\r\n\r\n").as_bytes(), &good[..whole / 2]].concat();
    let html =
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n", &good[..]]
            .concat();
    let other = bundle(6, "other.key", &desk);
    for (result, answer, endless) in [
        ("status", b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n".to_vec(), false),
        ("status", b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(), false),
        ("status", b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(), false),
        ("broken", half, false),
        ("broken", b"this is not HTTP\r\n\r\n".to_vec(), false),
        ("malformed", html, false),
        ("malformed", format!("{json}Content-Length: 2\r\n\r\n{{}}").into_bytes(), false),
        (
            "refused",
            [format!("{json}Connection: close\r\n\r\n").as_bytes(), &other].concat(),
            false,
        ),
        ("too-large", format!("{json}Connection: close\r\n\r\n").into_bytes(), true),
    ] {
        let before = pulls(&node, result);
        source.say(&answer, endless);
        eventually(result, || (pulls(&node, result) > before).then_some(()));
        assert_eq!(serial(&node), 1, "{result}");
    }
    source.page(&bundle(1, "release.key", &desk), "\"one\"");
    source.wait();
    // What was refused is not remembered: the good one is taken at once.
    source.page(&good, "\"five\"");
    eventually("the good policy", || (serial(&node) == 5).then_some(()));
    source.page(&bundle(4, "release.key", &desk), "\"four\"");
    source.wait();
    let (kept, _, rollbacks) = node.standing("rollback");
    assert!(kept == 5 && rollbacks > 0, "{kept} {rollbacks}");
}

#[test]
fn source_without_signature_or_kept_copy_is_refused_at_start() {
    let source = Source::start();
    let desk = desk(&source);
    let settings = fs::read_to_string(desk.path("gateway.toml")).unwrap();
    for (line, said) in [
        ("require_signature = [\"release.key.pub\"]", "no signature is demanded"),
        ("last_good         = \"last-good.json\"", "none is kept for the next start"),
    ] {
        assert!(settings.contains(line));
        fs::write(desk.path("gateway.toml"), settings.replace(line, "")).unwrap();
        let (code, answer) = finish(&mut desk.command());
        assert!(code == 2 && answer.contains(said), "{code} {answer}");
    }
}
