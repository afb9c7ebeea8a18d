//! `unprovisioned-sim`: a SIM without a plan reaches every listed host by its listed scheme and
//! nothing else.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use super::{
    Journey,
    Outlook::{Anywhere, Namespaces},
    Step,
    expect::{alerted, denied, reached, refused, resolved},
};
use crate::{
    family::Family,
    places::{Place, Role, place, places},
    sim::{Fetch, Held, Outcome, Question, Transport},
    world::World,
};

pub(super) const JOURNEY: Journey = Journey {
    name: "unprovisioned-sim",
    about: "a SIM without a plan reaches every listed host by its listed scheme, and nothing else",
    steps,
};

fn steps(world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    for family in world.families() {
        names(*family, &mut steps);
    }
    for family in world.families() {
        hosts(*family, &mut steps);
    }
    for family in world.families() {
        decoys(*family, &mut steps);
        side_doors(*family, &mut steps);
        keep_alive(*family, &mut steps);
        second_sim(*family, &mut steps);
    }
    reload(&mut steps);
    aftermath(&mut steps);
    steps
}

fn names(family: Family, steps: &mut Vec<Step>) {
    for place in garden() {
        steps.push(Step::new(
            NAMES,
            format!("{} resolves, {family}", place.name),
            Anywhere,
            move |w| {
                let answer = w.ue(1).ask(&Question::address(place.name, family));
                resolved(w, place.name, family, &answer)
            },
        ));
    }
    for name in OUTSIDE {
        for transport in [Transport::Udp, Transport::Tcp] {
            let title = format!("{name} does not exist, {transport:?}, {family}");
            steps.push(Step::new(NAMES, title, Anywhere, move |w| {
                let seen = denied(&w.ue(1).ask(&Question::address(name, family).over(transport)))?;
                match w.upstream_questions(name, None) {
                    0 => Ok(seen),
                    count => Err(format!("the name went upstream {count} times")),
                }
            }));
        }
    }
    let title = format!("the NCSI name keeps its chain, over TCP, {family}");
    steps.push(Step::new(NAMES, title, Anywhere, move |w| {
        let question = Question::address(NCSI, family).over(Transport::Tcp);
        let answer = w.ue(1).ask(&question);
        let links = answer.answers.iter().filter(|record| record.kind == "CNAME").count();
        match links {
            2 => resolved(w, NCSI, family, &answer),
            _ => Err(format!("expected two links, saw {answer}")),
        }
    }));
    let title = format!("a question to a server of the SIM's choice is answered here, {family}");
    steps.push(Step::new(NAMES, title, Namespaces, move |w| {
        let elsewhere = place(BING).map(|place| place.address(family));
        let elsewhere = elsewhere.ok_or("no decoy")?;
        let server = SocketAddr::new(elsewhere, 53);
        let answer = w.ue(1).ask(&Question::address(LOGIN, family).to(server));
        resolved(w, LOGIN, family, &answer)
    }));
}

fn hosts(family: Family, steps: &mut Vec<Step>) {
    for place in garden() {
        for (listed, fetch) in [
            (place.schemes.http, fetch_http(place.name, family)),
            (place.schemes.https, fetch_https(place.name, family)),
        ] {
            let group = match place.role {
                Role::Listed => LISTED_HOSTS,
                Role::Operator | Role::Late | Role::Decoy => OPERATOR,
            };
            let verb = if listed { "opens" } else { "is refused" };
            let title = format!("{} {verb}, {family}", fetch.title());
            steps.push(Step::new(group, title, Anywhere, move |w| {
                let seen = w.ue(1).fetch(&fetch);
                match (listed, fetch.is_secure()) {
                    (true, _) => {
                        let text = reached(w, place.name, &seen)?;
                        content(place.name, &seen.outcome).map(|()| text)
                    }
                    (false, true) => alerted(&seen),
                    (false, false) => refused(&seen),
                }
            }));
        }
    }
}

fn decoys(family: Family, steps: &mut Vec<Step>) {
    for decoy in places().filter(|place| place.role == Role::Decoy) {
        let address = decoy.address(family);
        for fetch in [Fetch::http(decoy.name, family), Fetch::https(decoy.name, family)] {
            let title = format!("{} is refused on its own address, {family}", fetch.title());
            steps.push(Step::new(DECOYS, title, Anywhere, move |w| {
                let seen = w.ue(1).fetch(&fetch.clone().at(address));
                if fetch.is_secure() { alerted(&seen) } else { refused(&seen) }
            }));
        }
    }
    let title = format!("a listed name on a decoy's address reaches the listed host, {family}");
    steps.push(Step::new(DECOYS, title, Namespaces, move |w| {
        let forged = place(FORGED).ok_or("no such decoy")?.address(family);
        let seen = w.ue(1).fetch(&Fetch::https(LOGIN, family).at(forged));
        let text = reached(w, LOGIN, &seen)?;
        let plain = w.ue(1).fetch(&Fetch::http(LOGIN, family).at(forged));
        reached(w, LOGIN, &plain)?;
        Ok(text)
    }));
    let title = format!("a listed Host inside TLS for a decoy is refused, {family}");
    steps.push(Step::new(DECOYS, title, Anywhere, move |w| {
        let fetch = Fetch::https(LOGIN, family).with_sni(BING).with_host(LOGIN);
        alerted(&w.ue(1).fetch(&fetch))
    }));
}

fn second_sim(family: Family, steps: &mut Vec<Step>) {
    let title = format!("a second SIM reaches the portal and is refused elsewhere, {family}");
    steps.push(Step::new(SECOND_SIM, title, Anywhere, move |w| {
        let text = reached(w, PORTAL, &w.ue(2).fetch(&Fetch::https(PORTAL, family)))?;
        denied(&w.ue(2).ask(&Question::address(BING, family)))?;
        let bing = place(BING).ok_or("no such decoy")?.address(family);
        alerted(&w.ue(2).fetch(&Fetch::https(BING, family).at(bing)))?;
        Ok(text)
    }));
}

fn side_doors(family: Family, steps: &mut Vec<Step>) {
    for (name, port) in [("SSH", 22), ("DNS over TLS", 853)] {
        let title = format!("{name} (TCP {port}) is refused, {family}");
        steps.push(Step::new(SIDE_DOORS, title, Namespaces, move |w| {
            let address = place(BING).ok_or("no such decoy")?.address(family);
            refused(&w.ue(1).connect(SocketAddr::new(address, port)))
        }));
    }
    for host in [LOGIN, BING] {
        let title = format!("QUIC (UDP 443) to {host} is refused, {family}");
        steps.push(Step::new(SIDE_DOORS, title, Namespaces, move |w| {
            let address = place(host).ok_or("no such place")?.address(family);
            refused(&w.ue(1).send_datagram(SocketAddr::new(address, 443), b"not a QUIC packet"))
        }));
    }
}

fn keep_alive(family: Family, steps: &mut Vec<Step>) {
    let title = format!("the second request of a connection is judged too, {family}");
    steps.push(Step::new(KEEP_ALIVE, title, Anywhere, move |w| {
        let first = fetch_http(LOGIN, family);
        let held = w.ue(1).open(&first).map_err(|seen| format!("did not open: {seen}"))?;
        reached(w, LOGIN, &held.send(&first))?;
        refused(&held.send(&first.with_host(BING)))
    }));
}

fn reload(steps: &mut Vec<Step>) {
    let held: Rc<RefCell<Option<Held>>> = Rc::default();
    let family = Family::V4;
    let late = place(STATUS).expect("the late host is in the table");
    steps.push(Step::new(
        RELOAD,
        format!("{STATUS} is refused before the reload"),
        Anywhere,
        move |w| alerted(&w.ue(1).fetch(&Fetch::https(STATUS, family).at(late.address(family)))),
    ));
    let keep = Rc::clone(&held);
    steps.push(Step::new(
        RELOAD,
        "a session to the portal is opened and held",
        Anywhere,
        move |w| {
            let fetch = Fetch::https(PORTAL, family);
            let session = w.ue(1).open(&fetch).map_err(|seen| format!("did not open: {seen}"))?;
            let text = reached(w, PORTAL, &session.send(&fetch))?;
            *keep.borrow_mut() = Some(session);
            Ok(text)
        },
    ));
    steps.push(Step::new(RELOAD, "the policy file is replaced and put in force", Anywhere, |w| {
        let (text, serial) =
            with_status(w.policy_text()).ok_or("the policy has no place for it")?;
        w.write_policy(&text).map_err(|error| error.to_string())?;
        w.gateway().wait_for_serial(serial).map_err(|error| error.to_string())?;
        Ok(format!("serial {serial} in force"))
    }));
    for family in Family::BOTH {
        let title = format!("{STATUS} opens after the reload, {family}");
        steps.push(Step::new(RELOAD, title, Anywhere, move |w| {
            if !w.families().contains(&family) {
                return Ok("no such family here".to_owned());
            }
            reached(w, STATUS, &w.ue(1).fetch(&Fetch::https(STATUS, family)))
        }));
    }
    steps.push(Step::new(RELOAD, "the held session was not dropped", Anywhere, move |w| {
        let session = held.borrow_mut().take().ok_or("no session was held")?;
        reached(w, PORTAL, &session.send(&Fetch::https(PORTAL, family).path("/plans")))
    }));
}

fn aftermath(steps: &mut Vec<Step>) {
    for decoy in places().filter(|place| place.role == Role::Decoy) {
        let title = format!("{} was never asked for anything", decoy.name);
        steps.push(Step::new(AFTERMATH, title, Anywhere, move |w| {
            let hits = w.hits(decoy.name);
            match (hits.hellos, hits.requests) {
                (0, 0) => Ok("0 hellos, 0 requests".to_owned()),
                (hellos, requests) => Err(format!("{hellos} hellos, {requests} requests")),
            }
        }));
    }
    for name in [BING, FORGED] {
        let title = format!("{name} never saw a packet");
        steps.push(Step::new(AFTERMATH, title, Namespaces, move |w| {
            match w.hits(name).connections {
                0 => Ok("0 connections".to_owned()),
                count => Err(format!("{count} connections")),
            }
        }));
    }
    let title = "no packet of a SIM left the garden";
    steps.push(Step::new(AFTERMATH, title, Namespaces, |w| match w.leaked_packets() {
        Ok(Some(0)) => Ok("0 packets".to_owned()),
        Ok(count) => Err(format!("{count:?} packets")),
        Err(error) => Err(error.to_string()),
    }));
}

/// The policy with one more host and the next serial.
fn with_status(policy: &str) -> Option<(String, u64)> {
    let serial = policy.lines().find_map(|line| line.strip_prefix("serial"))?;
    let serial: u64 = serial.trim_start_matches([' ', '=']).trim().parse().ok()?;
    let entry =
        format!("[[hostset.host]]\nmatch = \"{STATUS}\"\nschemes = [\"https\"]\n\n[[class]]");
    let next = serial + 1;
    let text = policy
        .replacen(&format!("serial = {serial}"), &format!("serial = {next}"), 1)
        .replacen("[[class]]", &entry, 1);
    (text.contains(STATUS) && text.contains(&format!("serial = {next}"))).then_some((text, next))
}

/// The right body where a phone looks at it.
fn content(host: &str, outcome: &Outcome) -> Result<(), String> {
    let Outcome::Answered(answer) = outcome else {
        return Err("no answer".to_owned());
    };
    let right = match host {
        NCSI => answer.body.as_ref() == b"Microsoft Connect Test",
        SMDP => {
            answer.body.starts_with(b"{")
                && answer.header("content-type") == Some("application/json")
        }
        _ => !answer.body.is_empty(),
    };
    right.then_some(()).ok_or_else(|| format!("{host} answered another body: {:?}", answer.body))
}

fn garden() -> impl Iterator<Item = Place> {
    places().filter(|place| matches!(place.role, Role::Listed | Role::Operator))
}

fn fetch_http(host: &str, family: Family) -> Fetch {
    let fetch = Fetch::http(host, family);
    if host == NCSI { fetch.path("/connecttest.txt") } else { fetch }
}

fn fetch_https(host: &str, family: Family) -> Fetch {
    let fetch = Fetch::https(host, family);
    if host == SMDP {
        return fetch.path("/gsma/rsp2/es9plus/initiateAuthentication").post(
            r#"{"euiccChallenge":"AAAAAAAAAAAAAAAAAAAAAA==","smdpAddress":"smdp.acme.example"}"#,
        );
    }
    fetch
}

const NAMES: &str = "names";
const LISTED_HOSTS: &str = "listed hosts";
const OPERATOR: &str = "operator";
const DECOYS: &str = "decoys";
const SIDE_DOORS: &str = "side doors";
const KEEP_ALIVE: &str = "keep-alive";
const SECOND_SIM: &str = "second SIM";
const RELOAD: &str = "reload";
const AFTERMATH: &str = "aftermath";

const NCSI: &str = "www.msftconnecttest.com";
const LOGIN: &str = "login.live.com";
const PORTAL: &str = "portal.acme.example";
const SMDP: &str = "smdp.acme.example";
const STATUS: &str = "status.acme.example";
const BING: &str = "www.bing.com";
const FORGED: &str = "forged.example";
const OUTSIDE: [&str; 4] = [BING, "twin.example", FORGED, "nobody-lives-here.example"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_late_host_joins_the_last_host_set_and_the_serial_rises() {
        let policy = "serial = 7\n[[hostset]]\nname = \"a\"\n\n[[class]]\nname = \"b\"\n";
        let (text, serial) = with_status(policy).unwrap();
        assert_eq!(serial, 8);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["serial"].as_integer(), Some(8));
        let host = &table["hostset"][0]["host"][0];
        assert_eq!(host["match"].as_str(), Some(STATUS));
        assert_eq!(table["class"][0]["name"].as_str(), Some("b"));
    }

    #[test]
    fn a_policy_without_serial_or_class_is_left_alone() {
        assert_eq!(with_status("[[class]]\n"), None);
        assert_eq!(with_status("serial = 7\n"), None);
    }
}
