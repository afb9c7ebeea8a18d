//! What happens to the store of several nodes, and what subscribers see of it. Each drill prints
//! its timeline: known SIMs keep their state until `stale_max`, whoever is unknown is in the garden,
//! and the newest word holds once nodes hear of each other again.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use jiff::Timestamp;
use lab::{Redis, radius::Status};

use super::{
    nas::{address, imsi, record},
    node::{Node, SECRET},
};
use crate::{
    stage::{eventually, now},
    tool::{postern, succeed},
};

#[test]
fn a_server_that_stops_comes_back_empty_or_freezes() {
    let server = Redis::start().unwrap();
    let state = format!("{}stale_max = \"12s\"", shared(&[server.address()]));
    let drill = Drill::of([Node::start(&state), Node::start(&state)]);
    attach(drill.node(0), 1, Some("active"));
    attach(drill.node(0), 2, None);
    drill.becomes("attached, one has paid", BOTH, &[(1, "paid"), (2, "bound"), (9, "unknown")]);
    let address = server.stop();
    drill.stays("the server is gone", BOTH, &[(1, "paid"), (2, "bound"), (9, "unknown")]);
    // What cannot be stored is taken and not confirmed: whoever told it goes on telling it.
    drill.node(0).nas().say(&record(Status::Start, 3, 3, 1).signed(SECRET));
    assert_eq!(drill.node(0).set(2, "active"), 503);
    drill.becomes("one is told of a third and of a plan", &[0], &[(2, "paid"), (3, "bound")]);
    drill.stays("the other is not", &[1], &[(1, "paid"), (2, "bound"), (3, "unknown")]);
    drill.becomes("gone for stale_max", BOTH, &[(1, "unknown"), (2, "unknown"), (3, "unknown")]);
    let server = Redis::start_at(address).unwrap();
    drill.becomes("back, and empty", BOTH, &[(1, "paid"), (2, "paid"), (3, "bound")]);
    let late = Drill::of([Node::start(&state)]);
    late.becomes("a node that comes later", &[0], &[(1, "paid"), (2, "paid"), (3, "bound")]);
    server.freeze();
    drill.stays("the server is frozen", BOTH, &[(1, "paid"), (2, "paid"), (3, "bound")]);
    drill.becomes("frozen for stale_max", BOTH, &[(1, "unknown"), (2, "unknown")]);
    server.thaw();
    drill.becomes("thawed", BOTH, &[(1, "paid"), (2, "paid"), (3, "bound")]);
}

#[test]
fn a_failover_that_loses_confirmed_writes_loses_no_verdict() {
    let server = Redis::start().unwrap();
    let replica = Redis::start().unwrap();
    replicate(&replica, &server);
    let sentinel = Redis::start_sentinel(&server, "postern").unwrap();
    let replica_port = replica.address().port().to_string();
    eventually("the Sentinel knows the replica", || {
        sentinel.ask("SENTINEL replicas postern").ok().filter(|said| said.contains(&replica_port))
    });
    let state = format!("{}sentinel_master = \"postern\"\n", shared(&[sentinel.address()]));
    let drill = Drill::of([Node::start(&state), Node::start(&state)]);
    attach(drill.node(0), 1, Some("active"));
    attach(drill.node(0), 2, Some("active"));
    drill.becomes("both have paid", BOTH, &[(1, "paid"), (2, "paid"), (3, "unknown")]);
    let cut = Cut::replication_of(&server);
    assert!(drill.node(0).orders().order(2, "exhausted"));
    attach(drill.node(1), 3, Some("active"));
    drill.becomes(
        "one is used up, a third pays; the replica hears nothing",
        BOTH,
        &[(2, "bound"), (3, "paid")],
    );
    server.stop();
    drop(cut);
    drill.stays("the server is gone", BOTH, &[(1, "paid"), (2, "bound"), (3, "paid")]);
    eventually("the replica is the master", || {
        replica.ask("INFO replication").ok().filter(|said| said.contains("role:master"))
    });
    attach(drill.node(1), 4, None);
    drill.becomes("another server, writes are lost", BOTH, &[(2, "bound"), (4, "bound")]);
    drill.stays("it goes on", BOTH, &[(1, "paid"), (2, "bound"), (3, "paid"), (4, "bound")]);
    let late = Drill::of([Node::start(&state)]);
    late.becomes("a node that comes later", &[0], &[(1, "paid"), (2, "bound"), (3, "paid")]);
}

#[test]
fn a_split_brain_heals_to_the_newest_word() {
    let server = Redis::start().unwrap();
    // Until the split, nobody serves at the second place.
    let second = Redis::start().unwrap().stop();
    let drill = Drill::of([
        Node::start(&shared(&[server.address(), second])),
        Node::start(&shared(&[second, server.address()])),
    ]);
    attach(drill.node(0), 1, Some("active"));
    attach(drill.node(0), 2, None);
    drill.becomes("together", BOTH, &[(1, "paid"), (2, "bound"), (3, "unknown")]);
    let other = Redis::start_at(second).unwrap();
    replicate(&other, &server);
    other.ask("REPLICAOF NO ONE").unwrap();
    server.ask("CLIENT KILL TYPE normal SKIPME yes").unwrap();
    drill.becomes("split: each node has a server of its own", BOTH, &[(1, "paid"), (2, "bound")]);
    eventually("the second node writes to the second server", || {
        drill.node(1).orders().order(2, "active").then_some(())?;
        let row = other.ask(&format!("HGET postern:s|imsi:{} row", imsi(2)));
        row.ok().filter(|row| row.contains("active"))
    });
    assert!(drill.node(0).orders().order(1, "exhausted"));
    attach(drill.node(0), 3, Some("active"));
    drill.becomes("near: used up, a third pays", &[0], &[(1, "bound"), (3, "paid")]);
    drill.stays("near", &[0], &[(1, "bound"), (2, "bound"), (3, "paid")]);
    drill.stays("far", &[1], &[(1, "paid"), (2, "paid"), (3, "unknown")]);
    other.stop();
    drill.becomes("healed", BOTH, &[(1, "bound"), (2, "paid"), (3, "paid")]);
    drill.stays("it goes on", BOTH, &[(1, "bound"), (2, "paid"), (3, "paid")]);
}

#[test]
fn a_node_whose_clock_is_wrong_gives_no_other_node_the_wrong_sim() {
    let server = Redis::start().unwrap();
    let state = shared(&[server.address()]);
    let folder = tempfile::tempdir().unwrap();
    let ahead = later_by_an_hour(folder.path().join("postern"));
    let drill = Drill::of([Node::start(&state), Node::start_as(ahead, &state)]);
    // No time of the NAS's own: the node's clock stands for it.
    attach(drill.node(1), 1, Some("active"));
    drill.becomes("a SIM that paid attaches at the node ahead", &[1], &[(1, "paid")]);
    drill.stays("the other does not believe what is yet to come", &[0], &[(1, "unknown")]);
    assert!(drill.node(0).nas().start(5, 1));
    drill.becomes("its Stop is lost, another SIM gets the address", &[0], &[(1, "bound")]);
    drill.stays("it goes on", &[0], &[(1, "bound")]);
    eventually("the skew is told", || {
        let skew = drill.node(1).metric("postern_store_clock_skew_seconds", &[]);
        (skew > 3500.0).then_some(())
    });
    assert!(drill.node(0).metric("postern_store_clock_skew_seconds", &[]).abs() < 5.0);
    // Orders are counted on from the newest that is known, whatever its clock.
    assert!(drill.node(0).nas().start(1, 7));
    drill.becomes("the SIM that paid attaches at the other, elsewhere", &[0], &[(7, "paid")]);
    assert!(drill.node(1).orders().order(1, "exhausted"));
    drill.becomes("ordered by the node ahead", &[0], &[(7, "bound")]);
    assert!(drill.node(0).orders().order(1, "active"));
    drill.becomes("ordered by the other", &[0], &[(7, "paid")]);
    drill.becomes("and heard by the node ahead", &[1], &[(1, "paid")]);
}

#[test]
fn a_lost_node_is_stood_in_for_and_learns_what_it_missed() {
    let server = Redis::start().unwrap();
    let state = shared(&[server.address()]);
    let drill = Drill::of([Node::start(&state), Node::start(&state)]);
    attach(drill.node(0), 1, Some("active"));
    attach(drill.node(0), 2, Some("active"));
    drill.becomes("both have paid", BOTH, &[(1, "paid"), (2, "paid")]);
    drill.node(0).kill();
    drill.stays("the first node is gone", &[1], &[(1, "paid"), (2, "paid"), (3, "unknown")]);
    assert!(drill.node(1).orders().order(2, "exhausted"));
    attach(drill.node(1), 3, None);
    assert!(drill.node(1).nas().stop(1, 1));
    drill.becomes(
        "the NAS speaks to the second",
        &[1],
        &[(1, "unknown"), (2, "bound"), (3, "bound")],
    );
    drill.node(0).restart();
    drill.stays("the first is back", BOTH, &[(1, "unknown"), (2, "bound"), (3, "bound")]);
}

/// Nodes under one drill, and when it began.
struct Drill<const N: usize> {
    nodes: [Node; N],
    began: Timestamp,
}

impl<const N: usize> Drill<N> {
    fn of(nodes: [Node; N]) -> Self {
        Self { nodes, began: now() }
    }

    fn node(&self, place: usize) -> &Node {
        &self.nodes[place]
    }

    /// The classes at these nodes come to be as expected; addresses are told by their number.
    #[track_caller]
    fn becomes(&self, event: &str, nodes: &[usize], expected: &[(u32, &str)]) {
        for node in nodes {
            for (number, class) in expected {
                self.node(*node).wait_for(&address(*number), class);
            }
        }
        self.print(event, "then", nodes, expected);
    }

    /// The classes at these nodes are as expected at every look.
    #[track_caller]
    fn stays(&self, event: &str, nodes: &[usize], expected: &[(u32, &str)]) {
        let until = now() + LOOKED_AT;
        while now() < until {
            for node in nodes {
                for (number, class) in expected {
                    let found = self.node(*node).class(&address(*number));
                    assert_eq!(found, *class, "{event}: SIM {number} at node {node}");
                }
            }
        }
        self.print(event, "always", nodes, expected);
    }

    fn print(&self, event: &str, how: &str, nodes: &[usize], expected: &[(u32, &str)]) {
        let at = now().duration_since(self.began).as_secs_f64();
        let list = |(number, class): &(u32, &str)| format!("{number} {class}");
        let classes = expected.iter().map(list).collect::<Vec<_>>().join(", ");
        println!("{at:7.2} s  {event}: {how} at {nodes:?}: {classes}");
    }
}

/// The packets of one replication are lost; the connection stays.
struct Cut;

impl Cut {
    fn replication_of(server: &Redis) -> Self {
        let clients = server.ask("CLIENT LIST TYPE replica").unwrap();
        let port = clients.split_once("addr=127.0.0.1:").unwrap().1;
        let port = port.split_once(' ').unwrap().0;
        let rules = format!(
            "add table inet drill; \
             add chain inet drill out {{ type filter hook output priority 0; }}; \
             add rule inet drill out tcp dport {port} tcp sport {} drop",
            server.address().port()
        );
        succeed(Command::new("nft").arg(rules));
        Self
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = Command::new("nft").arg("delete table inet drill").status();
    }
}

/// The lines of a table `[state]` that is shared.
fn shared(servers: &[SocketAddr]) -> String {
    let servers: Vec<String> =
        servers.iter().map(|server| format!("\"redis://{server}\"")).collect();
    format!("engine = \"redis\"\nservers = [{}]\n", servers.join(", "))
}

/// A SIM gets the address of its number; perhaps it has a plan.
#[track_caller]
fn attach(node: &Node, sim: u32, state: Option<&str>) {
    assert!(node.nas().start(sim, sim), "SIM {sim} attaches");
    if let Some(state) = state {
        assert!(node.orders().order(sim, state), "SIM {sim} is {state}");
    }
}

/// Makes `replica` a copy of `server`, and waits until it is one.
fn replicate(replica: &Redis, server: &Redis) {
    replica.ask(&format!("REPLICAOF 127.0.0.1 {}", server.address().port())).unwrap();
    eventually("the replica is in step", || {
        let said = replica.ask("INFO replication").ok()?;
        said.contains("master_link_status:up").then_some(())
    });
}

/// A program that is the gateway with a clock an hour ahead.
fn later_by_an_hour(path: PathBuf) -> PathBuf {
    let library =
        succeed(Command::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]));
    let text = format!(
        "#!/bin/sh\nexport LD_PRELOAD={} FAKETIME=+3600s FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {} \"$@\"\n",
        library.trim(),
        postern().get_program().to_str().unwrap()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

const BOTH: &[usize] = &[0, 1];
/// How long what has to stay is looked at.
const LOOKED_AT: Duration = Duration::from_secs(1);
