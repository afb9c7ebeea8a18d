//! The upgrade: a running gateway passes its listening sockets to the process that takes its
//! place.
//!
//! The sockets are the same in both processes: no connection that waits in one is lost, and no
//! address is free for a moment. Until the new process says that it serves, nothing changes for
//! the old one; if it never does, the old one goes on. The two speak over the new one's standard
//! input. Once the new one has read its settings it asks for what the old one knows of SIMs, and
//! from then on the old one confirms no change of that.

use std::{
    collections::VecDeque,
    env, io,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
    socketpair,
    sockopt::{Timeout, set_socket_timeout},
};

/// What is spoken on a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Admin,
    /// The captive-portal API.
    Captive,
    /// Orders by RADIUS.
    Coa,
    /// Every listener of the resolver; which one, the socket itself says.
    Dns,
    Http,
    Https,
    /// The proxy for clients that know it.
    Explicit,
    Quic,
    /// Accounting by RADIUS.
    Radius,
}

/// Every listening socket of this process, to be passed on.
#[derive(Clone, Default)]
pub(crate) struct Sockets(Vec<(Service, SocketAddr, Arc<OwnedFd>)>);

/// What the process before passes on; nothing where there was none.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// Listening sockets, each until somebody takes it.
    sockets: VecDeque<(Service, SocketAddr, OwnedFd)>,
    /// Whether it tells what it knows of SIMs when it is asked.
    has_state: bool,
}

/// The old process's line to the new one.
pub(crate) struct Successor {
    child: Child,
    line: OwnedFd,
}

/// Why there are no sockets to inherit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritError {
    /// Standard input is no line to a running gateway.
    #[error("--upgrade is for a running gateway to start its successor with; send it SIGUSR2")]
    NoPredecessor(#[source] io::Error),
    /// The running gateway speaks of something unknown.
    #[error("the running gateway passes on a socket that this version does not know: {said}")]
    Unknown {
        /// Its words.
        said: String,
    },
    /// The running gateway does not tell what it knows.
    #[error("the running gateway does not tell what it knows of SIMs")]
    NoState(#[source] io::Error),
}

impl Service {
    const EACH: [Self; 9] = [
        Self::Admin,
        Self::Captive,
        Self::Coa,
        Self::Dns,
        Self::Http,
        Self::Https,
        Self::Explicit,
        Self::Quic,
        Self::Radius,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Captive => "captive",
            Self::Coa => "coa",
            Self::Dns => "dns",
            Self::Http => "http",
            Self::Https => "https",
            Self::Explicit => "explicit",
            Self::Quic => "quic",
            Self::Radius => "radius",
        }
    }
}

impl Sockets {
    /// Adds a listening socket.
    pub(crate) fn add(&mut self, service: Service, address: SocketAddr, socket: Arc<OwnedFd>) {
        self.0.push((service, address, socket));
    }

    /// Starts this program's file again, with the same arguments, and passes the sockets on.
    ///
    /// # Errors
    ///
    /// The process cannot be started, or ended before it had them all.
    pub(crate) fn start_successor(&self) -> io::Result<Successor> {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(kind.0, kind.1, kind.2, None)?;
        let mut arguments = env::args_os();
        let program = arguments.next().ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        command.args(arguments.filter(|argument| argument != UPGRADE)).arg(UPGRADE);
        // systemd's watchdog watches the process that is named there.
        command.stdin(Stdio::from(theirs)).env_remove("WATCHDOG_PID");
        let mut child = command.spawn()?;
        drop(command);
        match self.send(ours.as_fd()) {
            Ok(()) => Ok(Successor { child, line: ours }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    fn send(&self, line: BorrowedFd<'_>) -> io::Result<()> {
        for (service, address, socket) in &self.0 {
            let text = format!("{} {address}", service.label());
            let sockets = [socket.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut passed = SendAncillaryBuffer::new(&mut space);
            passed.push(SendAncillaryMessage::ScmRights(&sockets));
            sendmsg(line, &[io::IoSlice::new(text.as_bytes())], &mut passed, SendFlags::NOSIGNAL)?;
        }
        send(line, STATE, SendFlags::NOSIGNAL)?;
        send(line, END, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Successor {
    /// The new process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the new process serves, and tells what `give` gives when it asks. Blocks.
    ///
    /// # Errors
    ///
    /// It ended instead, or took longer than [`START_TIME`]; then it is ended.
    pub(crate) fn wait_until_it_serves(
        &mut self,
        give: impl FnOnce() -> Vec<Vec<u8>>,
    ) -> io::Result<()> {
        let served = self.attend(give);
        if served.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        served
    }

    fn attend(&self, give: impl FnOnce() -> Vec<Vec<u8>>) -> io::Result<()> {
        for way in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&self.line, way, Some(START_TIME))?;
        }
        if self.hear()? == STATE {
            for packet in give() {
                send(&self.line, &packet, SendFlags::NOSIGNAL)?;
            }
            send(&self.line, END, SendFlags::NOSIGNAL)?;
            self.hear()?;
        }
        Ok(())
    }

    fn hear(&self) -> io::Result<Vec<u8>> {
        let mut said = vec![0; 16];
        let (_, length) = recv(&self.line, said.as_mut_slice(), RecvFlags::empty())?;
        said.truncate(length);
        if said.is_empty() {
            return Err(io::Error::other("it ended; its log says why"));
        }
        Ok(said)
    }
}

impl Inherited {
    /// Takes the sockets of the running gateway from standard input. Blocks.
    ///
    /// # Errors
    ///
    /// Nobody passes any.
    pub(crate) fn receive() -> Result<Self, InheritError> {
        Self::receive_from(io::stdin().as_fd())
    }

    fn receive_from(line: BorrowedFd<'_>) -> Result<Self, InheritError> {
        let mut inherited = Self::default();
        loop {
            let mut text = [0; 128];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut passed = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let parts = &mut [io::IoSliceMut::new(&mut text)];
            let received = recvmsg(line, parts, &mut passed, flags);
            let received = received.map_err(|error| InheritError::NoPredecessor(error.into()))?;
            let text = text.get(..received.bytes).unwrap_or_default();
            if text.is_empty() {
                let gone = io::ErrorKind::UnexpectedEof.into();
                return Err(InheritError::NoPredecessor(gone));
            }
            if text == END {
                return Ok(inherited);
            }
            if text == STATE {
                inherited.has_state = true;
                continue;
            }
            let said = String::from_utf8_lossy(text).into_owned();
            let socket = passed.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
                RecvAncillaryMessage::ScmCredentials(_) | _ => None,
            });
            let named = said.split_once(' ').and_then(|(label, address)| {
                let service = Service::EACH.into_iter().find(|known| known.label() == label)?;
                Some((service, address.parse().ok()?))
            });
            match (named, socket) {
                (Some((service, address)), Some(socket)) => {
                    inherited.sockets.push_back((service, address, socket));
                }
                _ => return Err(InheritError::Unknown { said }),
            }
        }
    }

    /// Tells the running gateway that this one serves: it accepts nothing more from now on.
    pub(crate) fn tell_predecessor() {
        // If it is gone, there is nobody to stop.
        let _ = send(io::stdin(), SERVES, SendFlags::NOSIGNAL);
    }

    /// Asks the running gateway for what it knows of SIMs: the rows that no store holds, in packets.
    /// From here on it has let go of its store. Blocks.
    ///
    /// # Errors
    ///
    /// It does not tell within [`START_TIME`].
    pub(crate) fn take_state(&self) -> Result<Vec<Vec<u8>>, InheritError> {
        if !self.has_state {
            return Ok(Vec::new());
        }
        Self::take_state_from(io::stdin().as_fd())
            .map_err(|error| InheritError::NoState(error.into()))
    }

    fn take_state_from(line: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
        set_socket_timeout(line, Timeout::Recv, Some(START_TIME))?;
        send(line, STATE, SendFlags::NOSIGNAL)?;
        let mut packets = Vec::new();
        loop {
            let mut packet = vec![0; PACKET_MAX];
            let (_, length) = recv(line, packet.as_mut_slice(), RecvFlags::empty())?;
            packet.truncate(length);
            if packet.is_empty() {
                return Err(rustix::io::Errno::PIPE);
            }
            // No packet of rows is as short as that.
            if packet == END {
                return Ok(packets);
            }
            packet.shrink_to_fit();
            packets.push(packet);
        }
    }

    /// Takes every socket of the resolver.
    pub(crate) fn take_dns(&mut self) -> dns::Inherited {
        let (dns, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.sockets)
            .into_iter()
            .partition(|(known, ..)| *known == Service::Dns);
        self.sockets = left;
        dns::Inherited::new(dns.into_iter().map(|(.., socket)| socket).collect())
    }

    /// Takes every socket of `service` that listens on `wanted`; port 0 stands for any.
    pub(crate) fn take(&mut self, service: Service, wanted: SocketAddr) -> Vec<OwnedFd> {
        let mut port = Some(wanted.port()).filter(|port| *port != 0);
        let mut taken = Vec::new();
        let mut left = VecDeque::new();
        while let Some((known, address, socket)) = self.sockets.pop_front() {
            let is_wanted = known == service
                && address.ip() == wanted.ip()
                && port.is_none_or(|port| port == address.port());
            if is_wanted {
                port = Some(address.port());
                taken.push(socket);
            } else {
                left.push_back((known, address, socket));
            }
        }
        self.sockets = left;
        taken
    }
}

/// What a successor may take until it serves.
const START_TIME: Duration = Duration::from_secs(60);
/// The argument that a successor is started with.
const UPGRADE: &str = "--upgrade";
/// Octets of a packet of rows.
const PACKET_MAX: usize = 256 << 10;
/// Asks for what is known of SIMs, and says beforehand that this can be asked for.
const STATE: &[u8] = b"state";
/// Behind the last socket, and behind the last packet of rows.
const END: &[u8] = b"end";
/// The successor's word.
const SERVES: &[u8] = b"serves";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_arrive_as_they_were_and_are_taken_once() {
        let mut sockets = Sockets::default();
        let mut bound = Vec::new();
        for service in [Service::Https, Service::Https, Service::Http] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            bound.push(address);
            sockets.add(service, address, Arc::new(listener.into()));
        }
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
        sockets.send(ours.as_fd()).unwrap();
        drop(sockets);
        let mut inherited = Inherited::receive_from(theirs.as_fd()).unwrap();
        for (service, wanted, expected) in [
            (Service::Admin, bound[0], None),
            (Service::Https, bound[1], Some(bound[1])),
            (Service::Https, bound[1], None),
            (Service::Https, "127.0.0.1:0".parse().unwrap(), Some(bound[0])),
            (Service::Http, "127.0.0.2:0".parse().unwrap(), None),
            (Service::Http, bound[2], Some(bound[2])),
        ] {
            let taken = inherited.take(service, wanted);
            let found: Vec<_> =
                taken.into_iter().map(|fd| TcpListener::from(fd).local_addr().unwrap()).collect();
            assert_eq!(found, Vec::from_iter(expected), "{service:?} {wanted}");
        }
    }

    #[test]
    fn line_without_a_gateway_behind_it_is_refused() {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
        send(&ours, b"gopher 127.0.0.1:70", SendFlags::NOSIGNAL).unwrap();
        drop(ours);
        let refused = Inherited::receive_from(theirs.as_fd()).unwrap_err();
        assert!(matches!(refused, InheritError::Unknown { .. }), "{refused:?}");
        let refused = Inherited::receive_from(theirs.as_fd()).unwrap_err();
        assert!(matches!(refused, InheritError::NoPredecessor(_)), "{refused:?}");
    }
}
