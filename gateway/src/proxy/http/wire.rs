//! The subscriber's connection as the forwarder sees it: the octets of one request and no more.
//!
//! What came behind the request is kept for our own reader, so that nothing but that reader ever
//! sees the start of a head.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::head::{Body, Head};
use crate::proxy::{
    meter::{Flow, Meter},
    metrics::Direction,
};

/// One request's octets, with the way back to the subscriber.
pub(super) struct Wire {
    stream: TcpStream,
    /// Octets that came already, and how many of them were handed out.
    ahead: Vec<u8>,
    given: usize,
    /// Octets of the request not handed out yet; `None` if only the last chunk tells.
    left: Option<u64>,
    meter: Meter,
    /// Over, nothing moves: the session that waits for it is cut.
    flow: Flow,
}

impl Wire {
    /// `octets` begin with the octets of `head`.
    pub(super) fn new(stream: TcpStream, octets: Vec<u8>, head: &Head, meter: Meter) -> Self {
        let left = match head.body {
            Body::Length(length) => {
                Some(length.saturating_add(u64::try_from(head.length).unwrap_or(u64::MAX)))
            }
            Body::Chunked => None,
        };
        Self { stream, ahead: octets, given: 0, left, meter, flow: Flow::On }
    }

    /// The connection, and the octets that came behind the request.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        let mut ahead = self.ahead;
        let rest = ahead.split_off(self.given.min(ahead.len()));
        (self.stream, rest)
    }

    /// The connection.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn took(&mut self, octets: usize) {
        self.flow = self.meter.count(Direction::ToOrigin, octets);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(u64::try_from(octets).unwrap_or(u64::MAX));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.flow == Flow::Over {
            return Poll::Pending;
        }
        let left = wire.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        if left == 0 {
            return wire.poll_end(context);
        }
        let room = buffer.remaining().min(left);
        let ahead = wire.ahead.get(wire.given..).unwrap_or_default();
        if !ahead.is_empty() {
            let given = ahead.get(..room).unwrap_or(ahead);
            buffer.put_slice(given);
            let given = given.len();
            wire.given += given;
            wire.took(given);
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut wire.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        wire.took(read);
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    /// After the request's last octet: the end of the connection is passed on, so that the
    /// forwarder notices a subscriber that is gone, but not the octets of a next request.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.given < self.ahead.len() {
            return Poll::Pending;
        }
        let mut octet = [0];
        let mut buffer = ReadBuf::new(&mut octet);
        match ready!(self.stream.poll_peek(context, &mut buffer))? {
            0 => Poll::Ready(Ok(())),
            // Nothing wakes this up again, nor need it: the response ends the request.
            _ => Poll::Pending,
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        if wire.flow == Flow::Over {
            return Poll::Pending;
        }
        let octets = octets.get(..STEP).unwrap_or(octets);
        let written = ready!(Pin::new(&mut wire.stream).poll_write(context, octets))?;
        wire.flow = wire.meter.count(Direction::ToSubscriber, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Octets that leave at once: a subscriber exceeds its limit by no more.
const STEP: usize = 64 * 1024;

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it carries is not for logs.
        formatter.debug_struct("Wire").field("left", &self.left).finish_non_exhaustive()
    }
}
