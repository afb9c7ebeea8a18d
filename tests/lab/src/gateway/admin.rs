//! The gateway's admin interface, asked over HTTP from the gateway's own namespace.

use std::{fs, io, net::SocketAddr, time::Duration};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{Gateway, GatewayError};
use crate::{metrics::Metrics, world::files::TOKEN};

/// An answer of the admin interface.
#[derive(Debug, Clone)]
pub struct AdminReply {
    /// HTTP status.
    pub status: StatusCode,
    /// Body as text.
    pub body: String,
}

impl Gateway {
    /// Tells the gateway through the admin interface to read its policy again; the answer comes
    /// when it has.
    ///
    /// # Errors
    /// When the interface does not answer. A refused policy is an answer.
    pub fn reload(&self) -> Result<AdminReply, GatewayError> {
        self.admin(Method::POST, "/v1/policy/reload", "")
    }

    /// Asks the admin interface with the token.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn admin(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<AdminReply, GatewayError> {
        let token = fs::read_to_string(self.directory.join(TOKEN)).map_err(GatewayError::Admin)?;
        self.admin_with(Some(token.trim()), method, path, body)
    }

    /// Asks the admin interface with a token of the caller's choice.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn admin_with(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<AdminReply, GatewayError> {
        let bearer = token.map(|token| ("authorization", format!("Bearer {token}")));
        self.admin_headers(bearer.as_slice(), method, path, body)
    }

    /// Asks the admin interface with headers of the caller's choice.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn admin_headers(
        &self,
        headers: &[(&str, String)],
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<AdminReply, GatewayError> {
        let address = self.admin_address().ok_or(GatewayError::Down)?;
        let mut request =
            Request::builder().method(method).uri(path).header("host", address.to_string());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .header("content-type", "application/json")
            .body(Full::from(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|error| GatewayError::Admin(io::Error::other(error)))?;
        let asked = self.namespace.run(async move {
            timeout(ADMIN_LIMIT, ask(address, request))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
        asked.map_err(GatewayError::Admin)
    }

    /// Reads the metrics.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn metrics(&self) -> Result<Metrics, GatewayError> {
        let reply = self.admin(Method::GET, "/metrics", "")?;
        Ok(Metrics::parse(&reply.body))
    }

    /// The serial of the policy in force, as the admin interface tells it.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn serial(&self) -> Result<Option<u64>, GatewayError> {
        let reply = self.admin(Method::GET, "/v1/policy", "")?;
        let policy: serde_json::Value = serde_json::from_str(&reply.body).unwrap_or_default();
        Ok(find(&policy, "serial").and_then(serde_json::Value::as_u64))
    }
}

async fn ask(address: SocketAddr, request: Request<Full<Bytes>>) -> io::Result<AdminReply> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let asking = async move {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(AdminReply { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    let (reply, _) = tokio::join!(asking, connection);
    reply
}

/// Finds a key anywhere in a document, nearest to the top first.
fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    let object = value.as_object()?;
    object.get(key).or_else(|| object.values().find_map(|inner| find(inner, key)))
}

const ADMIN_LIMIT: Duration = Duration::from_secs(10);
