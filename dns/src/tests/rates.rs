//! Subscribers that ask too much.

use std::net::SocketAddr;

use hickory_proto::{op::Message, rr::RecordType};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket},
};

use super::{
    scripted::Scripted,
    world::{NXDOMAIN, World, policy, question, read_framed, told},
};
use crate::Limits;

/// Slow enough that no second question fits into a test.
const ONE_A_SECOND: &str = "[class.limits]\ndns_qps = 1\n";

#[tokio::test]
async fn case_76_answers_every_second_question_over_the_rate_with_truncation() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&(policy(NXDOMAIN, "") + ONE_A_SECOND));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(world.address).await.unwrap();
    let asked = question("www.bing.com.", RecordType::A);
    for id in 0..5_u8 {
        let mut asked = asked.clone();
        asked[1] = id;
        socket.send(&asked).await.unwrap();
    }
    // The first is within the rate; of the others the odd ones slip.
    for (id, expected) in [(0, "NXDomain / . 5 SOA 5 EDE 15"), (1, "NoError"), (3, "NoError")] {
        let mut answer = [0; 1500];
        let length = socket.recv(&mut answer).await.unwrap();
        assert!(id == 0 || length <= asked.len(), "nothing is amplified");
        let answer = Message::from_vec(&answer[..length]).unwrap();
        assert_eq!((answer.metadata.id & 0xff, told(&answer)), (id, expected.to_owned()));
        assert_eq!(answer.metadata.truncation, id != 0);
    }
    world.eventually("postern_dns_dropped_total", "rate", 2.0).await;
    let records = world.judge.records();
    let (listed, limited) = records.split_at(1);
    assert_eq!(listed, ["unprovisioned deny not-listed www.bing.com"]);
    assert_eq!(limited, ["unprovisioned deny limit www.bing.com"; 4]);
    assert_eq!(world.metric("postern_dns_rate_buckets", ""), 1.0);
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn counts_connections_apart_and_refuses_in_words() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&(policy(NXDOMAIN, "") + ONE_A_SECOND));
    world.ask("www.bing.com.", RecordType::A).await;
    // What cannot be read counts as well: its answer is no smaller.
    let asked = question("www.bing.com.", RecordType::A);
    let told = burst(world.address, &[&asked, &asked, &[7; 12], &asked]).await;
    assert_eq!(told, [DENIED, "Refused EDE 18", "Refused", "Refused EDE 18"]);
}

#[tokio::test]
async fn holds_a_class_that_says_nothing_to_the_nodes_rate() {
    let upstream = Scripted::start().await;
    let limits = Limits { questions_per_second: 2, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    let asked = question("www.bing.com.", RecordType::A);
    let told = burst(world.address, &[&asked[..]; 3]).await;
    assert_eq!(told, [DENIED, DENIED, "Refused EDE 18"]);
    world.judge.publish(&(policy(NXDOMAIN, "") + "[class.limits]\ndns_qps = 1000000\n"));
    // What was asked before the change may still weigh for a part of a second.
    while burst(world.address, &[&asked[..]; 500]).await != [DENIED; 500] {}
}

/// Asks everything at once over one connection, so that no time passes in between.
async fn burst(address: SocketAddr, questions: &[&[u8]]) -> Vec<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut framed = Vec::new();
    for asked in questions {
        framed.extend_from_slice(&u16::try_from(asked.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(asked);
    }
    stream.write_all(&framed).await.unwrap();
    let mut answers = Vec::new();
    for _ in questions {
        let answer = read_framed(&mut stream).await.expect("an answer");
        answers.push(told(&Message::from_vec(&answer).unwrap()));
    }
    answers
}

const DENIED: &str = "NXDomain / . 5 SOA 5 EDE 15";
