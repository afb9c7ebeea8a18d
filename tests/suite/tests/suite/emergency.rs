//! Emergency: a class that an operator opens is open in the kernel too, and shut again at its end,
//! whatever happens to the process meanwhile.

use std::fs;

use http::Method;
use lab::{Fetch, World};
use serde_json::{Value, json};

use crate::{
    desk::{Desk, Running},
    stage::{
        self, BING, Family, address, assert_garden, assert_reached, assert_refused, eventually,
        metric, world,
    },
};

#[test]
fn class_is_open_until_it_is_closed() {
    let world = world();
    assert_shut(&world);
    let reply = open(&world, "unprovisioned", 600);
    assert_eq!(reply, 200);
    assert_open(&world);
    let class = [("class", "unprovisioned")];
    assert_eq!(metric(&world, "postern_emergency_open", &class), 1.0);

    let reply = world.gateway().admin(Method::DELETE, "/v1/emergency", "").unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_shut(&world);
    assert_eq!(metric(&world, "postern_emergency_open", &[]), 0.0);
}

#[test]
fn emergency_ends_by_itself() {
    let world = world();
    assert_eq!(open(&world, "unprovisioned", 4), 200);
    assert_open(&world);
    eventually("the end of the emergency", || {
        (metric(&world, "postern_emergency_open", &[]) == 0.0).then_some(())
    });
    assert_shut(&world);
    // A reload in between does not lengthen it, nor does it end it.
    assert_eq!(open(&world, "unprovisioned", 600), 200);
    world.gateway().reload().unwrap();
    assert_open(&world);
}

#[test]
fn nobody_opens_a_class_without_the_token() {
    let world = world();
    let wish = wish("unprovisioned", 60);
    for (method, body) in [(Method::POST, &*wish), (Method::DELETE, "")] {
        let reply = world.gateway().admin_with(None, method, "/v1/emergency", body).unwrap();
        assert_eq!(reply.status, 401, "{}", reply.body);
    }
    for (class, seconds, status) in
        [("nobody", 60, 404), ("unprovisioned", 0, 400), ("unprovisioned", 43_201, 400)]
    {
        assert_eq!(open(&world, class, seconds), status, "{class} {seconds}");
    }
    assert_garden(&world);
}

#[test]
fn emergency_outlives_a_killed_gateway_and_not_its_end() {
    let desk = Desk::new();
    desk.write(1, "one.example.com");
    desk.sign("release.key");
    let node = desk.start();
    for (class, time, said) in [
        ("barred", "10m", "class `barred` has action `drop`"),
        ("nobody", "10m", "no class `nobody`"),
        ("unprovisioned", "13h", "1 s to 43200 s are allowed"),
    ] {
        let (code, answer) = order(&node, class, time);
        assert!(code == 1 && answer.contains(said), "{code} {answer}");
    }
    assert_eq!(order(&node, "unprovisioned", "10m").0, 0);
    // Killed, not stopped.
    drop(node);
    let node = desk.start();
    let (code, said) = node.ask(&["emergency", "show"]);
    assert!(code == 1 && said.contains("class unprovisioned is open until "), "{code} {said}");
    let (_, said) = node.ask(&["status"]);
    assert!(said.contains("EMERGENCY  class unprovisioned is open until "), "{said}");
    assert_eq!(node.ask(&["emergency", "close"]).0, 0);
    assert_eq!(node.ask(&["emergency", "show"]), (0, "nothing is open\n".to_owned()));

    assert_eq!(order(&node, "unprovisioned", "2s").0, 0);
    let end = openings(&node)[0]["until"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    drop(node);
    eventually("the end", || (stage::now() > end).then_some(()));
    assert_eq!(openings(&desk.start()), Vec::<Value>::new());

    let audit = fs::read_to_string(desk.path("audit.jsonl")).unwrap();
    let events = |event: &str| audit.matches(&format!("\"event\":\"{event}\"")).count();
    assert_eq!((events("emergency-opened"), events("emergency-closed")), (2, 1), "{audit}");
    assert!(audit.contains("\"reason\":\"payment provider down\""), "{audit}");
}

fn order(node: &Running, class: &str, time: &str) -> (i32, String) {
    node.ask(&[
        "emergency",
        "open",
        "--class",
        class,
        "--for",
        time,
        "--reason",
        "payment provider down",
    ])
}

fn openings(node: &Running) -> Vec<Value> {
    node.status()["emergency"].as_array().unwrap().clone()
}

fn wish(class: &str, seconds: u64) -> String {
    json!({ "class": class, "seconds": seconds, "reason": "payment provider down" }).to_string()
}

fn open(world: &World, class: &str, seconds: u64) -> u16 {
    let body = wish(class, seconds);
    world.gateway().admin(Method::POST, "/v1/emergency", &body).unwrap().status.as_u16()
}

/// What no garden lists, asked by its address: the kernel lets it pass.
fn assert_open(world: &World) {
    for family in Family::BOTH {
        let page = Fetch::https(BING, family).at(address(BING, family));
        assert_reached(BING, &world.ue(1).fetch(&page));
    }
}

fn assert_shut(world: &World) {
    for family in Family::BOTH {
        let page = Fetch::https(BING, family).at(address(BING, family));
        assert_refused(BING, &world.ue(1).fetch(&page));
    }
}
