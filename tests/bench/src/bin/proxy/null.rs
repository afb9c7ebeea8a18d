//! A proxy that reads no name: what tokio and the kernel take alone. And a refusal of everything: what
//! the kernel takes alone.

use std::{
    io::{self, Read as _},
    net::{SocketAddr, TcpListener as Listener},
};

use socket2::SockRef;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Relays every connection to `address` to `to`, for ever.
pub(crate) async fn serve(address: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let listener: TcpListener = bench::origin::listen(address)?;
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut near, _) = accepted?;
                sessions.spawn(async move {
                    near.set_nodelay(true)?;
                    let mut far = TcpStream::connect(to).await?;
                    far.set_nodelay(true)?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// Refuses every connection to `address` by the alert and the close that a denied name gets, for ever.
pub(crate) fn refuse(address: SocketAddr) -> io::Result<()> {
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
    let listener: Listener = bench::origin::listen(address)?.into_std()?;
    listener.set_nonblocking(false)?;
    let mut place = [0; 4096];
    loop {
        let (mut stream, _) = listener.accept()?;
        // A client that is gone is no matter.
        if stream.read(&mut place).is_ok() {
            let _ = SockRef::from(&stream).send_with_flags(&ALERT, MSG_MORE);
        }
    }
}

/// Leaves with the close (send(2)).
const MSG_MORE: i32 = 0x8000;
