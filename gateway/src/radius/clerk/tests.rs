use policy::Identity;

use super::*;
use crate::{
    clock,
    radius::packet::{Secret, tests::request},
    sims::{Bounds, HOME},
};

const SECRET: &[u8] = b"xyzzy5461";

fn clerk(signed: bool, keeps: bool) -> Clerk {
    let client = Client {
        name: "pgw-1".to_owned(),
        secret: Secret::new(SECRET).unwrap(),
        signed,
        dated: false,
        keeps_without_indicator: keeps,
        lifetime: 5400,
        domain: HOME.to_owned(),
    };
    let clients = [("192.0.2.10".parse().unwrap(), client)].into();
    let sims = Arc::new(Sims::new(Bounds::default(), HOME));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    Clerk::new(clients, sims, metrics, clock::now())
}

fn imsi(text: &str) -> Vec<u8> {
    let mut value = 10_415_u32.to_be_bytes().to_vec();
    value.extend([1, 17]);
    value.extend(text.as_bytes());
    value
}

/// Takes a request and tells the result's label and the reply's code.
fn take(clerk: &Clerk, bytes: &[u8], service: Service) -> (&'static str, Option<u8>) {
    let from: SocketAddr = "192.0.2.10:1646".parse().unwrap();
    let taken = clerk.try_take(bytes, from, service, clock::now(), clock::monotonic());
    match taken {
        Err(dropped) => (dropped.label(), None),
        Ok((result, Answer::Silence)) => (result, None),
        Ok((result, Answer::Again(reply))) => (result, Some(reply[0])),
        Ok((result, Answer::After(pending))) => {
            let code = pending.reply[0];
            clerk.answered(pending);
            (result, Some(code))
        }
    }
}

fn record(status: u8, address: [u8; 4], who: &str) -> Vec<u8> {
    let imsi = imsi(who);
    let status = [0, 0, 0, status];
    let attributes: [(u8, &[u8]); 4] =
        [(40, &status), (44, who.as_bytes()), (8, &address), (26, &imsi)];
    request(4, &attributes, SECRET, true)
}

fn state(clerk: &Clerk, address: &str) -> Option<SimState> {
    clerk.sims().subscriber(address.parse().unwrap()).state()
}

const ONE: &str = "001010000000001";

#[test]
fn accounting_binds_and_orders_change_states() {
    let clerk = clerk(true, false);
    let start = record(1, [100, 64, 0, 1], ONE);
    assert_eq!(take(&clerk, &start, Service::Accounting), ("start", Some(5)));
    assert_eq!(take(&clerk, &start, Service::Accounting), ("duplicate", Some(5)));
    let imsi = imsi(ONE);
    for (label, expected) in [(b"active".as_slice(), 44), (b"none", 45)] {
        let order = request(43, &[(11, label), (26, &imsi)], SECRET, true);
        assert_eq!(take(&clerk, &order, Service::Orders).1, Some(expected));
    }
    assert_eq!(state(&clerk, "100.64.0.1"), Some(SimState::Active));
    // By address, and with an address that is another SIM's.
    let order = request(43, &[(11, b"exhausted"), (8, &[100, 64, 0, 1])], SECRET, true);
    assert_eq!(take(&clerk, &order, Service::Orders), ("state", Some(44)));
    assert_eq!(state(&clerk, "100.64.0.1"), Some(SimState::Exhausted));
    let second = record(1, [100, 64, 0, 2], "001010000000002");
    take(&clerk, &second, Service::Accounting);
    let mixed = request(43, &[(11, b"active"), (8, &[100, 64, 0, 2]), (26, &imsi)], SECRET, true);
    assert_eq!(take(&clerk, &mixed, Service::Orders), ("refused", Some(45)));
    assert_eq!(state(&clerk, "100.64.0.2"), None);
    let end = request(40, &[(8, &[100, 64, 0, 1])], SECRET, true);
    assert_eq!(take(&clerk, &end, Service::Orders), ("disconnect", Some(41)));
    assert_eq!(state(&clerk, "100.64.0.1"), None);
}

#[test]
fn refuses_what_cannot_be_believed_with_its_reason() {
    let clerk = clerk(true, false);
    let plain = request(4, &[(40, &[0, 0, 0, 1]), (44, b"a")], SECRET, false);
    let unsigned_order = request(43, &[(11, b"active")], SECRET, false);
    let forged = request(4, &[(40, &[0, 0, 0, 1]), (44, b"a")], b"guess", true);
    let nameless = request(4, &[(40, &[0, 0, 0, 1])], SECRET, true);
    let lying = request(4, &[(40, &[0, 0, 0, 1]), (44, b"a"), (8, &[1])], SECRET, true);
    for (bytes, service, expected) in [
        (&plain, Service::Accounting, "bad-message-authenticator"),
        (&unsigned_order, Service::Orders, "bad-message-authenticator"),
        (&forged, Service::Accounting, "bad-authenticator"),
        (&nameless, Service::Accounting, "missing-attribute"),
        (&lying, Service::Accounting, "bad-attribute"),
        (&nameless, Service::Orders, "wrong-port"),
    ] {
        assert_eq!(take(&clerk, bytes, service), (expected, None));
    }
    let from: SocketAddr = "192.0.2.11:1646".parse().unwrap();
    let start = record(1, [100, 64, 0, 1], ONE);
    let stranger =
        clerk.try_take(&start, from, Service::Accounting, clock::now(), clock::monotonic());
    assert_eq!(stranger.err().map(|dropped| dropped.label()), Some("unknown-client"));
    assert_eq!(clerk.sims().totals().iter().map(|(_, total)| total).sum::<i64>(), 0);
}

#[test]
fn a_stop_without_indicator_ends_what_its_nas_means_by_it() {
    let stop = record(2, [100, 64, 0, 1], ONE);
    for (keeps, result, bound) in [(false, "stop", false), (true, "bearer-stop", true)] {
        let clerk = clerk(true, keeps);
        take(&clerk, &record(1, [100, 64, 0, 1], ONE), Service::Accounting);
        assert_eq!(take(&clerk, &stop, Service::Accounting), (result, Some(5)));
        let address = "100.64.0.1".parse().unwrap();
        assert_eq!(clerk.sims().binding(address, clock::now()).is_some(), bound, "{result}");
    }
}

#[test]
fn a_nas_that_restarts_all_the_time_is_not_answered() {
    let clerk = clerk(true, false);
    let mut results = Vec::new();
    for at in 0..12_u8 {
        let on = request(4, &[(40, &[0, 0, 0, 7]), (41, &[0, 0, 0, at])], SECRET, true);
        results.push(take(&clerk, &on, Service::Accounting).0);
    }
    assert_eq!(results.iter().filter(|result| **result == "on").count(), 10);
    assert_eq!(results.last(), Some(&"resets-limited"));
}

#[test]
fn identities_stay_out_of_what_is_printed() {
    let clerk = clerk(false, false);
    take(&clerk, &record(1, [100, 64, 0, 1], ONE), Service::Accounting);
    let printed = format!("{clerk:?}");
    for secret in [ONE, "100.64.0.1", "xyzzy"] {
        assert!(!printed.contains(secret), "{secret}");
    }
    assert!(policy::Imsi::parse(ONE).is_ok_and(|imsi| !format!("{imsi:?}").contains(ONE)));
}
