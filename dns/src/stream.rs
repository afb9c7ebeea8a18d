//! The TCP listener: two octets of length before each message (RFC 1035 section 4.2.2, RFC 7766).
//!
//! With a [`Door`], the connections are encrypted first. Several questions may be under way on one connection, and answers leave as they are ready.
//! Whoever is slow to ask or to take answers is cut off.

mod connection;

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use socket2::{Domain, Protocol, Type};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    bind::BindError,
    encrypted::{self, Door},
    limits::{DRAIN, Limits},
    metrics::RefusedConnection,
    respond::Responder,
    sources::Sources,
    transparent::make_transparent,
};

pub(crate) fn bind(
    address: SocketAddr,
    interface: Option<&str>,
    transparent: bool,
    inherited: Option<OwnedFd>,
) -> Result<TcpListener, BindError> {
    let failed = |error: io::Error| BindError::Tcp { address, source: Arc::new(error) };
    if let Some(socket) = inherited {
        return TcpListener::from_std(socket.into()).map_err(failed);
    }
    let open = || -> io::Result<socket2::Socket> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // A restart must not wait for the connections of the run before.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind_device(interface.map(str::as_bytes))?;
        Ok(socket)
    };
    let socket = open().map_err(failed)?;
    if transparent {
        make_transparent(&socket, address)
            .map_err(|error| BindError::Transparent { address, source: Arc::new(error) })?;
    }
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| TcpListener::from_std(socket.into()))
        .map_err(failed)
}

/// Serves connections to `listener` until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    door: Option<Door>,
    responder: Arc<Responder>,
    limits: Limits,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut sources = Sources::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next_with_id() => {
                sources.leave(ended.map_or_else(|error| error.id(), |(id, ())| id));
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                responder.metrics().refused_connection(RefusedConnection::Accept);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if connections.len() >= limits.connections {
            responder.metrics().refused_connection(RefusedConnection::Total);
            continue;
        }
        if sources.count(from.ip()) >= limits.connections_per_source {
            responder.metrics().refused_connection(RefusedConnection::Source);
            continue;
        }
        let (responder, stop) = (Arc::clone(&responder), stop.clone());
        let task = match door.clone() {
            None => connections.spawn(connection::serve(stream, from, responder, limits, stop)),
            Some(door) => {
                connections.spawn(encrypted::serve(stream, from, door, responder, limits, stop))
            }
        };
        sources.enter(task.id(), from.ip());
    }
    drop(listener);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

/// Connections the kernel completes before we accept them.
const BACKLOG: i32 = 1_024;
/// How long the loop rests after the kernel failed to hand over a connection.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
