//! Listening sockets of the process before, which a listener goes on with instead of binding.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use socket2::{SockRef, Type};

/// Sockets that somebody else has bound, each until a listener takes it.
#[derive(Debug, Default)]
pub struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// Whatever `sockets` listen on, they are asked themselves.
    #[must_use]
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        Self(sockets)
    }

    /// Takes every socket of this kind that is bound to `wanted`, on `interface` only if it is
    /// given; port 0 stands for any.
    pub(crate) fn take(
        &mut self,
        kind: Type,
        wanted: SocketAddr,
        interface: Option<&str>,
    ) -> Vec<OwnedFd> {
        let mut port = Some(wanted.port()).filter(|port| *port != 0);
        let mut taken = Vec::new();
        for socket in std::mem::take(&mut self.0) {
            let address = bound(&socket, kind, interface).filter(|address| {
                address.ip() == wanted.ip() && port.is_none_or(|port| port == address.port())
            });
            match address {
                Some(address) => {
                    port = Some(address.port());
                    taken.push(socket);
                }
                None => self.0.push(socket),
            }
        }
        taken
    }
}

/// Where `socket` is bound, if it is of this kind and on this interface.
fn bound(socket: &OwnedFd, kind: Type, interface: Option<&str>) -> Option<SocketAddr> {
    let socket = SockRef::from(socket);
    let device = socket.device().ok()?;
    let is_here = device.as_deref() == interface.map(str::as_bytes);
    (is_here && socket.r#type().ok()? == kind).then(|| socket.local_addr().ok()?.as_socket())?
}

/// One more descriptor of a listening socket, for a successor.
pub(crate) fn copy(socket: &impl AsFd) -> io::Result<OwnedFd> {
    socket.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn sockets_are_found_by_what_they_are_bound_to() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = other.local_addr().unwrap();
        let mut inherited = Inherited::new(vec![udp.into(), other.into(), tcp.into()]);
        assert!(inherited.take(Type::DGRAM, elsewhere, None).is_empty());
        assert!(inherited.take(Type::DGRAM, address, Some("lo")).is_empty());
        assert_eq!(inherited.take(Type::DGRAM, address, None).len(), 1);
        assert!(inherited.take(Type::DGRAM, address, None).is_empty(), "it is taken");
        assert_eq!(inherited.take(Type::STREAM, address, None).len(), 1);
        assert_eq!(inherited.take(Type::STREAM, "127.0.0.1:0".parse().unwrap(), None).len(), 1);
    }
}
