//! Copies bytes between subscriber and origin until both are done.
//!
//! Bytes are never looked at or changed. The end of one direction is passed on and the other goes
//! on; only silence in both, for longer than the idle limit, ends a relay that neither side ended.

use std::{
    future::pending,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use super::{meter::Flow, metrics::Direction};

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides closed.
    Both,
    /// The subscriber's connection broke.
    SubscriberBroke,
    /// The origin's connection broke.
    OriginBroke,
    /// Nothing moved for longer than the limit.
    Idle,
}

/// Relays until both sides are done, one breaks, or nothing moves for `idle_limit` (to which the
/// watch adds up to a quarter). Once `moved` says that bytes were the last, it waits to be cut.
pub(super) async fn relay<S, O>(
    subscriber: S,
    origin: O,
    idle_limit: Duration,
    moved: impl Fn(Direction, usize) -> Flow,
) -> Ended
where
    S: AsyncRead + AsyncWrite,
    O: AsyncRead + AsyncWrite,
{
    let (mut from_subscriber, mut to_subscriber) = split(subscriber);
    let (mut from_origin, mut to_origin) = split(origin);
    let moves = AtomicU64::new(0);
    let count = |direction| {
        let (moves, moved) = (&moves, &moved);
        move |bytes| {
            moves.fetch_add(1, Ordering::Relaxed);
            moved(direction, bytes)
        }
    };
    let both = async {
        tokio::try_join!(
            async {
                pump(&mut from_subscriber, &mut to_origin, count(Direction::ToOrigin))
                    .await
                    .map_err(|broken| match broken {
                        Broken::Source => Ended::SubscriberBroke,
                        Broken::Sink => Ended::OriginBroke,
                    })
            },
            async {
                pump(&mut from_origin, &mut to_subscriber, count(Direction::ToSubscriber))
                    .await
                    .map_err(|broken| match broken {
                        Broken::Source => Ended::OriginBroke,
                        Broken::Sink => Ended::SubscriberBroke,
                    })
            },
        )
    };
    tokio::select! {
        ended = both => match ended {
            Ok(((), ())) => Ended::Both,
            Err(ended) => ended,
        },
        () = silence(&moves, idle_limit) => Ended::Idle,
    }
}

enum Broken {
    Source,
    Sink,
}

/// Copies until the source's end, and passes that on.
async fn pump<R, W>(
    source: &mut R,
    sink: &mut W,
    moved: impl Fn(usize) -> Flow,
) -> Result<(), Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; SMALL_BUFFER];
    loop {
        let length = source.read(&mut buffer).await.map_err(|_| Broken::Source)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return shut(sink).await.map_err(|_| Broken::Sink);
        }
        while !rest.is_empty() {
            let written = sink.write(rest).await.map_err(|_| Broken::Sink)?;
            if written == 0 {
                return Err(Broken::Sink);
            }
            match moved(written) {
                Flow::On => {}
                Flow::Over => return pending().await,
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        if length == buffer.len() && length < LARGE_BUFFER {
            buffer = vec![0; (length * 4).min(LARGE_BUFFER)];
        }
    }
}

/// Closes the writing side. A peer that is gone already cannot be told, which harms nothing.
async fn shut<W: AsyncWrite + Unpin>(sink: &mut W) -> io::Result<()> {
    match sink.shutdown().await {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Ends when `moves` stands still for `limit`.
async fn silence(moves: &AtomicU64, limit: Duration) {
    let mut seen = moves.load(Ordering::Relaxed);
    let mut quiet = 0;
    while quiet < SLICES {
        tokio::time::sleep(limit / SLICES).await;
        let current = moves.load(Ordering::Relaxed);
        quiet = if current == seen { quiet + 1 } else { 0 };
        seen = current;
    }
}

/// The idle limit is watched in so many slices: no clock is read for each byte.
const SLICES: u32 = 4;
/// Bytes a quiet direction holds.
const SMALL_BUFFER: usize = 1024;
/// Bytes a busy direction grows to.
const LARGE_BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests;
