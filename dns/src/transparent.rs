//! Sockets that have addresses which are not the host's.

use std::{io, net::SocketAddr};

use socket2::Socket;

/// Lets `socket` be bound to `address`, and hear what is steered to it, although the host does not
/// have that address (`IP_TRANSPARENT`, ip(7)); before it is bound.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`.
pub fn make_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}
