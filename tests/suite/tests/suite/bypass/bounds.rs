//! Ways that cannot be closed without opening the encryption: what passes inside an allowed session
//! is bounded instead, by bytes, sessions and the lints of the policy.

use lab::{Fetch, Outcome, World};

use crate::{
    repository::{files, text, top},
    stage::{Family, LOGIN, TWIN, address, assert_refused, eventually, metric, options},
    tool::{finish, postern},
};

/// What a TLS 1.2 client renegotiates is encrypted: the session ends with the bytes of the day.
#[test]
fn row_03_what_is_said_after_the_handshake_is_bounded_by_the_bytes_of_the_day() {
    let world = walled("bytes_per_day = \"40kB\"");
    for family in Family::BOTH {
        let page = Fetch::https(LOGIN, family).at(address(LOGIN, family));
        assert_is_cut(&world, &page, &page);
    }
}

/// The host inside TLS is not seen; shared networks are named by a lint, and bytes are bounded.
#[test]
fn row_12_front_on_a_shared_network_is_named_by_a_lint() {
    let policy = top().join("tests/data/policies/bad/shared-cdn.toml");
    let (code, said) = finish(postern().args(["check", "--fail-on", "warning"]).arg(policy));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("PN0114"), "{said}");
}

#[test]
fn row_12_front_is_bounded_by_the_bytes_of_the_day() {
    let world = walled("bytes_per_day = \"40kB\"");
    for family in Family::BOTH {
        let page = Fetch::https(LOGIN, family).at(address(LOGIN, family));
        assert_is_cut(&world, &page, &page.clone().with_host(TWIN));
    }
}

/// One allowed connection used for other hosts is one session: sessions and bytes are bounded.
#[test]
fn row_13_connection_that_serves_other_hosts_is_bounded_like_any_other() {
    let world = walled("bytes_per_day = \"40kB\"\nsessions = 1");
    for family in Family::BOTH {
        let page = Fetch::https(LOGIN, family).at(address(LOGIN, family));
        let held = world.ue(1).open(&page).unwrap();
        assert_refused("a second session", &world.ue(1).fetch(&page));
        drop(held);
        eventually("the first is over", || {
            (metric(&world, "postern_sessions", &[]) == 0.0).then_some(())
        });
        assert_is_cut(&world, &page, &page.clone().with_host(TWIN));
    }
}

/// Free riding in general: each known evasion has a test here that goes through the real gateway.
#[test]
fn row_31_every_known_evasion_has_a_test() {
    let tests: String = files("tests/suite/tests/suite/bypass")
        .iter()
        .map(|path| text(path.to_str().unwrap()))
        .collect();
    for row in 1..=EVASIONS {
        assert!(tests.contains(&format!("\nfn row_{row:02}_")), "no test is named for row {row}");
    }
}

/// Opens one session and asks over it until it is cut for its bytes; nothing opens after that.
#[track_caller]
fn assert_is_cut(world: &World, opening: &Fetch, asking: &Fetch) {
    let exhausted = || {
        let labels = [("outcome", "policy-exhausted")];
        metric(world, "postern_session_outcomes_total", &labels)
    };
    let before = exhausted();
    let held = world.ue(1).open(opening).unwrap();
    let answered = (0..MOST_REQUESTS)
        .take_while(|_| matches!(held.send(asking).outcome, Outcome::Answered(_)))
        .count();
    assert!((1..MOST_REQUESTS).contains(&answered), "{answered} answers within the bytes");
    eventually("the session is cut", || (exhausted() > before).then_some(()));
    assert_refused("another session", &world.ue(1).fetch(opening));
}

/// A world whose garden has these limits.
fn walled(limits: &str) -> World {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let policy = format!("{}[class.limits]\n{limits}\n", world.policy_text());
    world.write_policy(&policy).unwrap();
    world.gateway().start().unwrap();
    world
}

/// Rows of the table of evasions.
const EVASIONS: usize = 31;
/// More than fit into the bytes of the day.
const MOST_REQUESTS: usize = 1_000;
