//! How long a lift takes: on one node while 100,000 SIMs are open in its kernel, by the admin API,
//! by a change of authorisation, and to the first packet; and from one node to another through a
//! Redis server. Also what 100,000 open SIMs cost the kernel: in one storm, and at a restart.
//!
//! `POSTERN_BIN` names the gateway to measure; without it, the one built beside this program.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that fails has failed"
)]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use bench::{
    api::Api,
    nas::{Nas, SECRET, address, imsi},
};
use http::{Method, StatusCode};
use lab::{
    Family, Gateway, Options, Outcome, Redis, World, place,
    private::{self, Entry},
    radius::{Request, Status},
};

fn main() -> ExitCode {
    match private::enter(false, |_| {}) {
        Entry::Inside(inside) => inside.end_when_released(),
        Entry::Done(code) => return code,
        Entry::Failed(error) => {
            println!("no private environment: {error}");
            return ExitCode::from(2);
        }
    }
    let on_one = one_node();
    let across = two_nodes();
    ExitCode::from(u8::from(on_one > TARGET || across > TARGET_ACROSS))
}

fn one_node() -> Duration {
    let options = Options { start_gateway: false, policy: Some(POLICY.to_owned()), ..options() };
    let world = World::start(options).unwrap();
    let settings = format!("{}[state]\nengine = \"embedded\"\n", world.settings_text().unwrap());
    world.write_settings(&settings).unwrap();
    fs::write(world.directory().join("pgw-1.secret"), SECRET).unwrap();
    let gateway = world.gateway();
    gateway.start().unwrap();
    let accounting = listening(gateway, "radius");
    let nas = gateway.namespace().call(move || Nas::at(accounting)).unwrap();
    nas.tell(Status::Start, 0..OPEN_SIMS).unwrap();
    println!("{OPEN_SIMS} Starts of SIMs that are open: answered after {:.2} s", nas.seconds());
    while kernel_opens(&world) < OPEN_SIMS {}
    println!("  and open in the kernel after {:.2} s", nas.seconds());
    let memory = bench::usage::resident_octets(gateway.pid().unwrap()) / 1_000_000;
    println!("  memory {memory} MB");
    gateway.kill();
    let began = Instant::now();
    gateway.start().unwrap();
    println!("READY {:.2} s after a kill, all open in the kernel", began.elapsed().as_secs_f64());
    assert_eq!(kernel_opens(&world), OPEN_SIMS);

    nas.tell(Status::Start, UNPAID..UNPAID + 2 * LIFTS).unwrap();
    let by_api = (UNPAID..UNPAID + LIFTS).map(|number| timed(|| set(&world, number, "active")));
    let p99 =
        tell("lift by the admin API, called to answered: the kernel is told", by_api.collect());
    tell_metric(&world, "api");
    let orders = listening(gateway, "coa");
    let socket = gateway.namespace().call(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
    socket.connect(orders).unwrap();
    let by_order =
        (UNPAID + LIFTS..UNPAID + 2 * LIFTS).map(|number| timed(|| order(&socket, number)));
    tell("lift by an order, sent to confirmed", by_order.collect());
    tell_metric(&world, "coa");
    let first = (0..CYCLES).map(|_| first_packet(&world)).collect();
    tell("first connection of a SIM through the kernel, from the call on", first);
    p99
}

/// From the call at one node to the verdict of the other.
fn two_nodes() -> Duration {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success(), "the private environment has no loopback");
    let server = Redis::start().unwrap();
    let state = format!("engine = \"redis\"\nservers = [\"redis://{}\"]\n", server.address());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [near, far] = folders.each_ref().map(|folder| node(folder.path(), &state));
    let api = |gateway: &Gateway| Api::at(gateway.admin_address().unwrap(), TOKEN).unwrap();
    let (mut orders, mut asks) = (api(&near), api(&far));
    let nas = Nas::at(listening(&near, "radius")).unwrap();
    nas.tell(Status::Start, UNPAID..UNPAID + LIFTS).unwrap();
    for number in UNPAID..UNPAID + LIFTS {
        let path = format!("/v1/bindings/{}", address(number));
        while asks.call("GET", &path, "").is_err() {}
    }
    let mut class = |number: u32| {
        let path = format!("/v1/explain?ip={}&target=https://www.example.com", address(number));
        asks.call("GET", &path, "").unwrap()
    };
    let times = (UNPAID..UNPAID + LIFTS).map(|number| {
        timed(|| {
            let path = format!("/v1/sims/imsi:{}", imsi(number));
            orders.call("PUT", &path, r#"{"state":"active"}"#).unwrap();
            while !class(number).contains("\"paid\"") {}
        })
    });
    tell("lift across two nodes, called at one to the verdict of the other", times.collect())
}

fn node(folder: &Path, state: &str) -> Gateway {
    let settings = format!("{NODE}[state]\n{state}");
    for (name, text) in [
        ("gateway.toml", settings.as_str()),
        ("policy.toml", POLICY),
        ("secret", SECRET),
        ("admin.token", TOKEN),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let gateway = Gateway::at(options().binary, folder).unwrap();
    gateway.start().unwrap();
    gateway
}

fn listening(gateway: &Gateway, service: &str) -> SocketAddr {
    gateway.listening(service).first().copied().unwrap()
}

fn options() -> Options {
    Options::of_this_build()
}

/// SIMs that are open in the kernel, by its own list.
fn kernel_opens(world: &World) -> u32 {
    let listed = world.gateway().namespace().call(|| {
        let mut command = Command::new("nft");
        command.args(["-j", "list", "set", "inet", "postern", "sim_open4"]).output().unwrap()
    });
    let text = String::from_utf8(listed.stdout).unwrap();
    u32::try_from(text.matches("\"10.").count()).unwrap()
}

fn set(world: &World, number: u32, state: &str) {
    let path = format!("/v1/sims/imsi:{}", imsi(number));
    let body = format!(r#"{{"state":"{state}","create":true}}"#);
    let reply = world.gateway().admin(Method::PUT, &path, &body).unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
}

fn order(socket: &UdpSocket, number: u32) {
    let [.., identifier] = number.to_be_bytes();
    let request = Request::change(identifier).with(11, b"active").with_imsi(&imsi(number));
    socket.send(&request.signed(SECRET)).unwrap();
    let mut answer = [0; 64];
    socket.recv(&mut answer).unwrap();
    assert_eq!((answer[0], answer[1]), (44, identifier));
}

/// From the call that lifts to a connection past the proxy.
fn first_packet(world: &World) -> Duration {
    let sim = world.ue(1);
    let path = format!("/v1/bindings/{}", sim.address(Family::V4));
    let body = format!(r#"{{"imsi":"{}"}}"#, imsi(NOBODY));
    assert_eq!(world.gateway().admin(Method::PUT, &path, &body).unwrap().status, StatusCode::OK);
    set(world, NOBODY, "exhausted");
    // A port the garden refuses and the decoy serves.
    let far = (place("www.bing.com").unwrap().address(Family::V4), 22).into();
    assert!(!matches!(sim.connect(far).outcome, Outcome::Connected));
    timed(|| {
        set(world, NOBODY, "active");
        let seen = sim.connect(far);
        assert!(matches!(seen.outcome, Outcome::Connected), "{seen}");
    })
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn tell(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 1000).copied().unwrap_or_default();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let [median, p99, max] = [at(500), at(990), at(999)].map(milliseconds);
    println!(
        "{what}: {} times, median {median:.2} ms, p99 {p99:.2} ms, max {max:.2} ms",
        times.len()
    );
    at(990)
}

fn tell_metric(world: &World, source: &str) {
    let metrics = world.gateway().metrics().unwrap();
    for bound in ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25"] {
        let labels = [("source", source), ("le", bound)];
        let below = metrics.sum("postern_lift_seconds_bucket", &labels).unwrap_or_default();
        let all = metrics.sum("postern_lift_seconds_count", &[("source", source)]).unwrap();
        println!("  postern_lift_seconds: {:6.2} % within {bound} s", 100.0 * below / all);
    }
}

const OPEN_SIMS: u32 = 100_000;
const LIFTS: u32 = 1_000;
const CYCLES: usize = 200;
/// SIMs from here on are open only with a plan.
const UNPAID: u32 = 1_000_000;
/// A SIM that no NAS speaks of.
const NOBODY: u32 = 9_999_999;
/// The design's p99 of a lift on one node.
const TARGET: Duration = Duration::from_millis(100);
/// And between nodes.
const TARGET_ACROSS: Duration = Duration::from_secs(1);

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const NODE: &str = r#"
node        = "bench"
environment = "lab"
policy      = "policy.toml"
[steering]
mode        = "none"
[dns]
listen      = ["127.0.0.1:0"]
upstreams   = ["udp://127.0.0.1:1"]
[admin]
listen      = "127.0.0.1:0"
token_file  = "admin.token"
[radius]
listen      = ["127.0.0.1:0"]
clients     = [{ name = "bench", address = "127.0.0.1", secret_file = "secret" }]
"#;

/// Half a million SIMs are open whatever their state.
const POLICY: &str = r#"
schema        = 1
name          = "bench"
serial        = 1
environment   = "lab"
default_class = "garden"
[http]
denied        = "close"
[[hostset]]
name     = "ours"
source   = "bench"
[[hostset.host]]
match    = "portal.acme.example"
schemes  = ["https"]
[[class]]
name     = "paid"
priority = 10
action   = "open"
match    = [{ state = ["active"] }]
[[class]]
name     = "staff"
priority = 20
action   = "open"
match    = [{ imsi = ["001010000000000-001010000499999"] }]
[[class]]
name     = "garden"
priority = 30
action   = "garden"
hostsets = ["ours"]
match    = [{ networks = ["10.0.0.0/8", "100.64.0.0/16", "2001:db8:64::/48"] }]
"#;
