//! A thread that finds more questions waiting than it can answer at once.

use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use policy::{Record, Snapshot, Subscriber};
use prometheus::Registry;
use socket2::SockRef;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    scripted::Scripted,
    world::{Bench, PATIENCE, World, question},
};
use crate::{Inherited, Judge, Limits, Metrics, Server, Settings};

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

/// Stops the server at one of its judgements.
struct Stopping {
    judge: Arc<Bench>,
    judgements: AtomicUsize,
    last: usize,
    stop: CancellationToken,
}

impl Judge for Stopping {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.judge.snapshot()
    }

    fn subscriber(&self, address: IpAddr) -> Subscriber {
        self.judge.subscriber(address)
    }

    fn now(&self) -> Timestamp {
        self.judge.now()
    }

    fn record(&self, _record: &Record<'_>) {
        if self.judgements.fetch_add(1, Ordering::Relaxed) + 1 == self.last {
            self.stop.cancel();
        }
    }
}

/// What is answered, in this order, by a server that goes on with the socket of [`waiting`] until its
/// `last` judgement, and what waits in the socket after that.
async fn answered_and_left(last: usize) -> (Vec<u16>, Vec<u16>) {
    let (listener, asker) = waiting();
    let world = World::start("127.0.0.1:0", &[&Scripted::start().await]).await;
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
    let (judge, stop) = (Arc::clone(&world.judge), CancellationToken::new());
    let judgements = AtomicUsize::new(0);
    let judge = Arc::new(Stopping { judge, judgements, last, stop: stop.clone() });
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let resolver = Arc::clone(&world.resolver);
    let server = Server::bind(&settings, &mut inherited, judge, resolver, metrics).await.unwrap();
    timeout(PATIENCE, server.run(stop)).await.expect("the server stops");
    for socket in [&asker, &listener] {
        socket.set_nonblocking(true).unwrap();
    }
    let ids = |socket| std::iter::from_fn(|| next_id(socket)).collect();
    (ids(&asker), ids(&listener))
}

fn next_id(socket: &UdpSocket) -> Option<u16> {
    let mut message = [0; 512];
    match socket.recv(&mut message) {
        Ok(_) => Some(u16::from_be_bytes([message[0], message[1]])),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn answers_the_newest_first_once_many_wait() {
    let (answered, left) = answered_and_left(WAITING.into()).await;
    // The first are under way when it turns out how many there are; of the last two batches none is
    // late any more.
    let order: [Range<u16>; 7] =
        [0..64, 384..WAITING, 320..384, 256..320, 192..256, 64..128, 128..192];
    assert_eq!(answered, order.into_iter().flatten().collect::<Vec<_>>());
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_thread_that_stops_answers_what_it_took_and_leaves_the_rest() {
    let (answered, left) = answered_and_left(1).await;
    assert_eq!(answered, (0..64).collect::<Vec<_>>());
    assert_eq!(left, (64..WAITING).collect::<Vec<_>>());
    let (answered, left) = answered_and_left(65).await;
    assert_eq!((answered.len(), left.len()), (WAITING.into(), 0));
}

/// Six batches and a quarter, which the kernel has room for whatever it was told.
const WAITING: u16 = 400;
