//! The captive-portal API (RFC 8908): tells a device whether it is in the garden, and where the
//! portal is.
//!
//! It is asked by the gateway's own address, over TLS, at the URL that the network announces (RFC
//! 8910). Whoever asks learns of itself alone, by the address it asks from.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use dns::Judge;
use policy::{Action, Policy, Subject, Subscriber};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{AdminError, Listener, Peer},
    config::EncryptedConfig,
    court::Court,
    handover::{Inherited, Service, Sockets},
    places::Places,
};

/// The bound listeners of the API.
pub(crate) struct CaptivePortal {
    listeners: Vec<Listener>,
    court: Arc<Court>,
}

/// What is said to one device (RFC 8908 section 5). How long it stays outside the garden is not
/// known, so it is not said.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Standing<'p> {
    captive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_portal_url: Option<&'p str>,
}

impl CaptivePortal {
    /// Binds every address of `config`.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or the certificate cannot be used.
    pub(crate) fn bind(
        config: &EncryptedConfig,
        court: Arc<Court>,
        inherited: &mut Inherited,
    ) -> Result<Self, AdminError> {
        let EncryptedConfig { listen, certificate, key } = config;
        let bind = |address: &SocketAddr| {
            let socket = inherited.take(Service::Captive, *address).pop();
            Listener::bind(*address, Some((certificate, key)), socket)
        };
        let listeners = listen.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { listeners, court })
    }

    /// Adds the listening sockets to those that a successor gets.
    pub(crate) fn pass_on(&self, sockets: &mut Sockets) -> io::Result<()> {
        for listener in &self.listeners {
            sockets.add(Service::Captive, listener.address(), Arc::new(listener.copy()?));
        }
        Ok(())
    }

    /// The bound addresses.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Serves until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let routes = Router::new().route(PATH, get(tell)).with_state(self.court);
        let places = Places::new(CONNECTIONS, CONNECTIONS_EACH);
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            serving.spawn(listener.serve(routes.clone(), places.clone(), stop.clone()));
        }
        while serving.join_next().await.is_some() {}
    }
}

async fn tell(State(court): State<Arc<Court>>, Extension(peer): Extension<Peer>) -> Response {
    let Some(snapshot) = court.snapshot() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let standing = standing(snapshot.policy(), &court.subscriber(address(peer)));
    let headers = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")];
    (headers, Json(standing)).into_response()
}

fn address(Peer(peer): Peer) -> IpAddr {
    peer.ip().to_canonical()
}

/// Captive is who the policy holds in the garden, or bars, or does not know.
fn standing<'p>(policy: &'p Policy, subscriber: &Subscriber) -> Standing<'p> {
    let class = policy.class_of(Subject::Subscriber(subscriber));
    let captive = class.is_none_or(|class| match class.action() {
        Action::Garden | Action::Drop => true,
        Action::Open | Action::Observe => false,
    });
    let portal = policy.http().portal.as_deref();
    Standing { captive, user_portal_url: portal.filter(|portal| portal.starts_with("https://")) }
}

/// Connections of all subscribers at once; further ones are closed.
const CONNECTIONS: usize = 1_024;
/// Connections of one subscriber at once.
const CONNECTIONS_EACH: usize = 8;
/// The path of the API.
const PATH: &str = "/captive-portal";
/// RFC 8908 section 4.2.
const MEDIA_TYPE: &str = "application/captive+json";

#[cfg(test)]
mod tests {
    use policy::{Source, compile};

    use super::*;

    #[test]
    fn the_class_says_who_is_captive() {
        let text = r#"
schema = 1
name = "captive"
serial = 1
environment = "lab"
default_class = "unprovisioned"
[http]
denied = "redirect"
portal = "https://portal.acme.example/start"
[[hostset]]
name = "set"
source = "the test"
reviewed = 2026-11-23
[[hostset.host]]
match = "portal.acme.example"
schemes = ["https"]
[[class]]
name = "paid"
priority = 1
action = "open"
[[class.match]]
networks = ["192.0.2.0/26"]
[[class]]
name = "watched"
priority = 2
action = "observe"
hostsets = ["set"]
[[class.match]]
networks = ["192.0.2.64/26"]
[[class]]
name = "barred"
priority = 3
action = "drop"
[[class.match]]
networks = ["192.0.2.128/26"]
[[class]]
name = "unprovisioned"
priority = 4
action = "garden"
hostsets = ["set"]
"#;
        let source = Source { name: "captive.toml", text };
        let policy = compile(&source, jiff::civil::date(2026, 11, 23)).unwrap().policy;
        for (address, captive) in [
            ("192.0.2.1", false),
            ("192.0.2.65", false),
            ("192.0.2.129", true),
            ("192.0.2.193", true),
            ("2001:db8::1", true),
        ] {
            let standing = standing(&policy, &Subscriber::at(address.parse().unwrap()));
            let portal = Some("https://portal.acme.example/start");
            assert_eq!(standing, Standing { captive, user_portal_url: portal }, "{address}");
        }
        let told = serde_json::to_value(standing(&policy, &Subscriber::default())).unwrap();
        let portal = "https://portal.acme.example/start";
        assert_eq!(told, serde_json::json!({"captive": true, "user-portal-url": portal}));
    }
}
