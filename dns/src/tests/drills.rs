//! Drills: what a subscriber is told, how soon, and how often upstreams are asked, when one of two
//! upstreams or both fail in one way. Run with `--nocapture` for the table.

use std::time::Duration;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use tokio::{net::UdpSocket, time::Instant};

use super::{
    scripted::{Lie, Script, Scripted, zone},
    world::{World, told},
};
use crate::{Limits, Upstream};

const FINE: &str = "NoError listed.example. 30 198.51.100.7";

#[tokio::test]
async fn drills_answer_in_time_and_ask_no_more_often_than_needed() {
    println!("{:32} {:44} {:>8} {:>8} {:>8}", "drill", "answer", "ms", "first", "second");
    let said = |rcode| Script::Say(rcode, Vec::new(), Vec::new());
    let records = |lines: &[&str]| Script::Say(ResponseCode::NoError, zone(lines), Vec::new());
    let chain =
        records(&["listed.example. 30 CNAME a.example.", "a.example. 30 CNAME listed.example."]);
    let extra = records(&["www.bing.com. 30 A 198.51.100.66", "listed.example. 30 A 198.51.100.7"]);
    let lie = |lie| Script::Lie(lie, 3, true);
    // The answer with a sound second upstream, and with a second that fails alike.
    for (drill, script, beside_sound, alone) in [
        ("lame: SERVFAIL", said(ResponseCode::ServFail), FINE, "ServFail EDE 22"),
        ("lame: REFUSED", said(ResponseCode::Refused), FINE, "ServFail EDE 22"),
        ("lame: NOTIMP", said(ResponseCode::NotImp), FINE, "ServFail EDE 22"),
        ("lame: FORMERR", said(ResponseCode::FormErr), FINE, "ServFail EDE 22"),
        ("slow: 700 ms", Script::Late(Duration::from_millis(700)), FINE, FINE),
        ("silent", Script::Silence, FINE, "ServFail EDE 22"),
        ("lying: another id", lie(Lie::Id), FINE, FINE),
        ("lying: another question", lie(Lie::Question), FINE, FINE),
        ("lying: from elsewhere", lie(Lie::Source), FINE, FINE),
        ("lying: a flood of ids", Script::Lie(Lie::Id, 50, false), FINE, FINE),
        ("lying: another class", Script::Lie(Lie::Class, 1, false), FINE, "ServFail EDE 22"),
        ("lying: extra records", extra, FINE, FINE),
        ("lying: a loop of aliases", chain, "ServFail EDE 0", "ServFail EDE 0"),
        ("truncated for ever", Script::Endless, FINE, "ServFail EDE 22"),
        ("damaged", Script::Cut(40), FINE, "ServFail EDE 22"),
    ] {
        for (is_alone, expected) in [(false, beside_sound), (true, alone)] {
            let (first, second) = (Scripted::start().await, Scripted::start().await);
            first.otherwise(script.clone());
            second.otherwise(if is_alone { script.clone() } else { Script::Late(Duration::ZERO) });
            let upstreams = [first.url().parse().unwrap(), second.url().parse().unwrap()];
            let name = format!("{drill}{}", if is_alone { ", both" } else { "" });
            run(&name, &upstreams, [&first, &second], expected).await;
        }
    }
    let second = Scripted::start().await;
    second.otherwise(Script::Late(Duration::ZERO));
    let (killed, other) = (killed().await, killed().await);
    run("killed", &[killed.clone(), second.url().parse().unwrap()], [&second; 2], FINE).await;
    run("killed, both", &[killed, other], [&second; 2], "ServFail EDE 22").await;
}

async fn run(drill: &str, upstreams: &[Upstream], [first, second]: [&Scripted; 2], expected: &str) {
    let world = World::start_over("127.0.0.1:0", upstreams, Limits::default()).await;
    let started = Instant::now();
    let answer = told(&world.ask("listed.example.", RecordType::A).await);
    let elapsed = started.elapsed();
    let (asked_first, asked_second) = (first.asked().len(), second.asked().len());
    println!("{drill:32} {answer:44} {:8} {asked_first:8} {asked_second:8}", elapsed.as_millis());
    assert_eq!(answer, expected, "{drill}");
    assert!(elapsed < Duration::from_secs(5), "{drill}: {elapsed:?}");
    assert!(asked_first + asked_second <= 14, "{drill}");
}

/// The address of an upstream that is gone.
async fn killed() -> Upstream {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    format!("udp://{}", socket.local_addr().unwrap()).parse().unwrap()
}
