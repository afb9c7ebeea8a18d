//! Signed policies: what nobody trusted has signed never comes into force, nor does what is older than the last good one, also across a restart.

use std::{fs, io::Read};

use crate::{
    desk::{Desk, Running},
    tool::{finish, postern},
};

#[test]
fn unsigned_policy_neither_starts_nor_replaces_a_signed_one() {
    let desk = Desk::new();
    desk.write(5, "one.example.com");
    let (code, said) = finish(&mut desk.command());
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("is not signed, and this node demands it"), "{said}");

    desk.sign("other.key");
    assert_eq!((desk.verify("release.key.pub"), desk.verify("other.key.pub")), (1, 0));
    let (code, said) = finish(&mut desk.command());
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("which is not among the trusted ones"), "{said}");

    desk.sign("release.key");
    let node = desk.start();
    assert_eq!(node.standing("published"), (5, false, 1));
    fs::remove_file(desk.path("policy.toml.sig")).unwrap();
    desk.write(6, "two.example.com");
    let (code, said) = node.ask(&["reload"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("refused: the last good policy stays: "), "{said}");
    let (serial, _, unsigned) = node.standing("unsigned");
    assert!(serial == 5 && unsigned > 0, "{serial} {unsigned}");
    desk.sign("other.key");
    assert_eq!(node.ask(&["reload"]).0, 1);
    let (serial, _, wrong) = node.standing("bad-signature");
    assert!(serial == 5 && wrong > 0, "{serial} {wrong}");

    desk.sign("release.key");
    let (code, said) = node.ask(&["reload"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(node.standing("published").0, 6);
}

#[test]
fn last_good_policy_outlives_a_restart_and_an_older_one_does_not_come_back() {
    let desk = Desk::new();
    desk.write(5, "one.example.com");
    desk.sign("release.key");
    let old = ["policy.toml", "policy.toml.sig"].map(|name| fs::read(desk.path(name)).unwrap());
    drop(desk.start());
    desk.write(6, "two.example.com");
    desk.sign("release.key");
    drop(desk.start());

    fs::write(desk.path("policy.toml"), "schema = 1\n").unwrap();
    let node = desk.start();
    assert_eq!(node.standing("bad-signature"), (6, true, 1));
    let (code, said) = node.ask(&["status"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the kept copy of the last good one is in force"), "{said}");
    assert!(readyz(&node).contains("\nnote the policy file was refused"), "{}", readyz(&node));
    drop(node);

    for (name, bytes) in ["policy.toml", "policy.toml.sig"].iter().zip(&old) {
        fs::write(desk.path(name), bytes).unwrap();
    }
    assert_eq!(desk.verify("release.key.pub"), 0, "the old policy is well signed");
    let node = desk.start();
    assert_eq!(node.standing("rollback"), (6, true, 1));
    desk.write(7, "three.example.com");
    desk.sign("release.key");
    assert_eq!(node.ask(&["reload"]).0, 0);
    let (serial, restored, _) = node.standing("published");
    assert_eq!((serial, restored), (7, false));
    assert!(!readyz(&node).contains("note"));
    drop(node);

    fs::remove_file(desk.path("last-good.json")).unwrap();
    fs::write(desk.path("policy.toml"), "schema = 1\n").unwrap();
    assert_eq!(finish(&mut desk.command()).0, 2);
}

#[test]
fn rehearsal_names_the_classes_that_change_and_changes_nothing() {
    let desk = Desk::new();
    desk.write(5, "one.example.com");
    desk.sign("release.key");
    let node = desk.start();
    let (code, said) = node.ask(&["reload", "--dry-run"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("serial 5 can come into force; no verdict changes\n"), "{said}");

    let other = Desk::new();
    for key in ["release.key", "release.key.pub"] {
        fs::copy(desk.path(key), other.path(key)).unwrap();
    }
    let candidate = other.path("policy.toml");
    let rehearse = || node.ask(&["reload", "--dry-run", "--policy", candidate.to_str().unwrap()]);
    other.write(6, "two.example.com");
    let (code, said) = rehearse();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is not signed, and this node demands it"), "{said}");
    other.sign("release.key");
    let (code, said) = rehearse();
    assert_eq!(code, 1, "{said}");
    for part in [
        "serial 6 can come into force, and changes:",
        "class unprovisioned: 1 open, 1 close",
        "opens     two.example.com",
        "closes    one.example.com",
        "0 live sessions change verdict, 0 of them close",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    other.write(4, "two.example.com");
    other.sign("release.key");
    let (code, said) = rehearse();
    assert_eq!((code, said.contains("serial 4 is below 5")), (1, true), "{said}");
    assert_eq!(node.standing("published"), (5, false, 1));
}

#[test]
fn token_that_is_wrong_or_absent_is_one_clear_line() {
    let desk = Desk::new();
    desk.write(5, "one.example.com");
    desk.sign("release.key");
    let mut node = desk.start();
    node.token = desk.path("wrong.token");
    fs::write(&node.token, "ffffffffffffffffffffffffffffffff").unwrap();
    let (code, said) = node.ask(&["reload"]);
    assert_eq!(
        (code, said.trim()),
        (2, "error: no valid token: send the admin token: Authorization: Bearer …")
    );
    let (code, said) =
        finish(postern().args(["status", "--config"]).arg(desk.path("gateway.toml")));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("has port 0; give the real one with --admin"), "{said}");
    let gone = std::mem::take(&mut node.admin);
    drop(node);
    let (code, said) = finish(postern().args(["status", "--admin", &gone]));
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("error: cannot reach 127.0.0.1:"), "{said}");
}

fn readyz(node: &Running) -> String {
    use std::io::Write;
    let address = node.admin.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
