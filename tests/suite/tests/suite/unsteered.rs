//! Networks without steering: DNS answers lead to the gateway, which is weaker and says so.

use lab::{Fetch, Question, Transport, World};

use crate::{
    stage::{
        BING, Family, HTTP_ONLY, LOGIN, assert_reached, assert_refused, at, gateway_address,
        options,
    },
    tool::{finish, postern},
};

#[test]
fn listed_names_lead_to_the_gateway_and_through_it() {
    let world = unsteered();
    for family in Family::BOTH {
        let gateway = gateway_address(family);
        let ask = |name: &str, transport| {
            let question = Question::address(name, family).over(transport);
            world.ue(1).ask(&question.to(std::net::SocketAddr::new(gateway, 53)))
        };
        for transport in [Transport::Udp, Transport::Tcp] {
            for host in [LOGIN, HTTP_ONLY] {
                let answer = ask(host, transport);
                assert_eq!(answer.addresses().collect::<Vec<_>>(), [gateway], "{host}: {answer}");
            }
            assert!(ask(BING, transport).is_denied());
        }
        for page in [Fetch::https(LOGIN, family), Fetch::http(LOGIN, family)] {
            assert_reached(LOGIN, &world.ue(1).fetch(&page.at(gateway)));
        }
        for page in
            [Fetch::https(BING, family), Fetch::https(HTTP_ONLY, family), Fetch::http(BING, family)]
        {
            let page = page.at(gateway);
            assert_refused(&page.title(), &world.ue(1).fetch(&page));
        }
        let quic = world.ue(1).send_datagram(std::net::SocketAddr::new(gateway, 443), b"data");
        assert_refused("QUIC", &quic);
    }
    assert_eq!(world.upstream_questions(BING, None), 0);
    assert_eq!(world.hits(BING).connections, 0);
}

/// Nothing else leads to the gateway: what a SIM sends elsewhere is the network's affair.
#[test]
fn check_says_that_it_is_weak() {
    let world = unsteered();
    let said = finish(postern().arg("check").arg(world.directory().join("gateway.toml"))).1;
    assert!(said.contains("GW0007") && said.contains("goes around the gateway"), "{said}");
    // As it says.
    let seen = world.ue(1).connect(at(BING, Family::V4, 443));
    assert!(matches!(seen.outcome, lab::Outcome::Connected), "{seen}");
}

/// A world whose gateway listens on its own addresses, and installs no steering.
fn unsteered() -> World {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let settings = world.settings_text().unwrap();
    let (head, rest) = settings.split_once("[steering]").unwrap();
    let (_, tail) = rest.split_once("[dns]").unwrap();
    let [v4, v6] = Family::BOTH.map(gateway_address);
    let steering = format!("[steering]\nmode = \"dns\"\naddresses = [\"{v4}\", \"{v6}\"]\n");
    let tail = tail
        .replace("[\"0.0.0.0:5353\", \"[::]:5353\"]", &format!("[\"{v4}:53\", \"[{v6}]:53\"]"))
        .replace("[\"0.0.0.0:8080\", \"[::]:8080\"]", &format!("[\"{v4}:80\", \"[{v6}]:80\"]"))
        .replace("[\"0.0.0.0:8443\", \"[::]:8443\"]", &format!("[\"{v4}:443\", \"[{v6}]:443\"]"));
    world.write_settings(&format!("{head}{steering}[dns]{tail}")).unwrap();
    world.gateway().start().unwrap();
    world
}
