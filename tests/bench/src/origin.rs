//! The far server of the bench: reads an order from a hello and sends what it asks for.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::hello::{fill, read_order, server_hello};

/// Serves on `address` for ever.
///
/// # Errors
///
/// The address cannot be had.
pub async fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = listen(address)?;
    let zeros = Arc::new(vec![0; BLOCK]);
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    sessions.spawn(answer(stream, Arc::clone(&zeros)));
                }
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// A listener whose queue no burst of the bench fills.
///
/// # Errors
///
/// The address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// Answers one connection; whoever breaks it off has had enough.
async fn answer(mut stream: TcpStream, zeros: Arc<Vec<u8>>) {
    let _ = converse(&mut stream, &zeros).await;
}

async fn converse(stream: &mut TcpStream, zeros: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut hello = Vec::with_capacity(1024);
    let order = loop {
        if stream.read_buf(&mut hello).await? == 0 {
            return Ok(());
        }
        if let Some(order) = read_order(&hello) {
            break order;
        }
    };
    let first = usize::try_from(order.octets).unwrap_or(BLOCK).min(FIRST);
    let mut answer = server_hello();
    let at = answer.len();
    answer.resize(at + first, 0);
    if let Some(octets) = answer.get_mut(at..)
        && order.seed != 0
    {
        fill(octets, order.seed, 0);
    }
    stream.write_all(&answer).await?;
    let mut place = u64::try_from(first).unwrap_or_default();
    let mut block = if order.seed == 0 { Vec::new() } else { vec![0; BLOCK] };
    while place < order.octets {
        let length = usize::try_from(order.octets - place).unwrap_or(BLOCK).min(BLOCK);
        let octets = if order.seed == 0 {
            zeros.get(..length)
        } else {
            if let Some(part) = block.get_mut(..length) {
                fill(part, order.seed, place);
            }
            block.get(..length)
        };
        stream.write_all(octets.unwrap_or_default()).await?;
        place += u64::try_from(length).unwrap_or_default();
    }
    if order.holds {
        drop((answer, block, hello));
        let _ = stream.read(&mut [0]).await?;
    }
    stream.shutdown().await
}

/// Octets written at once.
const BLOCK: usize = 256 * 1024;
/// Octets that go with the ServerHello, a multiple of eight.
const FIRST: usize = 1024;
