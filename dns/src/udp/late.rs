//! The questions of a listener that wait for an upstream: only so many, and only so many of each
//! source.

use std::sync::Arc;

use tokio::{sync::mpsc::Receiver, task::JoinSet, time::timeout};

use super::{
    batch::send_one,
    socket::{Path, Socket},
};
use crate::{
    limits::{DRAIN, Limits},
    metrics::Transport,
    respond::{Responder, Waiting},
    sources::Sources,
    wire::Dropped,
};

/// A question that waits, and the way its answer goes.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) question: Box<Waiting>,
    pub(super) path: Path,
}

/// Finishes what comes from the threads until they have stopped, and sends it from `socket`.
pub(super) async fn serve(
    socket: &Arc<Socket>,
    mut arriving: Receiver<Late>,
    responder: &Arc<Responder>,
    limits: Limits,
) {
    let mut tasks = JoinSet::new();
    let mut sources = Sources::default();
    loop {
        let late = tokio::select! {
            biased;
            Some(ended) = tasks.join_next_with_id() => {
                sources.leave(ended.map_or_else(|error| error.id(), |(id, ())| id));
                continue;
            }
            late = arriving.recv() => late,
        };
        let Some(Late { question, path }) = late else { break };
        let source = path.from.ip();
        let is_full = tasks.len() >= limits.udp_pending
            || sources.count(source) >= limits.udp_pending_per_source;
        if is_full {
            let mut answer = Vec::new();
            let said = responder.turn_away(&question, &mut answer);
            responder.metrics().answered(Transport::Udp, said, question.waited());
            send(socket, responder, &answer, path);
            continue;
        }
        let (socket, responder) = (Arc::clone(socket), Arc::clone(responder));
        let task = tasks.spawn(async move {
            let answer = responder.finish(*question).await;
            send(&socket, &responder, &answer, path);
        });
        sources.enter(task.id(), source);
    }
    let drained = timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        for _ in 0..tasks.len() {
            responder.metrics().dropped(Dropped::Stopping);
        }
    }
}

fn send(socket: &Socket, responder: &Responder, answer: &[u8], path: Path) {
    if let Err(error) = send_one(socket, answer, path) {
        tracing::debug!(%error, "answer not sent");
        responder.metrics().dropped(Dropped::Unsent);
    }
}
