//! One connection of DNS over TLS (RFC 7858).

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::{FutureExt, StreamExt};
use hickory_net::{
    runtime::{TokioTime, iocompat::AsyncIoTokioAsStd},
    tls::tls_from_stream,
    xfer::{BufDnsStreamHandle, DnsStreamHandle, Protocol},
};
use hickory_proto::op::SerialMessage;
use hickory_server::server::{Request, RequestHandler, ResponseHandle, TimeoutStream};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::clerk::Clerk;
use crate::{
    limits::Limits,
    metrics::Transport,
    wire::{Dropped, MAX_QUESTION},
};

/// Answers questions, several at once and each as soon as it can be, until the asker is gone, asks
/// nothing for too long or does not take its answers.
pub(super) async fn converse(
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
    clerk: Arc<Clerk>,
    limits: Limits,
    stop: &CancellationToken,
) -> io::Result<()> {
    let (messages, answers) = tls_from_stream(AsyncIoTokioAsStd(stream), from);
    let mut messages = TimeoutStream::new(messages, limits.idle);
    let mut waiting = JoinSet::new();
    while !stop.is_cancelled() {
        // Only a stream that is read from sends answers as well, and reads nothing before they
        // are on their way.
        let has_room = waiting.len() < limits.pending_per_connection.max(1);
        tokio::select! {
            message = messages.next(), if has_room => {
                let Some(message) = message.transpose()? else { break };
                if message.bytes().len() > MAX_QUESTION {
                    clerk.responder().metrics().dropped(Dropped::Long);
                    break;
                }
                let (clerk, answers) = (Arc::clone(&clerk), answers.clone());
                waiting.spawn(async move { answer(message, from, &clerk, answers).await });
            }
            Some(_) = waiting.join_next() => {}
            () = stop.cancelled() => {}
        }
    }
    while waiting.join_next().await.is_some() {}
    // Sends what is left, as far as the asker takes it at once; a next question is not read.
    let _ = messages.next().now_or_never();
    Ok(())
}

async fn answer(
    message: SerialMessage,
    from: SocketAddr,
    clerk: &Clerk,
    mut answers: BufDnsStreamHandle,
) {
    let (octets, _) = message.into_parts();
    match Request::from_bytes(octets.clone(), from, Protocol::Tls) {
        Ok(request) => {
            let way = ResponseHandle::new(from, answers, Protocol::Tls);
            clerk.handle_request::<_, TokioTime>(&request, way).await;
        }
        // What hickory cannot read, our own reader refuses in our own words.
        Err(_) => {
            if let Some(answer) = clerk.answer(&octets, from, Transport::Tls).await {
                // Fails only if the connection is gone.
                let _ = answers.send(SerialMessage::new(answer, from));
            }
        }
    }
}
