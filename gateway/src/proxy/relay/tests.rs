use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::proxy::tests::packets_in;

#[tokio::test]
async fn end_of_one_direction_is_passed_on_and_the_other_goes_on() {
    let Ends { mut subscriber, near, far, mut origin } = ends().await;
    let pipes = Pipes::new();
    let relayed = relay(near, far, &pipes, IDLE, |_, _| Flow::On);
    let talk = async {
        subscriber.write_all(b"question").await.unwrap();
        subscriber.shutdown().await.unwrap();
        let mut question = Vec::new();
        origin.read_to_end(&mut question).await.unwrap();
        origin.write_all(b"answer").await.unwrap();
        drop(origin);
        let mut answer = Vec::new();
        subscriber.read_to_end(&mut answer).await.unwrap();
        (question, answer)
    };
    let (ended, (question, answer)) = tokio::join!(relayed, talk);
    assert_eq!(ended, Ended::Both);
    assert_eq!((question.as_slice(), answer.as_slice()), (&b"question"[..], &b"answer"[..]));
}

#[tokio::test]
async fn silence_in_both_directions_ends_it() {
    let Ends { near, far, .. } = ends().await;
    let pipes = Pipes::new();
    let ended = relay(near, far, &pipes, SHORT, |_, _| Flow::On).await;
    assert!(matches!(ended, Ended::Both), "the peers of both are gone: {ended:?}");
    let Ends { subscriber: _subscriber, near, far, origin: _origin } = ends().await;
    assert_eq!(relay(near, far, &pipes, SHORT, |_, _| Flow::On).await, Ended::Idle);
}

#[tokio::test]
async fn one_direction_alone_keeps_it_open() {
    let Ends { mut subscriber, near, far, mut origin } = ends().await;
    let pipes = Pipes::new();
    let relayed = relay(near, far, &pipes, SHORT, |_, _| Flow::On);
    let talk = async {
        for _ in 0..10 {
            sleep(SHORT / 4).await;
            origin.write_all(b"x").await.unwrap();
            subscriber.read_exact(&mut [0]).await.unwrap();
        }
        drop((origin, subscriber));
    };
    let (ended, ()) = tokio::join!(relayed, talk);
    assert_eq!(ended, Ended::Both);
}

#[tokio::test]
async fn subscriber_that_does_not_read_counts_as_silent() {
    let Ends { subscriber: _subscriber, near, far, mut origin } = ends().await;
    let pipes = Pipes::new();
    let relayed = relay(near, far, &pipes, SHORT, |_, _| Flow::On);
    let flood = async { while origin.write_all(&[0; 65_536]).await.is_ok() {} };
    tokio::select! {
        ended = relayed => assert_eq!(ended, Ended::Idle),
        () = flood => panic!("the flood ended first"),
    }
}

#[tokio::test]
async fn large_transfers_arrive_whole_and_in_order_with_pipes_and_without() {
    for pipes in [Pipes::new(), Pipes::none()] {
        let Ends { subscriber, near, far, origin } = ends().await;
        let relayed = relay(near, far, &pipes, IDLE, |_, _| Flow::On);
        let sent: Vec<u8> = (0..8_000_000_u32).map(|n| n.to_be_bytes()[2]).collect();
        let talk = async |mut stream: TcpStream| {
            let (mut read, mut write) = stream.split();
            let mut got = vec![0; sent.len()];
            tokio::try_join!(write.write_all(&sent), read.read_exact(&mut got)).unwrap();
            stream.shutdown().await.unwrap();
            got
        };
        let (ended, up, down) = tokio::join!(relayed, talk(subscriber), talk(origin));
        assert!(up == sent && down == sent);
        assert_eq!(ended, Ended::Both);
    }
}

#[tokio::test]
async fn pipe_goes_back_even_when_the_relay_is_cut_with_bytes_in_it() {
    let Ends { subscriber: _subscriber, near, far, mut origin } = ends().await;
    let pipes = Pipes::new();
    let relayed = relay(near, far, &pipes, IDLE, |_, _| Flow::On);
    let flood = async {
        // Until the subscriber's side is full, and the gateway's.
        while let Ok(written) = tokio::time::timeout(SHORT, origin.write_all(&[0; 65_536])).await {
            written.unwrap();
        }
    };
    tokio::select! {
        ended = relayed => panic!("{ended:?}"),
        () = flood => {}
    }
    let free = std::iter::from_fn(|| pipes.lend().map(std::mem::forget)).count();
    let all = Pipes::new();
    assert_eq!(free, std::iter::from_fn(|| all.lend().map(std::mem::forget)).count());
}

#[tokio::test]
async fn moves_nothing_after_the_last_bytes_and_waits_to_be_cut() {
    let Ends { mut subscriber, near, far, mut origin } = ends().await;
    let pipes = Pipes::new();
    let moved = AtomicUsize::new(0);
    let relayed = relay(near, far, &pipes, IDLE, |_, bytes| {
        let before = moved.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes >= 10_000 { Flow::Over } else { Flow::On }
    });
    origin.write_all(&vec![0; 1 << 20]).await.unwrap();
    // It ends with the patience of the reader, not by itself.
    tokio::select! {
        ended = relayed => panic!("{ended:?}"),
        () = async { while moved.load(Ordering::Relaxed) < 10_000 {
            tokio::task::yield_now().await;
        } } => {}
    }
    let mut got = Vec::new();
    let _ = subscriber.read_to_end(&mut got).await;
    let counted = moved.load(Ordering::Relaxed);
    assert_eq!(got.len(), counted);
    assert!(counted < 10_000 + Loan::OCTETS, "{counted}");
}

#[tokio::test]
async fn the_last_octets_leave_in_one_packet_with_the_end() {
    let Ends { mut subscriber, near, far, mut origin } = ends().await;
    let pipes = Pipes::new();
    origin.write_all(b"the last").await.unwrap();
    drop(origin);
    // The end is known before the octets are read: only then is this promised.
    while !has_ended(&far) {
        far.readable().await.unwrap();
    }
    let before = packets_in(&subscriber);
    let talk = async {
        let mut got = Vec::new();
        subscriber.read_to_end(&mut got).await.unwrap();
        let packets = packets_in(&subscriber) - before;
        drop(subscriber);
        (got, packets)
    };
    let (ended, (got, packets)) =
        tokio::join!(relay(near, far, &pipes, IDLE, |_, _| Flow::On), talk);
    assert_eq!((ended, got.as_slice(), packets), (Ended::Both, &b"the last"[..], 1));
}

/// Both connections of a relay: near and far are its own ends.
struct Ends {
    subscriber: TcpStream,
    near: TcpStream,
    far: TcpStream,
    origin: TcpStream,
}

async fn ends() -> Ends {
    let pair = async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    };
    let ((subscriber, near), (far, origin)) = (pair().await, pair().await);
    Ends { subscriber, near, far, origin }
}

const IDLE: Duration = Duration::from_secs(60);
/// Long enough for a crowded machine to run a task between two slices of it.
const SHORT: Duration = Duration::from_millis(800);
