//! Ways to hold the gateway's sessions by saying little, or by opening many.

use std::{net::SocketAddr, time::Duration};

use lab::{Sim, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{interval, timeout},
};

use crate::{
    hello::Hello,
    stage::{Family, LOGIN, assert_garden, at, eventually, metric, options},
};

#[test]
fn row_21_hello_and_head_that_come_in_drops_end_at_the_deadline() {
    let world = limited("hello_time = \"400ms\"\nheader_time = \"400ms\"");
    for family in Family::BOTH {
        // Each would take longer than the patience of a SIM.
        drip(&world, at(LOGIN, family, 443), Hello::to(LOGIN).octets());
        let head = format!("GET / HTTP/1.1\r\nX-Slow: {}", "a".repeat(1_000));
        drip(&world, at(LOGIN, family, 80), head.into_bytes());
    }
    for protocol in ["http", "https"] {
        let labels = [("protocol", protocol), ("reason", "hello-timeout")];
        assert_eq!(metric(&world, "postern_decisions_total", &labels), 2.0, "{protocol}");
    }
    assert_eq!(world.hits(LOGIN).connections, 0);
    assert_garden(&world);
}

#[test]
fn row_21_silent_sessions_of_one_subscriber_leave_room_for_the_others() {
    let world = limited("hello_time = \"1h\"\nheader_time = \"1h\"\nsessions_per_subscriber = 4");
    for family in Family::BOTH {
        let to = at(LOGIN, family, 443);
        let silent = world.ue(2).namespace().run(async move {
            let mut silent = Vec::new();
            for _ in 0..4 {
                silent.push(TcpStream::connect(to).await.unwrap());
            }
            silent
        });
        eventually("four are open", || {
            (metric(&world, "postern_sessions", &[]) == 4.0).then_some(())
        });
        let (answer, seen) = world.ue(2).send_bytes(to, Hello::to(LOGIN).octets());
        assert!(answer.is_empty() && seen.is_refused_at_once(), "the fifth: {seen}");
        assert_garden(&world);
        drop(silent);
        eventually("room is given back", || {
            (metric(&world, "postern_sessions", &[]) == 0.0).then_some(())
        });
    }
}

/// Sends one octet at a time and demands that the far side ends it.
#[track_caller]
fn drip(world: &World, to: SocketAddr, octets: Vec<u8>) {
    assert!(PACE * u32::try_from(octets.len()).unwrap() > Sim::PATIENCE);
    let ended = world.ue(1).namespace().run(async move {
        let stream = TcpStream::connect(to).await.unwrap();
        let (mut from, mut into) = stream.into_split();
        let dripping = async {
            let mut pace = interval(PACE);
            for octet in octets {
                pace.tick().await;
                if into.write_all(&[octet]).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let reading = async {
            let _ = from.read_to_end(&mut Vec::new()).await;
        };
        timeout(Sim::PATIENCE, async {
            tokio::select! {
                () = dripping => {}
                () = reading => {}
            }
        })
        .await
    });
    assert!(ended.is_ok(), "{to} waits for the rest");
}

/// A world whose gateway has these limits.
fn limited(limits: &str) -> World {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let settings = world.settings_text().unwrap();
    let limits = format!("[proxy.limits]\n{limits}\n[admin]");
    world.write_settings(&settings.replace("[admin]", &limits)).unwrap();
    world.gateway().start().unwrap();
    world
}

/// Between two octets.
const PACE: Duration = Duration::from_millis(50);
