//! Askers that do not keep the rules.

use std::{sync::Arc, time::Duration};

use hickory_proto::{op::Message, rr::RecordType};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use super::{
    scripted::Scripted,
    world::{World, question, read_framed, told, write_framed},
};
use crate::{Limits, Metrics, Server, Settings};

#[tokio::test]
async fn survives_garbage_and_keeps_answering() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let whole = question("www.bing.com.", RecordType::A);
    for length in 0..whole.len() {
        socket.send_to(&whole[..length], world.address).await.unwrap();
    }
    let mut response = whole.clone();
    response[2] |= 0x80;
    socket.send_to(&response, world.address).await.unwrap();
    socket.send_to(&vec![0; 60_000], world.address).await.unwrap();
    // By the same socket, because another may be served by another thread.
    socket.send_to(&whole, world.address).await.unwrap();
    let mut buffer = vec![0; 512];
    for length in 12..=whole.len() {
        let (received, _) = socket.recv_from(&mut buffer).await.unwrap();
        let answer = Message::from_vec(&buffer[..received]).unwrap();
        let is_whole = length == whole.len();
        assert_eq!(told(&answer), if is_whole { "NXDomain / . 5 SOA 5 EDE 15" } else { "FormErr" });
    }
    assert_eq!(world.metric("postern_dns_dropped_total", "short"), 12.0);
    assert_eq!(world.metric("postern_dns_dropped_total", "response"), 1.0);
    assert_eq!(world.metric("postern_dns_dropped_total", "long"), 1.0);
}

#[tokio::test]
async fn case_61_reads_questions_in_pieces_and_several_at_once() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let bytes = question("www.bing.com.", RecordType::A);
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let framed = [&length, &bytes[..]].concat();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for octet in &framed {
        stream.write_all(&[*octet]).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.write_all(&[&framed[..], &framed[..]].concat()).await.unwrap();
    for _ in 0..3 {
        let answer = Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap();
        assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15");
    }
    stream.shutdown().await.unwrap();
    assert_eq!(read_framed(&mut stream).await, None);
}

#[tokio::test]
async fn case_61_answers_a_later_question_before_one_that_waits() {
    let upstream = Scripted::start().await;
    let gate = upstream.hold();
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    write_framed(&mut stream, &question("listed.example.", RecordType::A)).await;
    write_framed(&mut stream, &question("www.bing.com.", RecordType::A)).await;
    let first = Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap();
    assert_eq!(told(&first), "NXDomain / . 5 SOA 5 EDE 15");
    gate.notify_one();
    let second = Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap();
    assert_eq!(told(&second), "NoError listed.example. 30 198.51.100.7");
}

#[tokio::test]
async fn case_61_closes_idle_connections_and_those_that_send_garbage() {
    let upstream = Scripted::start().await;
    let limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    for sent in [&[][..], &[0], &[0, 40, 1, 2], &[0xff, 0xff, 0], &[0, 3, 1, 2, 3]] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        assert_eq!(read_framed(&mut stream).await, None, "{sent:?}");
    }
    assert_eq!(world.metric("postern_dns_connections", ""), 0.0);
}

#[tokio::test]
async fn case_61_bounds_the_connections_of_one_source() {
    let upstream = Scripted::start().await;
    let limits = Limits { connections_per_source: 2, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        write_framed(&mut stream, &question("www.bing.com.", RecordType::A)).await;
        assert!(read_framed(&mut stream).await.is_some());
        held.push(stream);
    }
    let mut third = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(third.read(&mut [0]).await.unwrap_or_default(), 0);
    assert_eq!(world.metric("postern_dns_refused_connections_total", "source"), 1.0);
    let mut first = held.remove(0);
    first.shutdown().await.unwrap();
    assert_eq!(read_framed(&mut first).await, None);
    // The place is free once the server has seen the end, which nothing tells us.
    loop {
        let mut again = TcpStream::connect(world.address).await.unwrap();
        if again.write_all(&[0]).await.is_ok() {
            let bytes = question("www.bing.com.", RecordType::A);
            let rest = [&[u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat();
            if again.write_all(&rest).await.is_ok() && read_framed(&mut again).await.is_some() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn case_61_bounds_the_connections_of_all_and_the_questions_of_one() {
    let upstream = Scripted::start().await;
    let gate = upstream.hold();
    let limits = Limits { connections: 1, pending_per_connection: 1, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    let mut first = TcpStream::connect(world.address).await.unwrap();
    write_framed(&mut first, &question("listed.example.", RecordType::A)).await;
    write_framed(&mut first, &question("www.bing.com.", RecordType::A)).await;
    upstream.arrival().await;
    let mut second = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(second.read(&mut [0]).await.unwrap_or_default(), 0);
    assert_eq!(world.metric("postern_dns_refused_connections_total", "total"), 1.0);
    gate.notify_one();
    for expected in ["NoError", "NXDomain"] {
        let answer = Message::from_vec(&read_framed(&mut first).await.unwrap()).unwrap();
        assert!(told(&answer).starts_with(expected), "the second question had to wait");
    }
}

#[tokio::test]
async fn says_which_address_is_taken_and_leaves_nothing_bound() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (judge, resolver) = (Arc::clone(&world.judge), Arc::clone(&world.resolver));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let limits = Limits::default();
    let listen = vec![free, world.address];
    let settings = Settings {
        listen,
        interfaces: Vec::new(),
        tls: None,
        https: None,
        transparent: false,
        leads_to: Vec::new(),
        limits,
    };
    let error = Server::bind(&settings, &mut crate::Inherited::default(), judge, resolver, metrics)
        .await
        .unwrap_err();
    let expected = format!(
        "cannot listen on {} over UDP; another process has the port: stop it, or choose another \
         address in [dns]",
        world.address
    );
    assert_eq!(error.to_string(), expected);
    UdpSocket::bind(free).await.unwrap();
    TcpListener::bind(free).await.unwrap();
}

#[tokio::test]
async fn stops_while_connections_are_open_and_frees_the_port() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let address = world.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    write_framed(&mut idle, &question("www.bing.com.", RecordType::A)).await;
    assert!(read_framed(&mut idle).await.is_some());
    world.stop().await;
    assert_eq!(read_framed(&mut idle).await, None);
    UdpSocket::bind(address).await.unwrap();
}

#[tokio::test]
async fn answers_many_at_once() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let limits = Limits { udp_pending_per_source: 200, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    let address = world.address;
    let mut askers = JoinSet::new();
    for number in 0..200 {
        askers.spawn(async move {
            let name = if number % 2 == 0 { "listed.example." } else { "www.bing.com." };
            let answer = super::world::ask(address, &question(name, RecordType::A)).await;
            (number % 2 == 0, told(&answer.expect("an answer")))
        });
    }
    while let Some(asked) = askers.join_next().await {
        let (is_listed, told) = asked.unwrap();
        assert_eq!(told.starts_with("NoError listed.example. "), is_listed, "{told}");
    }
}
