//! Who is behind an address, told by RADIUS to the real binary: class by state, restarts, kills.

mod aaa;
mod drills;
mod kills;
mod nas;
mod node;
mod orders;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use self::{
    nas::imsi,
    node::{EMBEDDED, Node, SECRET},
};

#[test]
fn accounting_binds_and_an_order_changes_the_class() {
    let node = Node::start(EMBEDDED);
    let (nas, orders) = (node.nas(), node.orders());
    assert_eq!(node.class("100.64.0.1"), "unknown");
    assert!(nas.start(1, 1));
    assert_eq!(node.class("100.64.0.1"), "bound");
    assert!(orders.order(1, "active"));
    assert_eq!(node.class("100.64.0.1"), "paid");
    assert!(nas.stop(1, 1));
    assert_eq!(node.class("100.64.0.1"), "unknown");
    // The state is the SIM's, not the address's.
    assert!(nas.start(1, 2));
    assert_eq!(node.class("100.64.0.2"), "paid");
    node.assert_says_nothing_of(&[&imsi(1), "100.64.0.2", SECRET]);
}

#[test]
fn radclient_is_answered() {
    let node = Node::start(EMBEDDED);
    let record = "Acct-Status-Type = Start\nAcct-Session-Id = \"one\"\nNAS-IP-Address = 192.0.2.10\n\
                  Framed-IP-Address = 100.64.0.9\n3GPP-IMSI = \"001010000000009\"\n\
                  Proxy-State = 0x01\nProxy-State = 0x02\nMessage-Authenticator = 0x00\n";
    for (secret, answered) in [(SECRET, true), ("wrong", false)] {
        assert_eq!(radclient(node.accounting(), secret, record).0, answered, "{secret}");
    }
    assert_eq!(node.class("100.64.0.9"), "bound");
}

/// Sends one accounting request by FreeRADIUS's client; whether it was answered, and all it says.
fn radclient(server: std::net::SocketAddr, secret: &str, record: &str) -> (bool, String) {
    let mut client = Command::new("radclient")
        .args(["-x", "-r", "1", "-t", "3", &server.to_string(), "acct", secret])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(record.as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}
