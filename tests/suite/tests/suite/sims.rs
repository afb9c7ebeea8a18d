//! SIMs: lift and wall, grants, webhooks, and what is refused of them.

mod canary;
mod told;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use http::{Method, StatusCode};
use lab::{AdminReply, Fetch, Hook, World};
use serde_json::Value;

use crate::{
    stage::{
        BING, Family, PORTAL, address, assert_reached, assert_refused, assert_sealed, at,
        eventually, metric, options, world,
    },
    tool::{finish, postern},
};

#[test]
fn journey_of_a_sim_that_buys_is_green() {
    let world = world();
    let journey = lab::find("lift").unwrap();
    let steps = lab::perform(journey, &world, |_, _| {});
    let failed: Vec<_> = steps.iter().filter(|step| step.is_failed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(steps.iter().all(|step| step.verdict != lab::Verdict::NotShown));
    for step in &steps {
        if let lab::Verdict::Passed { seen } = &step.verdict
            && seen.contains("answered after")
        {
            println!("{}: {seen}", step.name);
        }
    }
    let lifts = metric(&world, "postern_lift_seconds_count", &[("source", "webhook")]);
    assert!(lifts >= 4.0, "{lifts} lifts and walls by webhook, of two addresses each");
}

#[test]
fn what_cannot_be_understood_changes_nothing_and_names_nobody() {
    let world = world();
    let ask =
        |method: Method, path: &str, body: &str| world.gateway().admin(method, path, body).unwrap();
    let sim = format!("/v1/sims/iccid:{ICCID}");
    let long = format!("{{\"state\":\"{}\"}}", "a".repeat(5000));
    for (method, path, body, status, reason) in [
        (Method::GET, sim.as_str(), "", 404, "unknown-sim"),
        (Method::PUT, &sim, r#"{"state":"active"}"#, 404, "unknown-sim"),
        (Method::PUT, &sim, r#"{"state":"rich","create":true}"#, 400, "bad-body"),
        (Method::PUT, &sim, r#"{"state":"active","create":true,"x":1}"#, 400, "bad-body"),
        (Method::PUT, &sim, r#"{"state":"active","create":true"#, 400, "bad-body"),
        (Method::PUT, &sim, r#"{"create":true}"#, 400, "bad-body"),
        (Method::PUT, &sim, r#"{"iccid":"8988247000100000009","create":true}"#, 400, "bad-body"),
        (Method::PUT, &sim, r#"{"imsi":"0010100000000x1","create":true}"#, 400, "bad-identity"),
        (Method::PUT, &sim, &long, 413, "too-large"),
        (Method::PUT, "/v1/sims/iccid:89882470001", "{}", 400, "bad-identity"),
        (Method::PUT, "/v1/sims/8988247000100000001", "{}", 400, "bad-identity"),
        (Method::PUT, "/v1/sims/imei:490154203237518", "{}", 400, "bad-identity"),
        (Method::POST, &format!("{sim}/grants"), GRANT, 404, "unknown-sim"),
        (
            Method::PUT,
            "/v1/bindings/100.64.1.0%2F24",
            r#"{"imsi":"001010000000001"}"#,
            400,
            "bad-address",
        ),
        (
            Method::PUT,
            "/v1/bindings/127.0.0.1",
            r#"{"imsi":"001010000000001"}"#,
            400,
            "bad-address",
        ),
        (Method::PUT, "/v1/bindings/nowhere", r#"{"imsi":"001010000000001"}"#, 400, "bad-address"),
        (Method::PUT, "/v1/bindings/100.64.1.2", "{}", 400, "bad-body"),
        (Method::GET, "/v1/bindings/100.64.1.2", "", 404, "unknown-binding"),
        (Method::GET, "/v1/sims?state=rich", "", 400, "bad-body"),
    ] {
        let before = metric(&world, REFUSED, &[("reason", reason)]);
        let reply = ask(method, path, body);
        assert_eq!(reply.status.as_u16(), status, "{path} {body}: {reply:?}");
        let problem: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(problem["status"], status, "{reply:?}");
        assert!(!reply.body.contains("00100000"), "{reply:?}");
        assert_eq!(metric(&world, REFUSED, &[("reason", reason)]), before + 1.0, "{path} {body}");
    }
    let none = ask(Method::GET, "/v1/sims", "");
    assert_eq!(none.body, r#"{"next":null,"sims":[]}"#, "nothing may be half applied");
    for (method, path) in [
        (Method::GET, sim.as_str()),
        (Method::PUT, &sim),
        (Method::GET, "/v1/sims"),
        (Method::GET, "/v1/bindings/100.64.1.2"),
        (Method::DELETE, "/v1/bindings/100.64.1.2"),
    ] {
        let reply =
            world.gateway().admin_with(Some("no-such-token-at-all"), method, path, "").unwrap();
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_names_nobody(&world);
    assert_sealed(&world);
}

#[test]
fn webhooks_count_once_within_their_window_and_only_when_signed() {
    let world = world();
    attach(&world);
    let send = |hook: &Hook| world.gateway().send_hook(hook).unwrap();
    let good = Hook::of(world.ue(1), "active");
    let stolen = Hook { body: good.body.replace("active", "barred"), ..good.clone() };
    let forged = Hook { signature: "v1,AAAA".into(), ..good.clone() };
    let stale = Hook::signed("msg_stale", 400, &good.body);
    let wrong = Hook::signed("msg_wrong", 0, r#"{"type":"sim.state","data":{}}"#);
    let unknown = Hook::signed(
        "msg_unknown",
        0,
        r#"{"type":"sim.state","data":{"sim":"iccid:8988247000100009999","state":"active"}}"#,
    );
    for (hook, status, reason) in [
        (&stolen, 401, "bad-signature"),
        (&forged, 401, "bad-signature"),
        (&stale, 400, "stale"),
        (&wrong, 400, "bad-body"),
        (&unknown, 404, "unknown-sim"),
    ] {
        let before = metric(&world, REFUSED, &[("reason", reason)]);
        let reply = send(hook);
        assert_eq!(reply.status.as_u16(), status, "{reply:?}");
        assert_eq!(metric(&world, REFUSED, &[("reason", reason)]), before + 1.0, "{reason}");
    }
    assert_eq!(sim(&world)["state"], "unprovisioned");
    assert_eq!(send(&good).status, StatusCode::OK);
    assert_eq!(sim(&world)["state"], "active");
    assert_eq!(send(&Hook::of(world.ue(1), "exhausted")).status, StatusCode::OK);
    // The very same octets again are an attacker's.
    assert_eq!(send(&good).status, StatusCode::CONFLICT);
    assert_eq!(metric(&world, REFUSED, &[("reason", "replayed")]), 1.0);
    // The same id later is the sender's second try, and counts for nothing.
    let again = eventually("another second", || {
        let again = Hook::signed(&good.id, 0, &good.body);
        (again.timestamp != good.timestamp).then_some(again)
    });
    assert_eq!(send(&again).body, r#"{"outcome":"repeated"}"#);
    assert_eq!(sim(&world)["state"], "exhausted");
    let other = Hook::signed(&good.id, 0, &Hook::of(world.ue(1), "barred").body);
    assert_eq!(send(&other).status, StatusCode::CONFLICT);
    assert_eq!(sim(&world)["state"], "exhausted");
    assert_names_nobody(&world);
}

#[test]
fn a_grant_is_held_to_its_bytes_by_the_kernel() {
    const BYTES: u64 = 2_000_000;
    let world = world();
    attach(&world);
    let server = at(BING, Family::V4, 4443);
    let listener = world.net().call(move || TcpListener::bind(server)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while stream.write_all(&[7; 65536]).is_ok() {}
        }
    });
    let grant = format!(r#"{{"seconds":300,"bytes":{BYTES}}}"#);
    let before = link_bytes(&world);
    assert_eq!(ask(&world, Method::POST, "/grants", &grant).status, StatusCode::CREATED);
    let read = world.ue(1).namespace().call(move || download(server));
    // What the neighbours and the link layer add is not the SIM's.
    let carried = link_bytes(&world) - before;
    let over = carried.saturating_sub(BYTES);
    println!(
        "a grant of {BYTES} bytes: {read} bytes read, {carried} on the SIM's link with its headers \
         and neighbours: {over} over the bound"
    );
    assert!(read > BYTES * 9 / 10, "only {read} bytes of {BYTES} came through");
    assert!(read <= BYTES, "{read} bytes came through, {BYTES} were granted");
    eventually("the grant's end", || sim(&world)["grant"].is_null().then_some(()));
    assert_eq!(metric(&world, "postern_grants_ended_total", &[("by", "bytes")]), 1.0);
    assert_refused(BING, &world.ue(1).fetch(&bing(Family::V4)));
    // No disconnect: the garden is there at once.
    assert_reached(PORTAL, &world.ue(1).fetch(&Fetch::https(PORTAL, Family::V4)));
}

#[test]
fn the_seventh_grant_of_an_hour_is_refused_after_a_restart_too() {
    let world = world();
    attach(&world);
    for number in 1..=6 {
        let reply = ask(&world, Method::POST, "/grants", GRANT);
        assert_eq!(reply.status, StatusCode::CREATED, "grant {number}: {reply:?}");
        assert_reached(BING, &world.ue(1).fetch(&bing(Family::V6)));
        assert_eq!(ask(&world, Method::DELETE, "/grants", "").status, StatusCode::OK);
        assert_refused(BING, &world.ue(1).fetch(&bing(Family::V6)));
    }
    let reply = ask(&world, Method::POST, "/grants", GRANT);
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{reply:?}");
    assert!(reply.body.contains("at most 6"), "{reply:?}");
    assert_eq!(metric(&world, "postern_grants_refused_total", &[("reason", "grant-hour")]), 1.0);
    // The journal remembers, whatever ends the gateway.
    world.gateway().kill();
    world.gateway().start().unwrap();
    attach(&world);
    assert_eq!(ask(&world, Method::POST, "/grants", GRANT).status, StatusCode::TOO_MANY_REQUESTS);
    assert_names_nobody(&world);
}

#[test]
fn the_eleventh_grant_of_a_day_is_refused() {
    let world = World::start(lab::Options { start_gateway: false, ..options() }).unwrap();
    let settings = world.settings_text().unwrap();
    world.write_settings(&settings.replace("[grants]", "[grants]\nper_hour = 20")).unwrap();
    world.gateway().start().unwrap();
    attach(&world);
    for number in 1..=10 {
        let reply = ask(&world, Method::POST, "/grants", GRANT);
        assert_eq!(reply.status, StatusCode::CREATED, "grant {number}: {reply:?}");
        assert_eq!(ask(&world, Method::DELETE, "/grants", "").status, StatusCode::OK);
    }
    let reply = ask(&world, Method::POST, "/grants", GRANT);
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{reply:?}");
    assert!(reply.body.contains("at most 10"), "{reply:?}");
    assert_eq!(metric(&world, "postern_grants_refused_total", &[("reason", "grant-day")]), 1.0);
    assert_refused(BING, &world.ue(1).fetch(&bing(Family::V4)));
}

#[test]
fn a_grant_that_runs_goes_on_after_a_kill_with_its_bytes_counted() {
    let world = world();
    attach(&world);
    assert_eq!(ask(&world, Method::POST, "/grants", GRANT).status, StatusCode::CREATED);
    assert_reached(BING, &world.ue(1).fetch(&bing(Family::V4)));
    let used = |world: &World| sim(world)["grant"]["used"].as_u64();
    eventually("bytes", || used(&world).filter(|used| *used > 0));
    world.gateway().kill();
    assert_reached(BING, &world.ue(1).fetch(&bing(Family::V4)));
    world.gateway().start().unwrap();
    attach(&world);
    let before = used(&world);
    assert!(before > Some(1000), "what the kernel had counted is lost: {}", sim(&world));
    assert_reached(BING, &world.ue(1).fetch(&bing(Family::V6)));
    eventually("more bytes", || used(&world).filter(|used| Some(*used) > before));
}

#[test]
fn a_walled_sim_in_an_open_network_is_walled_and_a_reload_moves_it() {
    let staff = "[[class]]\nname = \"staff\"\npriority = 200\naction = \"open\"\n[[class.match]]\n\
                 networks = [\"100.64.0.0/16\", \"2001:db8:64::/48\"]\n\n";
    let first = world();
    let text = first.policy_text().to_owned();
    drop(first);
    let by_state = text.replacen("[[class]]", &format!("{staff}[[class]]"), 1);
    let (head, tail) = by_state.rsplit_once("networks = ").unwrap();
    let rest = tail.split_once('\n').unwrap().1;
    let by_state = format!("{head}state = [\"unprovisioned\", \"exhausted\"]\n{rest}");
    let world = World::start(lab::Options { policy: Some(by_state), ..options() }).unwrap();
    for family in Family::BOTH {
        // Nobody is bound: the network decides.
        assert_reached(BING, &world.ue(1).fetch(&bing(family)));
    }
    attach(&world);
    for family in Family::BOTH {
        assert_refused(BING, &world.ue(1).fetch(&bing(family)));
        assert_reached(BING, &world.ue(2).fetch(&bing(family)));
    }
    let reply = ask(&world, Method::PUT, "", r#"{"state":"active"}"#);
    assert_eq!(reply.status, StatusCode::OK);
    for family in Family::BOTH {
        assert_reached(BING, &world.ue(1).fetch(&bing(family)));
    }
    // A killed gateway leaves the kernel as it was: who paid goes on, nobody else gets out.
    world.gateway().kill();
    assert_reached(BING, &world.ue(1).fetch(&bing(Family::V4)));
}

#[test]
fn the_command_line_speaks_of_sims() {
    let world = world();
    let run = |arguments: &[&str]| {
        let config = world.directory().join("gateway.toml");
        let mut command: Command = postern();
        command.arg("sim").args(arguments);
        if !arguments.contains(&"--config") {
            command.arg("--config").arg(config);
        }
        let (code, said) = world.gateway().namespace().call(move || finish(&mut command));
        (code, said)
    };
    let name = format!("iccid:{ICCID}");
    assert_eq!(run(&["show", &name]).0, 1);
    assert_eq!(run(&["set", &name, "active"]).0, 1);
    let imsi = world.ue(1).imsi();
    let (code, said) = run(&["set", &name, "active", "--imsi", &imsi, "--create"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("state      active, by api at "), "{said}");
    assert!(said.contains("class      paid, open"), "{said}");
    let (code, said) = run(&["list", "--state", "active", "--format", "json"]);
    let listed: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &listed["result"]["sims"][0]["iccid"]), (0, &Value::from(ICCID)));
    let (code, said) = run(&["grant", &name]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("open: it has no use for a grant"), "{said}");
    let other = world.directory().join("none.toml");
    assert_eq!(run(&["show", &name, "--config", other.to_str().unwrap()]).0, 2);
    attach(&world);
    let explain = |world: &World| {
        let (policy, config) = (world.policy_file(), world.directory().join("gateway.toml"));
        let ip = world.ue(1).address(Family::V6).to_string();
        let mut command: Command = postern();
        command.args(["explain", "--live", "--ip", &ip, "https://www.bing.com", "--policy"]);
        command.arg(policy).arg("--config").arg(config);
        world.gateway().namespace().call(move || finish(&mut command))
    };
    assert_eq!(explain(&world).0, 1, "{}", explain(&world).1);
    assert_eq!(run(&["set", &name, "active"]).0, 0);
    let (code, said) = explain(&world);
    assert!(code == 0 && said.contains("paid (open)"), "{said}");
}

/// Reads until the far end or the kernel ends it.
fn download(server: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let (mut read, mut buffer) = (0, vec![0; 65536]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        read += u64::try_from(length).unwrap();
    }
    read
}

/// Bytes that went over the first SIM's link, both ways.
fn link_bytes(world: &World) -> u64 {
    world.ue(1).namespace().call(|| {
        let read = |name: &str| {
            let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
            let numbers: Vec<u64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
            numbers[0] + numbers[8]
        };
        read("eth0:")
    })
}

/// Binds the first SIM to its addresses, without a plan.
fn attach(world: &World) {
    bind(world, 1);
}

/// Binds a SIM to its addresses, without a plan.
fn bind(world: &World, number: u8) {
    let sim = world.ue(number);
    let put = |path: String, body: String| {
        let reply = world.gateway().admin(Method::PUT, &path, &body).unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    };
    let imsi = sim.imsi();
    for family in Family::BOTH {
        let path = format!("/v1/bindings/{}", sim.address(family));
        put(path, format!(r#"{{"imsi":"{imsi}"}}"#));
    }
    let body = format!(r#"{{"imsi":"{imsi}","state":"unprovisioned","create":true}}"#);
    put(format!("/v1/sims/iccid:{}", sim.iccid()), body);
}

fn ask(world: &World, method: Method, below: &str, body: &str) -> AdminReply {
    let path = format!("/v1/sims/iccid:{}{below}", world.ue(1).iccid());
    world.gateway().admin(method, &path, body).unwrap()
}

fn sim(world: &World) -> Value {
    serde_json::from_str(&ask(world, Method::GET, "", "").body).unwrap()
}

fn bing(family: Family) -> Fetch {
    Fetch::https(BING, family).at(address(BING, family))
}

/// Neither the log nor the metrics hold an identity or a SIM's address.
fn assert_names_nobody(world: &World) {
    let log = fs::read_to_string(world.gateway().log_file()).unwrap();
    let metrics = world.gateway().admin(Method::GET, "/metrics", "").unwrap().body;
    for text in [log, metrics] {
        for secret in ["0010100000", "89882470", "4915100", "100.64.1.2", "2001:db8:64:1"] {
            assert!(!text.contains(secret), "{secret} is in\n{text}");
        }
    }
}

const ICCID: &str = "8988247000100000001";
const GRANT: &str = r#"{"seconds":300,"bytes":5000000}"#;
const REFUSED: &str = "postern_sim_requests_refused_total";
