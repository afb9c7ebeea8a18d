//! The admin API: `/metrics`, `/livez`, `/readyz` and `/v1`.
//!
//! Reading needs no token, since the address is loopback or TLS; whatever changes something does.
//! Errors are `application/problem+json` (RFC 9457).

mod api;
mod listener;
mod problem;
mod rehearsal;
mod status;
mod token;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use prometheus::Registry;
use tokio_util::sync::CancellationToken;

pub(crate) use listener::AdminError;
pub(crate) use token::{Token, TokenError};

use crate::{
    court::Court,
    handover::{Inherited, Service, Sockets},
    log::{Audit, Pseudonyms},
    proxy::Sessions,
    reload::Reloader,
};

/// What the admin API speaks of.
pub(crate) struct Desk {
    /// The node's name.
    pub(crate) node: String,
    /// The snapshot in force and the verdicts.
    pub(crate) court: Arc<Court>,
    /// The live sessions; absent where the resolver runs alone.
    pub(crate) sessions: Option<Arc<Sessions>>,
    /// How subscribers are called.
    pub(crate) pseudonyms: Pseudonyms,
    /// Who brings policies into force.
    pub(crate) reloader: Arc<Reloader>,
    /// Every metric.
    pub(crate) registry: Registry,
    /// Who may change something; `None`: nobody.
    pub(crate) token: Option<Token>,
    /// Where refused calls are written down.
    pub(crate) audit: Arc<Audit>,
    /// Whether traffic should be sent here.
    pub(crate) readiness: Readiness,
}

/// Whether traffic should be sent to this node: a policy is in force, every listener is bound, and
/// nothing asks the node to go.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    listening: AtomicBool,
    stopping: AtomicBool,
}

impl Readiness {
    /// Every listener is bound and steered to.
    pub(crate) fn listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// The node is about to go.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

/// The bound admin listener.
pub(crate) struct Admin {
    listener: listener::Listener,
    desk: Arc<Desk>,
}

impl Admin {
    /// Binds the listener of `config`.
    pub(crate) fn bind(
        config: &crate::config::AdminConfig,
        desk: Arc<Desk>,
        inherited: &mut Inherited,
    ) -> Result<Self, AdminError> {
        let socket = inherited.take(Service::Admin, config.listen).pop();
        Ok(Self { listener: listener::Listener::bind(config, socket)?, desk })
    }

    /// Adds the listening socket to those that a successor gets.
    pub(crate) fn pass_on(&self, sockets: &mut Sockets) -> io::Result<()> {
        sockets.add(Service::Admin, self.address(), Arc::new(self.listener.copy()?));
        Ok(())
    }

    /// The bound address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        self.listener.serve(api::routes(self.desk), stop).await;
    }
}
