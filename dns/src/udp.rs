//! The UDP listener: one loop a socket. What can be said at once is said in the loop; only
//! questions that wait for an upstream become tasks, and only so many.

mod socket;

use std::sync::Arc;

use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

pub(crate) use socket::Socket;

use crate::{
    limits::{DRAIN, Limits},
    metrics::Transport,
    respond::{Asker, Reply, Responder},
    sources::Sources,
    wire::{Dropped, MAX_QUESTION},
};

/// Answers what arrives on `socket` until `stop`.
pub(crate) async fn serve(
    socket: Socket,
    responder: Arc<Responder>,
    limits: Limits,
    stop: CancellationToken,
) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut sources = Sources::default();
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = waiting.join_next_with_id() => {
                sources.leave(ended.map_or_else(|error| error.id(), |(id, ())| id));
                continue;
            }
            received = socket.receive(&mut buffer) => received,
        };
        let datagram = match received {
            Ok(datagram) => datagram,
            Err(error) => {
                tracing::warn!(%error, "cannot receive questions");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(message) = datagram.message(&buffer) else {
            responder.metrics().dropped(Dropped::Long);
            continue;
        };
        let path = datagram.path;
        let asker = Asker { from: path.from, to: path.to, transport: Transport::Udp };
        let answer = match responder.take(message, asker) {
            Reply::Silence => continue,
            Reply::Now(answer) => answer,
            Reply::Later(question)
                if waiting.len() >= limits.udp_pending
                    || sources.count(path.from.ip()) >= limits.udp_pending_per_source =>
            {
                responder.turn_away(&question)
            }
            Reply::Later(question) => {
                let (socket, responder) = (Arc::clone(&socket), Arc::clone(&responder));
                let task = waiting.spawn(async move {
                    let answer = responder.finish(*question).await;
                    send(&socket, &responder, &answer, path);
                });
                sources.enter(task.id(), path.from.ip());
                continue;
            }
        };
        send(&socket, &responder, &answer, path);
    }
    let drained = timeout(DRAIN, async { while waiting.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        for _ in 0..waiting.len() {
            responder.metrics().dropped(Dropped::Stopping);
        }
    }
}

fn send(socket: &Socket, responder: &Responder, answer: &[u8], path: socket::Path) {
    if let Err(error) = socket.send(answer, path) {
        tracing::debug!(%error, "answer not sent");
        responder.metrics().dropped(Dropped::Unsent);
    }
}

/// How long the loop rests after the kernel failed to hand over a datagram.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
