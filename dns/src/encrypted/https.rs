//! One connection of DNS over HTTPS (RFC 8484), over HTTP/2.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use hickory_net::{NetError, runtime::TokioTime, xfer::Protocol};
use hickory_proto::{rr::Record, serialize::binary::BinEncoder};
use hickory_server::{
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponse,
};
use http::{
    Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::clerk::Clerk;
use crate::{
    limits::{DRAIN, Limits},
    metrics::{RefusedConnection, Transport},
    wire::MAX_QUESTION,
};

/// The way back to one request; taken by the first answer.
#[derive(Clone)]
struct Way(Arc<Mutex<Option<SendResponse<Bytes>>>>);

/// Answers requests, several at once, until the asker is gone or asks nothing for too long.
pub(super) async fn converse(
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
    clerk: Arc<Clerk>,
    limits: Limits,
    stop: &CancellationToken,
) -> io::Result<()> {
    let pending = limits.pending_per_connection.max(1);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(u32::try_from(pending).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(pending)
        .max_header_list_size(MAX_HEADERS)
        .max_frame_size(MAX_FRAME)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let shaken = timeout(limits.handshake, builder.handshake::<_, Bytes>(stream)).await;
    let Ok(Ok(mut connection)) = shaken else {
        clerk.responder().metrics().refused_connection(RefusedConnection::Handshake);
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut waiting = JoinSet::new();
    let mut deadline = Instant::now() + limits.idle;
    let mut is_stopping = false;
    loop {
        // Accepting also carries every byte of the requests under way.
        tokio::select! {
            accepted = timeout_at(deadline, connection.accept()) => match accepted {
                Ok(Some(accepted)) => {
                    let (request, mut way) = accepted.map_err(io::Error::other)?;
                    deadline = Instant::now() + limits.idle;
                    // Streams that were reset no longer count for HTTP/2, but their questions do.
                    if waiting.len() >= pending {
                        way.send_reset(Reason::REFUSED_STREAM);
                        continue;
                    }
                    let clerk = Arc::clone(&clerk);
                    waiting.spawn(serve(request, way, from, clerk, limits));
                }
                Ok(None) => return Ok(()),
                Err(_elapsed) if waiting.is_empty() => break,
                Err(_elapsed) => deadline = Instant::now() + limits.idle,
            },
            Some(_) = waiting.join_next() => {}
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.graceful_shutdown();
            }
        }
    }
    connection.graceful_shutdown();
    let closed = timeout(DRAIN, poll_fn(|context| connection.poll_closed(context))).await;
    closed?.map_err(io::Error::other)
}

/// Serves one request.
async fn serve(
    request: http::Request<RecvStream>,
    mut way: SendResponse<Bytes>,
    from: SocketAddr,
    clerk: Arc<Clerk>,
    limits: Limits,
) {
    let question = timeout(limits.idle, question(request)).await;
    let question = match question.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)) {
        Ok(question) => question,
        Err(status) => return refuse(&mut way, status),
    };
    match Request::from_bytes(question.clone(), from, Protocol::Https) {
        Ok(request) => {
            let way = Way(Arc::new(Mutex::new(Some(way))));
            clerk.handle_request::<_, TokioTime>(&request, way.clone()).await;
            // Nothing is said to what is no question (a response), but HTTP wants an answer.
            if let Some(mut way) = way.take() {
                refuse(&mut way, StatusCode::BAD_REQUEST);
            }
        }
        // What hickory cannot read, our own reader refuses in our own words.
        Err(_) => match clerk.answer(&question, from, Transport::Https).await {
            Some(answer) => drop(send(&mut way, answer)),
            None => refuse(&mut way, StatusCode::BAD_REQUEST),
        },
    }
}

/// The DNS message of a request (RFC 8484 section 4.1).
async fn question(request: http::Request<RecvStream>) -> Result<Vec<u8>, StatusCode> {
    if request.uri().path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    if request.method() == Method::GET {
        let query = request.uri().query().unwrap_or_default();
        let encoded = query.split('&').find_map(|pair| pair.strip_prefix("dns="));
        let encoded = encoded.ok_or(StatusCode::BAD_REQUEST)?;
        return BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| StatusCode::BAD_REQUEST);
    }
    if request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    if request.headers().get(CONTENT_TYPE).is_none_or(|found| found != MESSAGE) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let mut body = request.into_body();
    let mut question = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(|_| StatusCode::BAD_REQUEST)?;
        if question.len() + part.len() > MAX_QUESTION {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        question.extend_from_slice(&part);
        let released = body.flow_control().release_capacity(part.len());
        released.map_err(|_| StatusCode::BAD_REQUEST)?;
    }
    Ok(question)
}

impl Way {
    fn take(&self) -> Option<SendResponse<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl ResponseHandler for Way {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut octets = Vec::new();
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        if let Some(mut way) = self.take() {
            send(&mut way, octets)?;
        }
        Ok(info)
    }
}

/// Sends an answer, which nobody on the way may keep: none may outlive a purchase.
fn send(way: &mut SendResponse<Bytes>, answer: Vec<u8>) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, MESSAGE);
    headers.insert(CONTENT_LENGTH, answer.len().into());
    headers.insert(CACHE_CONTROL, NO_STORE);
    way.send_response(response, false)?.send_data(answer.into(), true)
}

fn refuse(way: &mut SendResponse<Bytes>, status: StatusCode) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    // An asker that is gone cannot be told.
    let _ = way.send_response(response, true);
}

/// The one resource, named as everybody does (RFC 8484 section 4.1.1 leaves it open).
const PATH: &str = "/dns-query";
const MESSAGE: http::HeaderValue = http::HeaderValue::from_static("application/dns-message");
const NO_STORE: http::HeaderValue = http::HeaderValue::from_static("no-store");

/// Octets of one request's headers: a question in GET, and what browsers add.
const MAX_HEADERS: u32 = 16 * 1024;
/// Octets of one frame: the least HTTP/2 allows to ask for (RFC 9113 section 6.5.2).
const MAX_FRAME: u32 = 16 * 1024;
/// Octets of one request's content that may come before they are read.
const WINDOW: u32 = 8 * 1024;
/// The same of all requests of a connection: the least HTTP/2 has (RFC 9113 section 6.9.2).
const CONNECTION_WINDOW: u32 = 65_535;
