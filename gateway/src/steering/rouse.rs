//! Lets connections that were cut learn of it although their subscriber has nothing to send.
//!
//! What a walled subscriber sends is refused by a reset. One that only waits for an answer sends
//! nothing, and the answer is dropped: it would wait for as long as it has patience. A SYN in the
//! peer's name makes it speak: whatever its number, a connection that is open replies by an
//! acknowledgement at once (RFC 9293 section 3.10.7.4, RFC 5961 section 4). That is steered or refused
//! like all the rest, by a reset that has just the number the subscriber expects.

use std::io;

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use super::netlink::Connection;

/// Makes the subscriber of `connection` speak.
///
/// # Errors
///
/// The SYN could not be sent, and the cause is not this one connection's own.
pub(super) fn rouse(connection: &Connection) -> io::Result<()> {
    knock(connection).or_else(|error| if is_its_own(&error) { Ok(()) } else { Err(error) })
}

/// The SYN leaves before `connect` returns; the socket is not needed for what comes back.
fn knock(Connection { subscriber, peer }: &Connection) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(*peer), Type::STREAM.nonblocking(), None)?;
    dns::make_transparent(&socket, *peer)?;
    // A listener of ours may have the port, and other subscribers the same peer.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&(*peer).into())?;
    match socket.connect(&(*subscriber).into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(()),
        done => done,
    }
}

/// A connection that is our own listeners' is there already; a subscriber that left has no route.
fn is_its_own(error: &io::Error) -> bool {
    let own = [Errno::EADDRNOTAVAIL, Errno::EADDRINUSE, Errno::EHOSTUNREACH, Errno::ENETUNREACH];
    error.raw_os_error().is_some_and(|number| own.contains(&Errno::from_raw(number)))
}
