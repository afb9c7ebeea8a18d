//! The world by itself, without a gateway: routing, servers, resolver, counters. A leak must work
//! and must be counted, or the proof that there is none proves nothing.

use std::net::SocketAddr;

use super::*;
use crate::{
    places::places,
    sim::{Fetch, Outcome, Question, Transport},
    upstream::ADDRESSES,
};

fn without_gateway() -> World {
    let options = Options { start_gateway: false, ..Options::new("/nowhere") };
    World::start(options).unwrap()
}

#[test]
fn without_a_gateway_every_host_is_open_and_every_packet_is_counted() {
    private::test(|| {
        if !private::is_inside() {
            return;
        }
        let world = without_gateway();
        assert_eq!(world.leaked_packets().unwrap(), Some(0));
        for family in Family::BOTH {
            let resolver = ADDRESSES.into_iter().find(|a| a.is_ipv6() == (family == Family::V6));
            for place in places() {
                for transport in [Transport::Udp, Transport::Tcp] {
                    let question = Question::address(place.name, family);
                    let answer = world.ue(1).ask(&question.over(transport).to(resolver.unwrap()));
                    let addresses: Vec<_> = answer.addresses().collect();
                    assert_eq!(addresses, [place.address(family)], "{answer}");
                }
                for fetch in [Fetch::http(place.name, family), Fetch::https(place.name, family)] {
                    let seen = world.ue(2).fetch(&fetch.at(place.address(family)));
                    assert_eq!(seen.host(), Some(place.name), "{seen}");
                }
            }
            let bing = place("www.bing.com").unwrap().address(family);
            let ssh = world.ue(1).connect(SocketAddr::new(bing, 22));
            assert!(matches!(ssh.outcome, Outcome::Connected), "{ssh}");
            let quic = world.ue(1).send_datagram(SocketAddr::new(bing, 443), b"hello");
            assert!(matches!(quic.outcome, Outcome::Connected), "{quic}");
        }
        assert_eq!(world.hits("www.bing.com").hellos, 2);
        assert_eq!(world.hits("www.bing.com").requests, 4);
        assert!(world.hits("www.bing.com").connections >= 8);
        assert_eq!(world.upstream_questions("WWW.bing.com.", Some("AAAA")), 2);
        assert!(world.leaked_packets().unwrap() > Some(100));
    });
}

#[test]
fn two_worlds_live_side_by_side_and_apart() {
    private::test(|| {
        if !private::is_inside() {
            return;
        }
        let (one, two) = (without_gateway(), without_gateway());
        let place = place("login.live.com").unwrap();
        let seen =
            one.ue(1).fetch(&Fetch::https(place.name, Family::V6).at(place.address(Family::V6)));
        assert_eq!(seen.host(), Some(place.name), "{seen}");
        assert_eq!(two.hits(place.name).connections, 0);
        assert_eq!(two.leaked_packets().unwrap(), Some(0));
        let foreign = two
            .ue(1)
            .fetch(&Fetch::https(place.name, Family::V4).at(one.ue(1).address(Family::V4)));
        assert!(matches!(foreign.outcome, Outcome::Refused(_)), "{foreign}");
    });
}

#[test]
fn the_number_of_sims_is_bounded() {
    for sims in [0, World::MOST_SIMS + 1] {
        let options = Options { sims, ..Options::new("/nowhere") };
        assert!(
            matches!(World::start(options), Err(WorldError::SimCount { asked }) if asked == sims)
        );
    }
}
