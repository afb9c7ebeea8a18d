//! The stage of the stories: worlds in namespaces of this process's own, and what is expected of
//! them.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    process::Command,
    thread,
    time::Duration,
};

pub(crate) use lab::Family;
use lab::{Fetch, Form, Options, Outcome, Seen, World};

use crate::tool::{postern, succeed};

/// Listed for both schemes.
pub(crate) const LOGIN: &str = "login.live.com";
/// Listed for HTTP alone.
pub(crate) const HTTP_ONLY: &str = "ctldl.windowsupdate.com";
/// Listed for HTTPS alone, in a host set of the policy itself.
pub(crate) const PORTAL: &str = "portal.acme.example";
/// Not listed until a reload lists it.
pub(crate) const STATUS: &str = "status.acme.example";
/// Never listed.
pub(crate) const BING: &str = "www.bing.com";
/// Never listed, on the addresses of [`LOGIN`].
pub(crate) const TWIN: &str = "twin.example";

/// How a world of the stories is built, unless a story says otherwise.
pub(crate) fn options() -> Options {
    let private = lab::private::is_started();
    assert!(private, "the stories need namespaces of their own; tests/run gives them some");
    let mut options = Options::new(postern().get_program().to_owned());
    options.form = Form::Namespaces;
    options
}

/// A world with two SIMs and a running gateway.
pub(crate) fn world() -> World {
    World::start(options()).unwrap()
}

/// The time a window or an emergency is measured against.
#[expect(clippy::disallowed_methods, reason = "the gateway goes by the same clock")]
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The address of a host of the emulated Internet.
pub(crate) fn address(host: &str, family: Family) -> IpAddr {
    lab::place(host).unwrap_or_else(|| panic!("no host {host}")).address(family)
}

/// The same with a port.
pub(crate) fn at(host: &str, family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(address(host, family), port)
}

/// The gateway's own address towards the first SIM.
pub(crate) fn gateway_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => "100.64.1.1".parse().unwrap(),
        Family::V6 => "2001:db8:64:1::1".parse().unwrap(),
    }
}

/// The policy in force, as the admin API tells it.
pub(crate) fn in_force(world: &World) -> serde_json::Value {
    let reply = world.gateway().admin(http::Method::GET, "/v1/policy", "").unwrap();
    serde_json::from_str(&reply.body).unwrap()
}

/// Serial and generation of the policy in force.
pub(crate) fn generation(world: &World) -> (u64, u64) {
    let policy = in_force(world);
    (policy["serial"].as_u64().unwrap(), policy["generation"].as_u64().unwrap())
}

/// The sum of a metric over the labels left open; 0 while there is no sample.
pub(crate) fn metric(world: &World, name: &str, labels: &[(&str, &str)]) -> f64 {
    world.gateway().metrics().unwrap().sum(name, labels).unwrap_or(0.0)
}

/// Everything a gateway sets in the kernel of its namespace, by what tells it.
pub(crate) fn kernel(world: &World) -> BTreeMap<&'static str, String> {
    let tables = [
        "nft -s list ruleset",
        "ip -4 rule show",
        "ip -6 rule show",
        "ip -4 route show table all",
        "ip -6 route show table all",
    ];
    let settings = ["/proc/sys/net/ipv4/icmp_ratemask", "/proc/sys/net/ipv6/icmp/ratemask"];
    world.gateway().namespace().call(move || {
        let tell = |line: &str| {
            let mut words = line.split(' ');
            let said = succeed(Command::new(words.next().unwrap()).args(words));
            // Routes of the kernel's own, and a link's carrier, come whenever they like.
            let ours = said.lines().filter(|line| !line.contains("proto kernel"));
            ours.map(|line| line.replace(" linkdown", "")).collect::<Vec<_>>().join("\n")
        };
        let tables = tables.map(|line| (line, tell(line)));
        let settings = settings.map(|file| (file, fs::read_to_string(file).unwrap()));
        tables.into_iter().chain(settings).collect()
    })
}

/// Asserts that the host itself answered.
#[track_caller]
pub(crate) fn assert_reached(host: &str, seen: &Seen) {
    let right = seen.host() == Some(host)
        && matches!(&seen.outcome, Outcome::Answered(answer) if answer.status.is_success());
    assert!(right, "expected an answer of {host}, saw {seen}");
}

/// Asserts that the attempt was turned away so that a phone notices at once.
#[track_caller]
pub(crate) fn assert_refused(what: &str, seen: &Seen) {
    assert!(seen.is_refused_at_once(), "{what}: expected a refusal at once, saw {seen}");
}

/// Asserts that the garden is as it should be: a listed host open, an unlisted one shut.
#[track_caller]
pub(crate) fn assert_garden(world: &World) {
    for family in Family::BOTH {
        assert_reached(LOGIN, &world.ue(1).fetch(&Fetch::https(LOGIN, family)));
        assert_reached(LOGIN, &world.ue(1).fetch(&Fetch::http(LOGIN, family)));
        let bing = Fetch::https(BING, family).at(address(BING, family));
        assert_refused(BING, &world.ue(1).fetch(&bing));
        assert_refused("DNS", &world.ue(1).fetch(&Fetch::https(BING, family)));
    }
    assert_sealed(world);
}

/// Asserts that no packet of a SIM left, and that nobody outside the garden was asked.
#[track_caller]
pub(crate) fn assert_sealed(world: &World) {
    assert_eq!(world.leaked_packets().unwrap(), Some(0), "packets of a SIM got out");
    for decoy in [BING, TWIN, "forged.example"] {
        let hits = world.hits(decoy);
        assert_eq!((hits.hellos, hits.requests), (0, 0), "{decoy} was asked");
    }
    assert_eq!(world.hits(BING).connections, 0, "{BING} was connected to");
}

/// Looks until there is something to see.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(seen) = look() {
            return seen;
        }
        thread::park_timeout(BETWEEN_LOOKS);
    }
    panic!("waited in vain: {what}");
}

/// Thirty seconds together.
const LOOKS: usize = 3_000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
