//! What a device in the garden is told by the network itself: the captive-portal API, the page of a
//! refusal, and the answers to Windows' probes.

use std::{fs, io::ErrorKind, net::SocketAddr, process::Command};

use lab::{Fetch, Outcome, Sim, World};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::stage::{
    BING, Family, LOGIN, assert_garden, assert_reached, assert_refused, at, eventually,
    gateway_address, options,
};

#[test]
fn device_learns_that_it_is_captive_and_where_the_portal_is() {
    let world = with_api();
    for family in Family::BOTH {
        let answer = told(&world, 1, family);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-type: application/captive+json"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        let expected = serde_json::json!({
            "captive": true,
            "user-portal-url": "https://portal.acme.example/start",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), expected);
        // The second SIM's class is open.
        assert!(told(&world, 2, family).ends_with(
            "{\"captive\":false,\"user-portal-url\":\"https://portal.acme.example/start\"}"
        ));
    }
    assert_garden(&world);
}

#[test]
fn device_is_told_the_same_by_the_process_that_takes_over() {
    let world = with_api();
    let before = Family::BOTH.map(|family| told(&world, 2, family));
    let successor = world.gateway().upgrade().unwrap();
    world.gateway().wait_for_end(Sim::PATIENCE).unwrap();
    for (before, family) in before.into_iter().zip(Family::BOTH) {
        let body = |answer: &str| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        assert!(before.contains("\"captive\":false"), "{before}");
        assert_eq!(body(&told(&world, 2, family)), body(&before), "{family}");
    }
    successor.stop().unwrap();
}

#[test]
fn no_subscriber_takes_the_places_of_others_at_the_api() {
    let world = with_api();
    for family in Family::BOTH {
        let to = SocketAddr::new(gateway_address(family), 8444);
        let (over, others) = world.ue(1).namespace().run(async move {
            let mut open = Vec::new();
            for _ in 0..8 {
                open.push(TcpStream::connect(to).await.unwrap());
            }
            let mut over = TcpStream::connect(to).await.unwrap();
            let over = timeout(Sim::PATIENCE, over.read(&mut [0])).await.unwrap();
            let waits = |stream: &TcpStream| {
                stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
            };
            (over, open.iter().all(waits))
        });
        assert!(matches!(over, Ok(0) | Err(_)) && others, "{family}: {over:?}, {others}");
        assert!(told(&world, 2, family).starts_with("HTTP/1.1 200 "), "{family}");
    }
}

#[test]
fn page_of_a_refusal_names_the_host_and_what_the_log_calls_it() {
    let world = talking("denied = \"511\"", "pass");
    for family in Family::BOTH {
        let page = Fetch::http(BING, family).at(crate::stage::address(BING, family));
        let seen = world.ue(1).fetch(&page);
        assert_refused(BING, &seen);
        let Outcome::Answered(answer) = &seen.outcome else { panic!("{seen}") };
        assert_eq!(answer.status.as_u16(), 511);
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(body.contains("<strong>www.bing.com</strong>"), "{body}");
        let (_, rest) = body.split_once("Reference: <code>").unwrap();
        let id = rest.split_once("</code>").unwrap().0;
        let line = eventually("the log has it", || {
            let log = fs::read_to_string(world.directory().join("decisions.jsonl")).ok()?;
            log.lines().find(|line| line.contains(&format!("\"id\":\"{id}\""))).map(str::to_owned)
        });
        assert!(
            line.contains("\"host\":\"www.bing.com\"") && line.contains("not-listed"),
            "{line}"
        );
    }
}

#[test]
fn probes_are_answered_to_the_letter() {
    let world = talking("denied = \"511\"", "answer");
    for family in Family::BOTH {
        for (host, path, body) in [
            ("www.msftconnecttest.com", "/connecttest.txt", "Microsoft Connect Test"),
            ("ipv6.msftconnecttest.com", "/connecttest.txt", "Microsoft Connect Test"),
            ("www.msftncsi.com", "/ncsi.txt", "Microsoft NCSI"),
        ] {
            let seen = world.ue(1).fetch(&Fetch::http(host, family).path(path));
            let Outcome::Answered(answer) = &seen.outcome else { panic!("{host}: {seen}") };
            assert_eq!((answer.status.as_u16(), answer.host()), (200, None), "{host}");
            assert_eq!(&answer.body[..], body.as_bytes(), "{host}");
        }
    }
    assert_eq!(world.hits("www.msftconnecttest.com").requests, 0, "nobody else was asked");
}

#[test]
fn every_denied_request_of_a_class_that_redirects_leads_to_the_portal() {
    let world = talking("denied = \"close\"", "redirect");
    for family in Family::BOTH {
        for (host, path) in [
            ("www.msftconnecttest.com", "/connecttest.txt"),
            ("www.msftconnecttest.com", "/redirect"),
            (BING, "/"),
            ("nobody.example", "/x?y"),
        ] {
            let page = Fetch::http(host, family).path(path).at(at(BING, family, 80).ip());
            for _ in 0..3 {
                let seen = world.ue(1).fetch(&page);
                let Outcome::Answered(answer) = &seen.outcome else { panic!("{host}: {seen}") };
                assert_eq!(answer.status.as_u16(), 302, "{host}{path}");
                let portal = Some("https://portal.acme.example/start");
                assert_eq!(answer.header("location"), portal, "{host}{path}");
            }
        }
        assert_reached(LOGIN, &world.ue(1).fetch(&Fetch::http(LOGIN, family)));
    }
}

/// What the API says to a SIM.
fn told(world: &World, sim: u8, family: Family) -> String {
    let address = match (sim, family) {
        (1, family) => gateway_address(family).to_string(),
        (_, Family::V4) => "100.64.2.1".to_owned(),
        (_, Family::V6) => "2001:db8:64:2::1".to_owned(),
    };
    let host = if address.contains(':') { format!("[{address}]") } else { address };
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--include", "--max-time", "10", "--http1.1", "--cacert"]);
    curl.arg(world.directory().join("api.pem"));
    curl.arg("--connect-to").arg(format!("{NAME}:8444:{host}:8444"));
    curl.arg(format!("https://{NAME}:8444/captive-portal"));
    let output = world.ue(sim).command(curl).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A world whose denials on port 80, and whose probes, are answered so.
fn talking(denied: &str, ncsi: &str) -> World {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let policy = world.policy_text().replace("denied = \"redirect\"", denied);
    let policy = policy.replace("ncsi = \"pass\"", &format!("ncsi = \"{ncsi}\""));
    world.write_policy(&policy).unwrap();
    let settings = world.settings_text().unwrap();
    world.write_settings(&format!("{settings}[log]\ndecisions = \"decisions.jsonl\"\n")).unwrap();
    world.gateway().start().unwrap();
    world
}

/// A world with the captive-portal API, whose second SIM has a plan.
fn with_api() -> World {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let file = |name: &str| world.directory().join(name);
    fs::write(file("api.pem"), cert.pem()).unwrap();
    fs::write(file("api.key"), signing_key.serialize_pem()).unwrap();
    let settings = world.settings_text().unwrap();
    let api = "[captive_portal]\nlisten = [\"0.0.0.0:8444\", \"[::]:8444\"]\n\
               certificate = \"api.pem\"\nkey = \"api.key\"\n";
    world.write_settings(&format!("{settings}{api}")).unwrap();
    let paid = "[[class]]\nname = \"subscribed\"\npriority = 1\naction = \"open\"\n[[class.match]]\n\
                networks = [\"100.64.2.0/24\", \"2001:db8:64:2::/64\"]\n";
    world.write_policy(&format!("{}{paid}", world.policy_text())).unwrap();
    world.gateway().start().unwrap();
    world
}

/// The name in the certificate of the API.
const NAME: &str = "captive.acme.example";
