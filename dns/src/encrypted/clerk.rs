//! hickory's request handler: takes each request to the [`Responder`] that answers all transports.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use hickory_net::{NetError, runtime::Time, xfer::Protocol};
use hickory_proto::op::{Header, HeaderCounts, Message, MessageType, Metadata};
use hickory_server::{
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};

use crate::{
    metrics::Transport,
    respond::{Asker, Responder},
};

/// Answers the requests of one connection.
pub(super) struct Clerk {
    responder: Arc<Responder>,
    to: SocketAddr,
}

impl Clerk {
    /// A clerk for a connection that was made to the address `to`.
    pub(super) fn new(responder: Arc<Responder>, to: SocketAddr) -> Self {
        Self { responder, to }
    }

    pub(super) fn responder(&self) -> &Responder {
        &self.responder
    }

    /// The answer's octets to a message's; `None` says nothing.
    pub(super) async fn answer(
        &self,
        message: &[u8],
        from: SocketAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let asker = Asker { from, to: Some(self.to), transport };
        self.responder.answer(message, asker).await
    }
}

#[async_trait]
impl RequestHandler for Clerk {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut way: R,
    ) -> ResponseInfo {
        let sent = match self.answer(request.as_slice(), request.src(), transport(request)).await {
            Some(answer) => send(request, &answer, &mut way).await,
            None => Ok(unsent(request)),
        };
        sent.unwrap_or_else(|error| {
            tracing::debug!(%error, "answer not sent");
            unsent(request)
        })
    }
}

/// Has hickory write our answer the way the request came.
async fn send<R: ResponseHandler>(
    request: &Request,
    answer: &[u8],
    way: &mut R,
) -> Result<ResponseInfo, NetError> {
    let answer = Message::from_vec(answer)?;
    let response = MessageResponseBuilder::new(&request.queries, answer.edns.as_ref()).build(
        answer.metadata,
        &answer.answers,
        &answer.authorities,
        [],
        &answer.additionals,
    );
    way.send_response(response).await
}

fn unsent(request: &Request) -> ResponseInfo {
    let Metadata { id, op_code, .. } = request.metadata;
    let metadata = Metadata::new(id, MessageType::Response, op_code);
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum; nobody else hands us requests")]
fn transport(request: &Request) -> Transport {
    match request.protocol() {
        Protocol::Https => Transport::Https,
        _ => Transport::Tls,
    }
}
