//! hickory's sockets towards one upstream, with every UDP reply looked at before hickory sees it.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use hickory_net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{Interest, ReadBuf},
    net::UdpSocket,
    time::Instant,
};

use super::replies::{BadReply, Replies, fits};
use crate::metrics::UpstreamHandles;

/// Where the sockets come from, and who hears of what arrives.
#[derive(Clone)]
pub(super) struct Sockets {
    tokio: TokioRuntimeProvider,
    watch: Arc<Watch>,
}

/// What is known of one upstream by its datagrams.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) replies: Replies,
    pub(super) handles: UpstreamHandles,
    pub(super) started: Instant,
}

/// A socket for one question.
pub(super) struct Socket {
    socket: UdpSocket,
    upstream: SocketAddr,
    question: OnceLock<Box<[u8]>>,
    watch: Arc<Watch>,
}

impl Sockets {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Self { tokio: TokioRuntimeProvider::default(), watch }
    }
}

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Socket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server_addr: SocketAddr,
        bind_addr: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        self.tokio.connect_tcp(server_addr, bind_addr, timeout)
    }

    fn bind_udp(
        &self,
        local_addr: SocketAddr,
        server_addr: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        let bound = self.tokio.bind_udp(local_addr, server_addr);
        let watch = Arc::clone(&self.watch);
        Box::pin(async move {
            let socket = bound.await?;
            // Not connected, so that replies from elsewhere are counted; without this, nothing
            // would say that nobody listens there.
            match server_addr {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
            }
            Ok(Socket { socket, upstream: server_addr, question: OnceLock::new(), watch })
        })
    }
}

#[async_trait]
impl DnsUdpSocket for Socket {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        task: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let mut read = ReadBuf::new(buffer);
            let from = ready!(self.socket.poll_recv_from(task, &mut read))?;
            let reply = read.filled();
            let Err(how) = self.judge(reply, from) else {
                self.watch.replies.good();
                return Poll::Ready(Ok((reply.len(), from)));
            };
            self.watch.handles.bad_reply(how);
            if !self.watch.replies.bad(how, self.watch.started.elapsed()) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if how == BadReply::LetterCase {
                // hickory finds the same, and says so.
                return Poll::Ready(Ok((reply.len(), from)));
            }
        }
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        tokio::select! {
            received = poll_fn(|task| self.poll_recv_from(task, buffer)) => received,
            error = self.failure() => Err(error),
        }
    }

    fn poll_send_to(
        &self,
        task: &mut Context<'_>,
        message: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.question.get_or_init(|| message.into());
        self.socket.poll_send_to(task, message, target)
    }
}

impl Socket {
    /// Waits for the network to say that nobody is there, which does not make a socket readable.
    async fn failure(&self) -> io::Error {
        loop {
            if let Err(error) = self.socket.ready(Interest::ERROR).await {
                return error;
            }
            match self.socket.take_error() {
                Ok(Some(error)) | Err(error) => return error,
                // An error that another call has told already: wait for the next one.
                Ok(None) => {
                    let again: io::Result<()> = Err(io::ErrorKind::WouldBlock.into());
                    let _ = self.socket.try_io(Interest::ERROR, || again);
                }
            }
        }
    }

    fn judge(&self, reply: &[u8], from: SocketAddr) -> Result<(), BadReply> {
        let is_upstream = from.ip().to_canonical() == self.upstream.ip().to_canonical()
            && from.port() == self.upstream.port();
        match self.question.get() {
            Some(question) if is_upstream => fits(question, reply),
            Some(_) | None => Err(BadReply::Source),
        }
    }
}
