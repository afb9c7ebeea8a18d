//! The sockets that answers to steered questions leave from.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use super::socket;

/// Sockets for the answers to steered questions: one for each address that was asked, because an
/// answer must come from there and from port 53, on which nobody listens.
///
/// Steering finds the listener by its port and never these, unless they shared it.
#[derive(Debug)]
pub(super) struct Replies {
    sockets: HashMap<SocketAddr, (Arc<UdpSocket>, u64)>,
    uses: u64,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self { sockets: HashMap::new(), uses: 0 }
    }

    /// The socket of `address`, made by `open` if there is none.
    pub(super) fn from(
        &mut self,
        address: SocketAddr,
        open: impl FnOnce(SocketAddr) -> io::Result<UdpSocket>,
    ) -> io::Result<Arc<UdpSocket>> {
        self.uses += 1;
        if let Some((socket, used)) = self.sockets.get_mut(&address) {
            *used = self.uses;
            return Ok(Arc::clone(socket));
        }
        if self.sockets.len() >= MAX_REPLIES {
            let oldest = self.sockets.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.sockets.remove(&oldest);
            }
        }
        let socket = Arc::new(open(address)?);
        self.sockets.insert(address, (Arc::clone(&socket), self.uses));
        Ok(socket)
    }
}

/// A socket that only sends, from an address that need not be ours.
pub(super) fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket::open(address)?;
    socket::stand_in(&socket, address)?;
    // Nothing is ever read from it.
    socket.set_recv_buffer_size(0)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Sockets for answers to steered questions.
const MAX_REPLIES: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

    use super::{MAX_REPLIES, Replies};

    #[test]
    fn keeps_no_more_reply_sockets_than_its_bound_and_those_in_use() {
        let mut replies = Replies::new();
        let open = |_| UdpSocket::bind("127.0.0.1:0");
        let address =
            |n: usize| SocketAddr::from((Ipv4Addr::from_bits(u32::try_from(n).unwrap()), 53));
        let used = replies.from(address(0), open).unwrap().local_addr().unwrap();
        for n in 1..2 * MAX_REPLIES {
            replies.from(address(n), open).unwrap();
            assert!(replies.sockets.len() <= MAX_REPLIES);
            let again = replies.from(address(0), open).unwrap();
            assert_eq!(again.local_addr().unwrap(), used);
        }
    }
}
