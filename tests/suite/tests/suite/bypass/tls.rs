//! Ways around the garden on port 443, and by a forged address on either port.

use std::{io, net::SocketAddr, time::Duration};

use lab::{Fetch, Outcome, Seen, World};

use crate::{
    hello::{Hello, alert},
    stage::{
        BING, Family, HTTP_ONLY, LOGIN, PORTAL, TWIN, address, assert_reached, assert_refused,
        assert_sealed, at, metric, world,
    },
};

#[test]
fn row_01_forged_name_on_a_decoys_address_reaches_the_real_host() {
    let world = world();
    for family in Family::BOTH {
        for page in [Fetch::https(LOGIN, family), Fetch::http(LOGIN, family)] {
            let seen = world.ue(1).fetch(&page.at(address(BING, family)));
            assert_reached(LOGIN, &seen);
            let Outcome::Answered(answer) = &seen.outcome else { unreachable!() };
            let own = Family::BOTH.map(|family| address(LOGIN, family));
            let came_in: SocketAddr = answer.address().unwrap().parse().unwrap();
            assert!(own.contains(&came_in.ip().to_canonical()), "{came_in}");
        }
    }
    assert!(metric(&world, "postern_destination_mismatch_total", &[]) >= 4.0);
    assert_sealed(&world);
}

#[test]
fn row_01_twin_on_the_same_address_is_refused() {
    let world = world();
    for family in Family::BOTH {
        let login = address(LOGIN, family);
        assert_reached(LOGIN, &world.ue(1).fetch(&Fetch::https(LOGIN, family).at(login)));
        assert_alert("TLS", &world.ue(1).fetch(&Fetch::https(TWIN, family).at(login)));
        assert_refused("HTTP", &world.ue(1).fetch(&Fetch::http(TWIN, family).at(login)));
    }
    assert_sealed(&world);
}

#[test]
fn row_12_host_inside_tls_does_not_save_a_denied_name() {
    let world = world();
    for family in Family::BOTH {
        let page = Fetch::https(LOGIN, family).with_sni(BING).with_host(LOGIN);
        assert_alert("a front", &world.ue(1).fetch(&page));
    }
    assert_eq!(world.hits(LOGIN).connections, 0);
    assert_sealed(&world);
}

#[test]
fn row_08_hello_without_a_name_is_refused() {
    assert_hello_refused("no name", &Hello::nameless());
}

#[test]
fn row_09_hello_that_names_an_address_is_refused() {
    for family in Family::BOTH {
        assert_hello_refused("an address", &Hello::to(&address(LOGIN, family).to_string()));
    }
}

#[test]
fn row_07_hello_with_two_names_is_refused() {
    assert_hello_refused("two names", &Hello::to(LOGIN).and(BING));
    assert_hello_refused("two names, reversed", &Hello::to(BING).and(LOGIN));
    assert_hello_refused("one name twice", &Hello::to(LOGIN).and(LOGIN));
}

#[test]
fn row_09_hello_with_a_disguised_name_is_refused() {
    for name in [
        "login.live.com\0.www.bing.com",
        "www.bing.com\0.login.live.com",
        "login.live.com..",
        ".login.live.com",
        "login.live.com.www.bing.com",
        "evil-login.live.com",
        "login.live.com:443",
        "login。live。com",
        "smartscreen.microsoft.com.www.bing.com",
    ] {
        assert_hello_refused(name, &Hello::to(name));
    }
}

#[test]
fn row_02_second_hello_for_another_name_is_cut() {
    let world = world();
    for family in Family::BOTH {
        let first = Hello::to(LOGIN).without_share();
        let honest = after_retry(&world, family, &first, &Hello::to(LOGIN));
        assert_eq!(honest.first(), Some(&HANDSHAKE), "the origin goes on: {honest:?}");
        let hellos = world.hits(LOGIN).hellos;
        let forged = after_retry(&world, family, &first, &Hello::to(BING));
        assert_ne!(forged.first(), Some(&HANDSHAKE), "{family}: {forged:?}");
        assert_eq!(world.hits(LOGIN).hellos, hellos + 1, "the first hello was forwarded");
    }
    let changed = [("reason", "hello-changed")];
    assert_eq!(metric(&world, "postern_decisions_total", &changed), 2.0);
    assert_sealed(&world);
}

#[test]
fn other_scheme_of_a_listed_host_is_refused_within_100_ms() {
    let world = world();
    for family in Family::BOTH {
        for page in [Fetch::https(HTTP_ONLY, family), Fetch::http(PORTAL, family)] {
            let page =
                page.clone().at(address(if page.is_secure() { HTTP_ONLY } else { PORTAL }, family));
            let seen: Vec<Seen> = (0..5).map(|_| world.ue(1).fetch(&page)).collect();
            seen.iter().for_each(|seen| assert_refused(&page.title(), seen));
            // The quickest counts: the machine may be busy with other tests.
            let quickest = seen.iter().map(|seen| seen.elapsed).min().unwrap();
            assert!(quickest < Duration::from_millis(100), "{}: {quickest:?}", page.title());
        }
    }
    for host in [HTTP_ONLY, PORTAL] {
        assert_eq!(world.hits(host).connections, 0, "{host}");
    }
    assert_sealed(&world);
}

/// The hello gets an alert, at once, and no host a connection.
#[track_caller]
fn assert_hello_refused(what: &str, hello: &Hello) {
    let world = world();
    for family in Family::BOTH {
        for host in [LOGIN, BING] {
            let (answer, seen) = world.ue(1).send_bytes(at(host, family, 443), hello.octets());
            assert_refused(what, &seen);
            assert!(alert(&answer).is_some(), "{what}: {answer:?}");
        }
    }
    assert_eq!(world.hits(LOGIN).connections, 0, "{what}: the host was dialled");
    assert_sealed(&world);
}

#[track_caller]
fn assert_alert(what: &str, seen: &Seen) {
    assert_refused(what, seen);
    assert!(matches!(seen.outcome, Outcome::TlsAlert(_)), "{what}: {seen}");
}

/// What the server sends after a second hello that it asked for.
fn after_retry(world: &World, family: Family, first: &Hello, second: &Hello) -> Vec<u8> {
    let (first, second) = (first.octets(), second.octets());
    let to = at(LOGIN, family, 443);
    world.ue(1).namespace().run(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let talk = async {
            let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
            stream.write_all(&first).await.unwrap();
            let retry = record(&mut stream).await.unwrap();
            assert_eq!(retry[6..38], RETRY_RANDOM[..], "a HelloRetryRequest: {retry:?}");
            stream.write_all(&second).await.unwrap();
            let mut answer = Vec::new();
            loop {
                match record(&mut stream).await {
                    // For middleboxes; says nothing.
                    Ok(record) if record.is_empty() => {}
                    Ok(record) => {
                        answer.push(HANDSHAKE);
                        answer.extend(record);
                        return answer;
                    }
                    Err(_) => return answer,
                }
            }
        };
        /// The content of a handshake record; empty for a change of cipher.
        async fn record(stream: &mut tokio::net::TcpStream) -> io::Result<Vec<u8>> {
            let mut header = [0; 5];
            stream.read_exact(&mut header).await?;
            let mut content = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            stream.read_exact(&mut content).await?;
            match header[0] {
                HANDSHAKE => Ok(content),
                CHANGE_CIPHER => Ok(Vec::new()),
                other => Err(io::Error::other(format!("a record of type {other}"))),
            }
        }
        tokio::time::timeout(lab::Sim::PATIENCE, talk).await.unwrap()
    })
}

const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER: u8 = 20;

/// What makes a ServerHello a HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
