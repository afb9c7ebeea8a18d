//! The UDP listener: one thread a socket, which says what can be said at once; and beside them one
//! task for the questions that wait for an upstream.

mod backlog;
mod batch;
mod late;
mod replies;
mod socket;
mod worker;

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use socket::Socket;

use crate::{limits::Limits, respond::Responder};

/// Answers what arrives on `sockets`, which share one address, until `stop`.
pub(crate) async fn serve(
    sockets: Vec<Arc<Socket>>,
    responder: Arc<Responder>,
    limits: Limits,
    stop: CancellationToken,
) {
    let Some(first) = sockets.first().cloned() else { return };
    // Whatever ends this task, the threads end as well.
    let stop = stop.child_token();
    let _stopping = stop.clone().drop_guard();
    let (late, waiting) = mpsc::channel(limits.udp_pending.max(1));
    let mut workers = JoinSet::new();
    for socket in sockets {
        let (responder, late, stop) = (Arc::clone(&responder), late.clone(), stop.clone());
        workers.spawn_blocking(move || worker::serve(&socket, &responder, &late, &stop));
    }
    drop(late);
    late::serve(&first, waiting, &responder, limits).await;
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
