//! `lift`: a SIM attaches, buys, is lifted, uses its plan up, is walled, tops up, is lifted again.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, thread};

use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    Journey,
    Outlook::Namespaces,
    Step,
    expect::{GARDEN_TTL, alerted, denied, reached, refused},
};
use crate::{
    clock,
    family::Family,
    operator::Hook,
    origin::UNANSWERED,
    pgw::Attached,
    places::place,
    sim::{DnsAnswer, Fetch, Held, Outcome, Question, Seen, Sim},
    world::World,
};

pub(super) const JOURNEY: Journey = Journey {
    name: "lift",
    about: "a SIM attaches, buys, is lifted, uses its plan up, is walled, tops up, has a grant",
    steps,
};

/// What one step leaves for another.
#[derive(Clone, Default)]
struct Kept {
    /// Sessions by their purpose and family.
    held: Rc<RefCell<HashMap<(&'static str, Family), Held>>>,
    /// The SIM's session with the network.
    attached: Rc<RefCell<Option<Attached>>>,
}

fn steps(_: &World) -> Vec<Step> {
    let kept = Kept::default();
    let mut steps = Vec::new();
    attach(&kept, &mut steps);
    walled(ATTACH, &mut steps);
    purchase(&kept, &mut steps);
    lifted(PURCHASE, &mut steps);
    after_purchase(&kept, &mut steps);
    exhausted(&kept, &mut steps);
    top_up(&mut steps);
    grant(&mut steps);
    detach(&kept, &mut steps);
    steps
}

fn attach(kept: &Kept, steps: &mut Vec<Step>) {
    let attached = Rc::clone(&kept.attached);
    let title = "the packet gateway says by RADIUS who has the addresses";
    steps.push(Step::new(ATTACH, title, Namespaces, move |w| {
        let session = w.pgw().attach(w.ue(1)).map_err(|error| error.to_string())?;
        let seen = format!("Start of {session} confirmed, both families");
        attached.borrow_mut().replace(session);
        Ok(seen)
    }));
    let title = "the shop's ICCID and the network's IMSI are of one SIM";
    steps.push(Step::new(ATTACH, title, Namespaces, |w| {
        let body =
            format!(r#"{{"imsi":"{}","state":"unprovisioned","create":true}}"#, w.ue(1).imsi());
        let sim = put_sim(w, &body)?;
        let addresses = sim.get("addresses").and_then(Value::as_array).map_or(0, Vec::len);
        match (addresses, text(&sim, "class")) {
            (2, class @ "unprovisioned") => Ok(format!("{class}, with both addresses")),
            (_, class) => Err(format!("{addresses} addresses, class {class}")),
        }
    }));
}

/// The garden holds, in both families.
fn walled(group: &'static str, steps: &mut Vec<Step>) {
    for family in Family::BOTH {
        let title = format!("{BING} is refused, {family}");
        steps.push(Step::new(group, title, Namespaces, move |w| {
            denied(&w.ue(1).ask(&Question::address(BING, family)))?;
            alerted(&w.ue(1).fetch(&bing(family)))
        }));
    }
}

/// The whole Internet is open, past us, in both families.
fn lifted(group: &'static str, steps: &mut Vec<Step>) {
    for family in Family::BOTH {
        let title =
            format!("{BING} resolves and opens, and is seen with the SIM's address, {family}");
        steps.push(Step::new(group, title, Namespaces, move |w| {
            operators_own(&w.ue(1).ask(&Question::address(BING, family)))?;
            let before = packets(w)?;
            let seen = reached(w, BING, &w.ue(1).fetch(&Fetch::https(BING, family)))?;
            if packets(w)? == before {
                Err("it came by way of the proxy".to_owned())
            } else {
                Ok(seen)
            }
        }));
        let title = format!("QUIC goes out, {family}");
        steps.push(Step::new(group, title, Namespaces, move |w| {
            let address = place(BING).ok_or("no such place")?.address(family);
            let seen = w.ue(1).send_datagram(SocketAddr::new(address, 443), b"hello");
            let echoed = matches!(seen.outcome, Outcome::Connected);
            if echoed { Ok(seen.to_string()) } else { Err(format!("expected an echo, saw {seen}")) }
        }));
    }
}

fn purchase(kept: &Kept, steps: &mut Vec<Step>) {
    for family in Family::BOTH {
        let held = Rc::clone(&kept.held);
        let title = format!("the portal is opened, a plan is chosen, {family}");
        steps.push(Step::new(PURCHASE, title, Namespaces, move |w| {
            let fetch = Fetch::https(PORTAL, family);
            let session = w.ue(1).open(&fetch).map_err(|seen| format!("did not open: {seen}"))?;
            let seen = reached(w, PORTAL, &session.send(&fetch.path("/order").post("plan=7GB")))?;
            held.borrow_mut().insert(("portal", family), session);
            Ok(seen)
        }));
    }
    let title = "the shop says that the plan is paid; the first try after its call gets out";
    let paid = |w: &World| time_to_lift(w, || hook(w, "active"));
    steps.push(Step::new(PURCHASE, title, Namespaces, paid).measuring());
}

fn after_purchase(kept: &Kept, steps: &mut Vec<Step>) {
    for family in Family::BOTH {
        let held = Rc::clone(&kept.held);
        let title = format!("the portal's session is alive: the thank-you page comes, {family}");
        steps.push(Step::new(PURCHASE, title, Namespaces, move |w| {
            let held = held.borrow();
            let session = held.get(&("portal", family)).ok_or("no session was held")?;
            reached(w, PORTAL, &session.send(&Fetch::https(PORTAL, family).path("/thanks")))
        }));
        let title = format!("the connectivity probe of Windows succeeds, {family}");
        steps.push(Step::new(PURCHASE, title, Namespaces, move |w| {
            let seen = w.ue(1).fetch(&Fetch::http(NCSI, family).path("/connecttest.txt"));
            let text = reached(w, NCSI, &seen)?;
            let body =
                matches!(&seen.outcome, Outcome::Answered(a) if a.body.as_ref() == NCSI_BODY);
            body.then_some(text)
                .ok_or_else(|| format!("another body than Windows compares: {seen}"))
        }));
        let held = Rc::clone(&kept.held);
        let title = format!("a session to {BING} runs, {family}");
        steps.push(Step::new(PURCHASE, title, Namespaces, move |w| {
            let fetch = bing(family);
            let session = w.ue(1).open(&fetch).map_err(|seen| format!("did not open: {seen}"))?;
            let seen = reached(w, BING, &session.send(&fetch))?;
            held.borrow_mut().insert(("bing", family), session);
            let waits = w.ue(1).open(&fetch).map_err(|seen| format!("did not open: {seen}"))?;
            held.borrow_mut().insert(("waits", family), waits);
            Ok(seen)
        }));
    }
}

fn exhausted(kept: &Kept, steps: &mut Vec<Step>) {
    let held = Rc::clone(&kept.held);
    let title = "the shop says that the plan is used up; who waits for an answer is told at once";
    steps.push(Step::new(EXHAUSTED, title, Namespaces, move |w| {
        let mut held = held.borrow_mut();
        let waits = Family::BOTH.map(|family| held.remove(&("waits", family)));
        let [Some(v4), Some(v6)] = waits else { return Err("no session was held".to_owned()) };
        cut_while_waiting(w, &[v4, v6], || hook(w, "exhausted"))
    }));
    for family in Family::BOTH {
        let held = Rc::clone(&kept.held);
        let title = format!("the running session to {BING} is cut, {family}");
        steps.push(Step::new(EXHAUSTED, title, Namespaces, move |_| {
            let session =
                held.borrow_mut().remove(&("bing", family)).ok_or("no session was held")?;
            refused(&session.send(&bing(family)))
        }));
    }
    walled(EXHAUSTED, steps);
    for family in Family::BOTH {
        let title = format!("the portal opens, {family}");
        steps.push(Step::new(EXHAUSTED, title, Namespaces, move |w| {
            reached(w, PORTAL, &w.ue(1).fetch(&Fetch::https(PORTAL, family)))
        }));
    }
}

fn top_up(steps: &mut Vec<Step>) {
    let title = "the admin API says active; the first try after its answer gets out";
    steps.push(
        Step::new(TOP_UP, title, Namespaces, |w| {
            time_to_lift(w, || put_sim(w, r#"{"state":"active"}"#).map(|_| "active".to_owned()))
        })
        .measuring(),
    );
    lifted(TOP_UP, steps);
}

fn grant(steps: &mut Vec<Step>) {
    steps.push(Step::new(GRANT, "used up again, by the admin API", Namespaces, |w| {
        put_sim(w, r#"{"state":"exhausted"}"#).map(|sim| text(&sim, "class").to_owned())
    }));
    walled(GRANT, steps);
    let title = "a grant of five minutes and 5 MB opens the Internet at once";
    steps.push(
        Step::new(GRANT, title, Namespaces, |w| {
            time_to_lift(w, || {
                let body = r#"{"seconds":300,"bytes":5000000}"#;
                ask(w, Method::POST, "/grants", body, StatusCode::CREATED)
                    .map(|answer| answer.to_string())
            })
        })
        .measuring(),
    );
    lifted(GRANT, steps);
    steps.push(Step::new(GRANT, "a second one at the same time is refused", Namespaces, |w| {
        let body = r#"{"seconds":300,"bytes":5000000}"#;
        ask(w, Method::POST, "/grants", body, StatusCode::CONFLICT)
            .map(|answer| text(&answer, "detail").to_owned())
    }));
    steps.push(Step::new(GRANT, "the flow is cancelled, the grant is gone", Namespaces, |w| {
        ask(w, Method::DELETE, "/grants", "", StatusCode::OK).map(|answer| answer.to_string())
    }));
    walled(GRANT, steps);
}

fn detach(kept: &Kept, steps: &mut Vec<Step>) {
    steps.push(Step::new(DETACH, "active again", Namespaces, |w| {
        put_sim(w, r#"{"state":"active"}"#)?;
        for family in Family::BOTH {
            reached(w, BING, &w.ue(1).fetch(&bing(family)))?;
        }
        Ok("out, both families".to_owned())
    }));
    let attached = Rc::clone(&kept.attached);
    let title = "detached: whoever gets the addresses next is in the garden";
    let detached = move |w: &World| {
        let session = attached.borrow_mut().take().ok_or("no SIM is attached")?;
        let start = clock::now();
        w.pgw().detach(&session).map_err(|error| error.to_string())?;
        let confirmed = start.elapsed().as_secs_f64() * 1e3;
        for family in Family::BOTH {
            // The kernel is told after the network's packet is answered: until then it opens.
            loop {
                let seen = w.ue(1).fetch(&bing(family));
                if refused(&seen).is_ok() {
                    break;
                }
                if start.elapsed() > Sim::PATIENCE {
                    return Err(format!("{BING} still opens, {family}: {seen}"));
                }
            }
        }
        let walled = start.elapsed().as_secs_f64() * 1e3;
        Ok(format!("Stop confirmed after {confirmed:.1} ms, refused after {walled:.1} ms"))
    };
    steps.push(Step::new(DETACH, title, Namespaces, detached).measuring());
    walled(DETACH, steps);
}

/// Asks on each of `sessions` for what is never answered, then does what walls: each is refused.
fn cut_while_waiting(
    world: &World,
    sessions: &[Held],
    wall: impl FnOnce() -> Result<String, String>,
) -> Result<String, String> {
    let asked = Fetch::https(BING, Family::V4).path(UNANSWERED);
    let expected = world.hits(BING).requests + u64::try_from(sessions.len()).unwrap_or(u64::MAX);
    thread::scope(|scope| {
        let waiting: Vec<_> =
            sessions.iter().map(|session| scope.spawn(|| session.send(&asked))).collect();
        let start = clock::now();
        // Else it would still speak: what is not acknowledged is sent again.
        while world.hits(BING).requests < expected || world.ue(1).unacknowledged() > 0 {
            if start.elapsed() > Sim::PATIENCE {
                return Err(format!("{BING} was not asked"));
            }
            thread::yield_now();
        }
        let start = clock::now();
        let mut said = wall()?;
        for waits in waiting {
            let seen = waits.join().map_err(|_| "a session broke off")?;
            said += "; ";
            said += &refused(&Seen { elapsed: start.elapsed(), ..seen })?;
        }
        Ok(said)
    })
}

/// The answer is the operator's, with its own lifetime: ours would be cut to the garden's.
fn operators_own(answer: &DnsAnswer) -> Result<(), String> {
    match answer.answers.first() {
        Some(record) if record.ttl > GARDEN_TTL => Ok(()),
        Some(_) | None => Err(format!("expected the operator's own answer, saw {answer}")),
    }
}

/// Does what lifts, then tries once, in both families; says how long it took until both were out.
fn time_to_lift(
    world: &World,
    lift: impl FnOnce() -> Result<String, String>,
) -> Result<String, String> {
    let start = clock::now();
    lift()?;
    let answered = start.elapsed();
    for family in Family::BOTH {
        reached(world, BING, &world.ue(1).fetch(&bing(family)))?;
    }
    let (answered, out) = (answered.as_secs_f64() * 1e3, start.elapsed().as_secs_f64() * 1e3);
    Ok(format!(
        "answered after {answered:.1} ms, a page of {BING} in both families after {out:.1} ms"
    ))
}

fn hook(world: &World, state: &str) -> Result<String, String> {
    let hook = Hook::of(world.ue(1), state);
    let reply = world.gateway().send_hook(&hook).map_err(|error| error.to_string())?;
    if reply.status == StatusCode::OK {
        Ok(reply.body)
    } else {
        Err(format!("{} {}", reply.status, reply.body))
    }
}

fn put_sim(world: &World, body: &str) -> Result<Value, String> {
    ask(world, Method::PUT, "", body, StatusCode::OK)
}

/// Asks the admin API about the first SIM.
fn ask(
    world: &World,
    method: Method,
    below: &str,
    body: &str,
    expected: StatusCode,
) -> Result<Value, String> {
    let path = format!("/v1/sims/iccid:{}{below}", world.ue(1).iccid());
    let reply = world.gateway().admin(method, &path, body).map_err(|error| error.to_string())?;
    if reply.status == expected {
        serde_json::from_str(&reply.body).map_err(|error| error.to_string())
    } else {
        Err(format!("expected {expected}, got {} {}", reply.status, reply.body))
    }
}

/// The text of a key; empty without it.
fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn packets(world: &World) -> Result<u64, String> {
    let counted = world.leaked_packets().map_err(|error| error.to_string())?;
    counted.ok_or_else(|| "nothing counts packets here".to_owned())
}

/// A host that is never listed, by its address: the garden gives none for its name.
fn bing(family: Family) -> Fetch {
    let address = place(BING).expect("the decoy is in the table").address(family);
    Fetch::https(BING, family).at(address)
}

const ATTACH: &str = "attach";
const PURCHASE: &str = "purchase";
const EXHAUSTED: &str = "exhausted";
const TOP_UP: &str = "top-up";
const GRANT: &str = "grant";
const DETACH: &str = "detach";

const BING: &str = "www.bing.com";
const PORTAL: &str = "portal.acme.example";
const NCSI: &str = "www.msftconnecttest.com";
const NCSI_BODY: &[u8] = b"Microsoft Connect Test";
