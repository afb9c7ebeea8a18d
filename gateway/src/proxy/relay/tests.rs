use tokio::io::{DuplexStream, duplex};

use super::*;

#[tokio::test]
async fn end_of_one_direction_is_passed_on_and_the_other_goes_on() {
    let (mut subscriber, mut origin, relayed) = relayed(IDLE);
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

#[tokio::test(start_paused = true)]
async fn silence_in_both_directions_ends_it() {
    let (_subscriber, _origin, relayed) = relayed(IDLE);
    assert_eq!(relayed.await, Ended::Idle);
}

#[tokio::test(start_paused = true)]
async fn one_direction_alone_keeps_it_open() {
    let (mut subscriber, mut origin, relayed) = relayed(IDLE);
    let talk = async {
        for _ in 0..10 {
            tokio::time::sleep(IDLE / 2).await;
            origin.write_all(b"x").await.unwrap();
            subscriber.read_exact(&mut [0]).await.unwrap();
        }
        drop((origin, subscriber));
    };
    let (ended, ()) = tokio::join!(relayed, talk);
    assert_eq!(ended, Ended::Both);
}

#[tokio::test(start_paused = true)]
async fn subscriber_that_does_not_read_counts_as_silent() {
    let (_subscriber, mut origin, relayed) = relayed(IDLE);
    let flood = async { while origin.write_all(&[0; 1024]).await.is_ok() {} };
    tokio::select! {
        ended = relayed => assert_eq!(ended, Ended::Idle),
        () = flood => panic!("the flood ended first"),
    }
}

#[tokio::test]
async fn large_transfers_arrive_whole_and_in_order() {
    let (mut subscriber, mut origin, relayed) = relayed(IDLE);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_be_bytes()[2]).collect();
    let talk = async {
        let write = async {
            origin.write_all(&sent).await.unwrap();
            drop(origin);
        };
        let read = async {
            let mut got = Vec::new();
            subscriber.read_to_end(&mut got).await.unwrap();
            drop(subscriber);
            got
        };
        tokio::join!(write, read).1
    };
    let (ended, got) = tokio::join!(relayed, talk);
    assert!(got == sent);
    assert_eq!(ended, Ended::Both);
}

#[tokio::test]
async fn moves_nothing_after_the_last_bytes_and_waits_to_be_cut() {
    let (mut subscriber, near) = duplex(1 << 20);
    let (far, mut origin) = duplex(1 << 20);
    let moved = AtomicU64::new(0);
    let relayed = relay(near, far, IDLE, |_, bytes| {
        let before = moved.fetch_add(u64::try_from(bytes).unwrap(), Ordering::Relaxed);
        if before >= 10_000 { Flow::Over } else { Flow::On }
    });
    origin.write_all(&vec![0; 1 << 20]).await.unwrap();
    // It ends with the patience of the reader, not by itself.
    tokio::select! {
        ended = relayed => panic!("{ended:?}"),
        () = async { while moved.load(Ordering::Relaxed) < 10_000 {
            tokio::task::yield_now().await;
        } } => {}
    }
    let length = u64::try_from(subscriber.read(&mut vec![0; 1 << 20]).await.unwrap()).unwrap();
    assert!(length <= 10_000 + 2 * LARGE_BUFFER as u64, "{length}");
}

/// The subscriber's end, the origin's end, and the relay between them.
fn relayed(idle_limit: Duration) -> (DuplexStream, DuplexStream, impl Future<Output = Ended>) {
    let (subscriber, near) = duplex(512);
    let (far, origin) = duplex(512);
    let relayed = async move { relay(near, far, idle_limit, |_, _| Flow::On).await };
    (subscriber, origin, relayed)
}

const IDLE: Duration = Duration::from_secs(60);
