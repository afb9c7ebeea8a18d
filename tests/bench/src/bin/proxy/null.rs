//! A proxy that reads no name: what tokio and the kernel take alone.

use std::{io, net::SocketAddr};

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
