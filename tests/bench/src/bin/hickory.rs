//! A peer of the DNS benchmark: hickory-server with hickory-resolver behind an allowlist, both as
//! they come, on one thread: `hickory LISTEN UPSTREAM NAMES`, the names one a line.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark ends where it cannot go on"
)]

use std::{collections::HashSet, net::SocketAddr};

use async_trait::async_trait;
use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig},
    net::runtime::{Time, TokioRuntimeProvider},
};
use hickory_server::{
    Server,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::UdpSocket;

struct Allowlist {
    names: HashSet<String>,
    resolver: TokioResolver,
}

#[async_trait]
impl RequestHandler for Allowlist {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut way: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = ResponseCode::NXDomain;
        let mut records = Vec::new();
        if let Ok(info) = request.request_info()
            && self.names.contains(&info.query.name().to_string())
        {
            let name = info.query.original().name().clone();
            match self.resolver.lookup(name, info.query.query_type()).await {
                Ok(lookup) => {
                    metadata.response_code = ResponseCode::NoError;
                    records = lookup.answers().to_vec();
                }
                Err(_) => metadata.response_code = ResponseCode::ServFail,
            }
        }
        let answer = MessageResponseBuilder::new(&request.queries, request.edns.as_ref());
        let sent = way.send_response(answer.build(metadata, &records, [], [], [])).await;
        sent.unwrap_or_else(|_| {
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let listen: SocketAddr = arguments[1].parse().unwrap();
    let upstream: SocketAddr = arguments[2].parse().unwrap();
    let names = std::fs::read_to_string(&arguments[3]).unwrap();
    let names = names.lines().map(|name| format!("{name}.")).collect();
    let mut connection = ConnectionConfig::new(ProtocolConfig::Udp);
    connection.port = upstream.port();
    let servers = vec![NameServerConfig::new(upstream.ip(), true, vec![connection])];
    let config = ResolverConfig::from_parts(None, vec![], servers);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let mut server = Server::new(Allowlist { names, resolver: resolver.build().unwrap() });
    server.register_socket(UdpSocket::bind(listen).await.unwrap());
    server.block_until_done().await.unwrap();
}
