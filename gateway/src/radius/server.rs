//! The RADIUS sockets: datagrams in batches, replies in the order of their marks.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket as StdSocket},
    os::fd::AsFd,
    sync::Arc,
};

use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    clerk::{Answer, Clerk, Pending, Service},
    packet::PACKET_MAX,
};
use crate::{
    clock,
    handover::{self, Inherited, Sockets},
    sims::STORE_TIME,
};

/// Every RADIUS socket, bound.
#[derive(Debug)]
pub(crate) struct Server {
    sockets: Vec<(Arc<UdpSocket>, Service)>,
    clerk: Arc<Clerk>,
}

/// Why a RADIUS address cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive RADIUS at {address}")]
pub(crate) struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl Server {
    /// Binds the addresses for accounting and for orders, or takes over those `inherited`.
    ///
    /// # Errors
    ///
    /// One of them cannot be bound.
    pub(crate) fn bind(
        accounting: &[SocketAddr],
        orders: &[SocketAddr],
        clerk: Arc<Clerk>,
        inherited: &mut Inherited,
    ) -> Result<Self, BindError> {
        let accounting = accounting.iter().map(|address| (*address, Service::Accounting));
        let all = accounting.chain(orders.iter().map(|address| (*address, Service::Orders)));
        let bound = all.map(|(address, service)| {
            let socket = match inherited.take(service.passed_on_as(), address).pop() {
                Some(socket) => take_over(socket.into()),
                None => StdSocket::bind(address).and_then(take_over),
            };
            let socket = socket.map_err(|source| BindError { address, source })?;
            Ok((Arc::new(socket), service))
        });
        Ok(Self { sockets: bound.collect::<Result<_, _>>()?, clerk })
    }

    /// Adds the sockets to those that a successor gets.
    pub(crate) fn pass_on(&self, sockets: &mut Sockets) -> io::Result<()> {
        for (socket, service) in &self.sockets {
            let copy = socket.as_fd().try_clone_to_owned()?;
            sockets.add(service.passed_on_as(), socket.local_addr()?, Arc::new(copy));
        }
        Ok(())
    }

    /// The bound addresses of a service.
    pub(crate) fn addresses(&self, service: Service) -> Vec<SocketAddr> {
        let of = self.sockets.iter().filter(|(_, served)| *served == service);
        of.filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }

    /// Serves until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (socket, service) in self.sockets {
            let (sender, receiver) = mpsc::channel(PENDING_MAX);
            let (clerk, answering) = (Arc::clone(&self.clerk), Arc::clone(&socket));
            tasks.spawn(answer(answering, clerk, receiver));
            tasks.spawn(receive(socket, service, Arc::clone(&self.clerk), sender, stop.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

async fn receive(
    socket: Arc<UdpSocket>,
    service: Service,
    clerk: Arc<Clerk>,
    pending: mpsc::Sender<Pending>,
    stop: CancellationToken,
) {
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = socket.readable() => if ready.is_err() { return },
        }
        // What waits in the socket is the next process's, should it come to serve.
        tokio::select! {
            () = stop.cancelled() => return,
            () = clerk.sims().released() => {}
        }
        for _ in 0..BATCH {
            let (length, from) = match socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // A reply that could not be delivered is told here; the next datagram is fine.
                Err(_) => continue,
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            let now = (clock::now(), clock::monotonic());
            match clerk.take(datagram, from, service, now) {
                Answer::Silence => {}
                Answer::Again(reply) => drop(socket.try_send_to(&reply, from)),
                Answer::After(reply) => {
                    if let Err(full) = pending.try_send(reply) {
                        clerk.unstored(&full.into_inner());
                    }
                }
            }
        }
        // A full socket must not keep the other tasks of this thread waiting.
        tokio::task::yield_now().await;
    }
}

/// Sends replies once what they confirm is stored; ends when nobody can add one.
async fn answer(socket: Arc<UdpSocket>, clerk: Arc<Clerk>, mut pending: mpsc::Receiver<Pending>) {
    let mut batch = Vec::new();
    while pending.recv_many(&mut batch, BATCH).await > 0 {
        let mark = batch.iter().map(|reply| reply.mark).max().unwrap_or_default();
        let stored = timeout(STORE_TIME, clerk.sims().stored(mark)).await.is_ok();
        for reply in batch.drain(..) {
            if !stored {
                clerk.unstored(&reply);
                continue;
            }
            let (reply, to) = clerk.answered(reply);
            // One that is lost is asked for again, and lies in the cache.
            if socket.try_send_to(&reply, to).is_err() {
                let _ = timeout(STORE_TIME, socket.send_to(&reply, to)).await;
            }
        }
    }
}

impl Service {
    fn passed_on_as(self) -> handover::Service {
        match self {
            Self::Accounting => handover::Service::Radius,
            Self::Orders => handover::Service::Coa,
        }
    }
}

fn take_over(socket: StdSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    let wanted = socket2::SockRef::from(&socket);
    // Half a second of a storm may wait; the kernel gives what it allows.
    let _ = wanted.set_recv_buffer_size(RECEIVE_BUFFER);
    UdpSocket::from_std(socket)
}

/// Datagrams read at a time, and replies that share one wait for the store.
const BATCH: usize = 256;
/// Replies that wait for the store; beyond, records are not answered.
const PENDING_MAX: usize = 65_536;
const RECEIVE_BUFFER: usize = 4 << 20;
