//! Ways around the garden by the shape of a hello: how it is cut, spelt and dressed.

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
};

use lab::{Fetch, Sim, World};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    hello::Hello,
    hellos::{Origin, on_loopback, subscriber},
    repository::top,
    stage::{BING, Family, LOGIN, assert_reached, assert_sealed, at, world},
};

#[test]
fn row_04_hello_over_many_records_is_read_as_one() {
    let world = world();
    for size in [1_000, 50, 8] {
        assert_passes(&world, LOGIN, &[in_records(&Hello::to(LOGIN).octets(), size)]);
        assert_stopped(&world, &[in_records(&Hello::to(BING).octets(), size)]);
    }
    assert_sealed(&world);
}

#[test]
fn row_04_records_that_no_client_sends_are_refused() {
    let world = world();
    let hello = in_records(&Hello::to(LOGIN).octets(), 100);
    let between = |record: &[u8]| [&hello[..105], record, &hello[105..]].concat();
    for octets in [
        // An empty record, a change of cipher, an alert, early data amid the hello.
        between(&[22, 3, 3, 0, 0]),
        between(&[20, 3, 3, 0, 1, 1]),
        between(&[21, 3, 3, 0, 2, 1, 0]),
        between(&[23, 3, 3, 0, 1, 0]),
        // More records, and longer ones, than there may be.
        in_records(&Hello::to(LOGIN).octets(), 1),
        [&[22, 3, 1, 0x48, 0][..], &[0; 100]].concat(),
        // Two hellos in one record.
        in_records(
            &[&[0; 5][..], &message(&Hello::to(LOGIN)), &message(&Hello::to(BING))].concat(),
            4_000,
        ),
    ] {
        assert_stopped(&world, &[octets]);
    }
    assert_eq!(world.hits(LOGIN).connections, 0);
    assert_sealed(&world);
}

#[test]
fn row_05_large_hello_in_many_segments_passes() {
    let world = world();
    let hello = chromium();
    assert!(hello.len() > 1_500, "{} octets are no post-quantum hello", hello.len());
    for size in [1, 517, 1_400] {
        let pieces: Vec<Vec<u8>> = hello.chunks(size).map(<[u8]>::to_vec).collect();
        assert_passes(&world, CHROMIUM_HOST, &pieces);
    }
    assert_sealed(&world);
}

/// Fakes that die on the way, overlaps and reordering are settled by the kernel before anything is
/// read; what is left is the octet that TCP delivers out of band.
#[test]
fn row_06_what_is_judged_is_what_is_passed_on() {
    let world = world();
    for (family, host) in [(Family::V4, LOGIN), (Family::V6, LOGIN)] {
        let hello = Hello::to(host).octets();
        let to = at(host, family, 443);
        let first = world.ue(1).namespace().call(move || {
            let mut stream = subscriber(to);
            let name = hello.windows(5).position(|octets| octets == b"login").unwrap();
            stream.write_all(&hello[..name + 2]).unwrap();
            SockRef::from(&stream).send_out_of_band(b"X").unwrap();
            stream.write_all(&hello[name + 2..]).unwrap();
            let mut first = [0; 6];
            stream.read_exact(&mut first).map(|()| first.to_vec()).unwrap_or_default()
        });
        assert!(is_server_hello(&first), "{family}: {first:?}");
    }
    assert_eq!(world.hits(LOGIN).hellos, 2, "the origin read the same name");
    assert_sealed(&world);
}

#[test]
fn row_09_name_that_is_no_host_name_is_refused() {
    let world = world();
    let long = format!("{}.live.com", ["a"; 125].join("."));
    let label = format!("{}.live.com", "a".repeat(64));
    for name in [
        "",
        ".",
        " login.live.com",
        "login.live.com\n",
        "login .live.com",
        "\x1b[2J",
        &long,
        &label,
    ] {
        assert_stopped(&world, &[Hello::to(name).octets()]);
    }
    assert_eq!(world.hits(LOGIN).connections, 0);
    let log = fs::read_to_string(world.gateway().log_file()).unwrap();
    assert!(!log.contains('\x1b'), "{log:?}");
    assert_sealed(&world);
}

#[test]
fn row_10_spelling_of_a_name_is_one_on_every_way() {
    let world = world();
    assert_passes(&world, LOGIN, &[Hello::to("LOGIN.Live.COM").octets()]);
    // RFC 6066 section 3 has no trailing dot; HTTP and DNS do.
    assert_stopped(&world, &[Hello::to("login.live.com.").octets()]);
    assert_stopped(&world, &[Hello::to("_sip.login.live.com").octets()]);
    for family in Family::BOTH {
        for host in ["LOGIN.Live.COM", "login.live.com."] {
            let page = Fetch::http(LOGIN, family).with_host(host);
            assert_reached(LOGIN, &world.ue(1).fetch(&page));
            let question = lab::Question::address(host, family);
            assert!(world.ue(1).ask(&question).addresses().next().is_some(), "{host}");
        }
    }
    assert_sealed(&world);
}

#[test]
fn row_11_what_is_not_a_client_hello_is_refused() {
    let world = world();
    let hello = Hello::to(LOGIN).octets();
    let with = |place: usize, octet: u8| {
        let mut octets = hello.clone();
        octets[place] = octet;
        octets
    };
    for octets in [
        b"GET / HTTP/1.1\r\nHost: login.live.com\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        // A hello of SSL 2.0.
        [&[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10][..], &[0; 37]].concat(),
        // Another record type, another major version, another message, an older hello.
        with(0, 23),
        with(1, 4),
        with(5, 2),
        with(9, 2),
    ] {
        assert_stopped(&world, &[octets]);
    }
    assert_eq!(world.hits(LOGIN).connections, 0);
    // A client that speaks nothing before TLS 1.3 is one.
    assert_passes(&world, LOGIN, &[hello]);
    assert_sealed(&world);
}

#[test]
fn row_14_hello_with_an_encrypted_one_inside_is_judged_by_its_outer_name() {
    let world = world();
    let hello = chromium();
    assert!(hello.windows(2).any(|octets| octets == ENCRYPTED_CLIENT_HELLO), "no ECH in it");
    assert_passes(&world, CHROMIUM_HOST, std::slice::from_ref(&hello));
    let at = hello.windows(3).position(|octets| octets == b"mps").unwrap();
    let mut denied = hello;
    denied[at..at + 3].copy_from_slice(b"xyz");
    assert_stopped(&world, &[denied]);
    assert_sealed(&world);
}

#[test]
fn row_30_octets_behind_the_hello_are_passed_on_unchanged() {
    let origin = Origin::new();
    let world = on_loopback(&origin, "builtin:mobile-plans");
    let hello = Hello::to("mps.datamart.windows.com").octets();
    let early = [&[20, 3, 3, 0, 1, 1][..], &[23, 3, 3, 0, 5, 1, 2, 3, 4, 5]].concat();
    let sent = [hello, early].concat();
    for gateway in world.gateway().listening("https") {
        let mut client = subscriber(gateway);
        client.write_all(&sent).unwrap();
        let mut came = vec![0; sent.len()];
        origin.accept().read_exact(&mut came).unwrap();
        assert_eq!(came, sent, "{gateway}");
    }
}

/// The origin answers, in both families.
#[track_caller]
fn assert_passes(world: &World, host: &str, pieces: &[Vec<u8>]) {
    for family in Family::BOTH {
        let first = said_to(world, at(host, family, 443), pieces.to_vec());
        assert!(is_server_hello(&first), "{family}: {first:?} to {:?}", pieces.first());
    }
}

/// The gateway answers with an alert, in both families.
#[track_caller]
fn assert_stopped(world: &World, pieces: &[Vec<u8>]) {
    for family in Family::BOTH {
        let first = said_to(world, at(LOGIN, family, 443), pieces.to_vec());
        assert_eq!(first, [21, 3, 3, 0, 2, 2], "{family}: to {:?}", pieces.first());
    }
}

/// The first octets that come back for pieces that leave in segments of their own.
fn said_to(world: &World, to: SocketAddr, pieces: Vec<Vec<u8>>) -> Vec<u8> {
    world.ue(1).namespace().run(async move {
        let talk = async {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in pieces {
                if stream.write_all(&piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let mut first = [0; 6];
            stream.read_exact(&mut first).await.map(|_| first.to_vec()).unwrap_or_default()
        };
        timeout(Sim::PATIENCE, talk).await.unwrap()
    })
}

fn is_server_hello(octets: &[u8]) -> bool {
    matches!(octets, [22, 3, _, _, _, 2])
}

/// The message of one record, in records of at most `size` octets.
fn in_records(record: &[u8], size: usize) -> Vec<u8> {
    let cut = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    };
    record[5..].chunks(size).flat_map(cut).collect()
}

fn message(hello: &Hello) -> Vec<u8> {
    hello.octets()[5..].to_vec()
}

/// A hello of Chromium, with a post-quantum key share and an encrypted hello for show.
fn chromium() -> Vec<u8> {
    fs::read(top().join("tests/data/hello/chromium.bin")).unwrap()
}

/// The host it names.
const CHROMIUM_HOST: &str = "mps.datamart.windows.com";
/// The extension's number (RFC 9849 section 5).
const ENCRYPTED_CLIENT_HELLO: [u8; 2] = [0xfe, 0x0d];
