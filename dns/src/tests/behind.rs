//! A thread that finds more questions waiting than it can answer at once.

use std::{io::ErrorKind, net::UdpSocket, ops::Range, sync::Arc, time::Duration};

use hickory_proto::rr::RecordType;
use prometheus::Registry;
use socket2::SockRef;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    scripted::Scripted,
    world::{PATIENCE, World, question},
};
use crate::{Inherited, Limits, Metrics, Server, Settings};

/// The listener's socket with questions 0 to [`WAITING`] in it, and the socket that asked.
fn waiting() -> (UdpSocket, UdpSocket) {
    // As a predecessor leaves it.
    let listener = room(Duration::from_millis(100));
    let asker = room(PATIENCE);
    asker.connect(listener.local_addr().unwrap()).unwrap();
    let mut message = question("www.bing.com.", RecordType::A);
    for id in 0..WAITING {
        message[..2].copy_from_slice(&id.to_be_bytes());
        asker.send(&message).unwrap();
    }
    (listener, asker)
}

/// A socket with much room, on which a call waits for so long.
fn room(wait: Duration) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket.set_read_timeout(Some(wait)).unwrap();
    socket
}

/// Has a server go on with `listener` until `stop`.
async fn go_on(world: &World, listener: &UdpSocket, stop: &CancellationToken) -> JoinSet<()> {
    let settings = Settings {
        listen: vec![listener.local_addr().unwrap()],
        interfaces: Vec::new(),
        tls: None,
        https: None,
        transparent: false,
        leads_to: Vec::new(),
        limits: Limits { questions_per_second: u32::MAX, ..Limits::default() },
    };
    let mut inherited = Inherited::new(vec![listener.try_clone().unwrap().into()]);
    let (judge, resolver) = (Arc::clone(&world.judge), Arc::clone(&world.resolver));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let server = Server::bind(&settings, &mut inherited, judge, resolver, metrics).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(server.run(stop.clone()));
    running
}

fn next_id(socket: &UdpSocket) -> Option<u16> {
    let mut message = [0; 512];
    match socket.recv(&mut message) {
        Ok(_) => Some(u16::from_be_bytes([message[0], message[1]])),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_the_newest_first_once_many_wait() {
    let world = World::start("127.0.0.1:0", &[&Scripted::start().await]).await;
    let (listener, asker) = waiting();
    let stop = CancellationToken::new();
    let mut running = go_on(&world, &listener, &stop).await;
    let answered: Vec<u16> = (0..WAITING).map(|_| next_id(&asker).unwrap()).collect();
    // The first are under way when it turns out how many there are; of the last two batches none is
    // late any more.
    let order: [Range<u16>; 7] =
        [0..64, 384..WAITING, 320..384, 256..320, 192..256, 64..128, 128..192];
    assert_eq!(answered, order.into_iter().flatten().collect::<Vec<_>>());
    stop.cancel();
    timeout(PATIENCE, running.join_next()).await.expect("the server stops").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_stops_answers_what_it_took_and_leaves_the_rest() {
    let world = World::start("127.0.0.1:0", &[&Scripted::start().await]).await;
    let (listener, asker) = waiting();
    let stop = CancellationToken::new();
    let mut running = go_on(&world, &listener, &stop).await;
    let first = next_id(&asker).unwrap();
    stop.cancel();
    timeout(PATIENCE, running.join_next()).await.expect("the server stops").unwrap().unwrap();
    for socket in [&asker, &listener] {
        socket.set_nonblocking(true).unwrap();
    }
    let answered = std::iter::from_fn(|| next_id(&asker));
    let mut all: Vec<u16> = std::iter::once(first).chain(answered).collect();
    all.extend(std::iter::from_fn(|| next_id(&listener)));
    all.sort_unstable();
    assert_eq!(all, (0..WAITING).collect::<Vec<_>>());
}

/// Six batches and a quarter, which the kernel has room for whatever it was told.
const WAITING: u16 = 400;
