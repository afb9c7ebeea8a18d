//! One DNS connection over TCP.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    encrypted::Open,
    limits::Limits,
    metrics::Transport,
    respond::{Asker, Reply, Responder},
    wire::{Dropped, MAX_QUESTION},
};

/// Answers the questions of one connection until the asker closes it, is idle or `stop`.
pub(super) async fn serve(
    stream: TcpStream,
    from: SocketAddr,
    responder: Arc<Responder>,
    limits: Limits,
    stop: CancellationToken,
) {
    let _open = Open::new(&responder);
    // Whatever ends it, the asker sees it closed; there is nobody to tell more.
    if let Err(error) = exchange(stream, from, &responder, limits, &stop).await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn exchange(
    mut stream: TcpStream,
    from: SocketAddr,
    responder: &Arc<Responder>,
    limits: Limits,
    stop: &CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Under TPROXY this is the address the subscriber chose.
    let asker = Asker { from, to: Some(stream.local_addr()?), transport: Transport::Tcp };
    let mut waiting: JoinSet<Vec<u8>> = JoinSet::new();
    let mut received = Vec::new();
    let mut is_closed = false;
    let mut deadline = Instant::now() + limits.idle;
    let pending = limits.pending_per_connection.max(1);
    loop {
        while waiting.len() < pending
            && let Some(message) = take_message(&mut received)
        {
            deadline = Instant::now() + limits.idle;
            match responder.take(&message, asker) {
                Reply::Silence => return Ok(()),
                Reply::Now(answer) => send(&mut stream, &answer, limits).await?,
                Reply::Later(question) => {
                    let responder = Arc::clone(responder);
                    waiting.spawn(async move { responder.finish(*question).await });
                }
            }
        }
        if waiting.is_empty() && (is_closed || stop.is_cancelled()) {
            return Ok(());
        }
        if next_length(&received).is_some_and(|length| length > MAX_QUESTION) {
            responder.metrics().dropped(Dropped::Long);
            return Ok(());
        }
        let has_room = waiting.len() < pending;
        let reads = !is_closed && !stop.is_cancelled() && has_room;
        tokio::select! {
            // Reading into a vector loses nothing if another branch is taken.
            read = timeout_at(deadline, stream.read_buf(&mut received)), if reads => match read {
                Ok(read) => is_closed = read? == 0,
                Err(_elapsed) if waiting.is_empty() => return Err(io::ErrorKind::TimedOut.into()),
                Err(_elapsed) => is_closed = true,
            },
            Some(answer) = waiting.join_next() => {
                deadline = deadline.max(Instant::now() + limits.idle);
                if let Ok(answer) = answer {
                    send(&mut stream, &answer, limits).await?;
                }
            }
            () = stop.cancelled(), if reads => {}
        }
    }
}

fn next_length(received: &[u8]) -> Option<usize> {
    received.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)))
}

/// Takes the first message out of `received`, if it is whole.
fn take_message(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = next_length(received)? + 2;
    let message = received.get(2..end)?.to_vec();
    received.drain(..end);
    Some(message)
}

async fn send(stream: &mut TcpStream, answer: &[u8], limits: Limits) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let framed = [&length.to_be_bytes(), answer].concat();
    match timeout(limits.idle, stream.write_all(&framed)).await {
        Ok(sent) => sent,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    }
}
