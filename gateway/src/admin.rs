//! The admin API: `/metrics`, `/livez`, `/readyz` and `/v1`.
//!
//! Reading needs no token, since the address is loopback or TLS; whatever changes something does,
//! and whatever tells about a SIM.
//! Errors are `application/problem+json` (RFC 9457).

mod api;
mod bindings;
mod body;
mod emergency;
mod hook;
mod listener;
mod problem;
mod refusals;
mod rehearsal;
mod sims;
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

pub(crate) use hook::Hook;
pub(crate) use listener::{AdminError, Listener, Peer};
pub(crate) use refusals::RefusalCount;
pub(crate) use token::{Token, TokenError};

use crate::{
    court::Court,
    grants::Grants,
    handover::{Inherited, Service, Sockets},
    lift::Lift,
    log::{Audit, Pseudonyms},
    places::Places,
    proxy::Sessions,
    reload::Reloader,
    sims::Sims,
    webhook::outbox::Outbox,
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
    /// Bounded open access.
    pub(crate) grants: Arc<Grants>,
    /// What makes kernel and sessions agree with the table of SIMs.
    pub(crate) lift: Arc<Lift>,
    /// Who may set states by webhook; `None`: nobody.
    pub(crate) hook: Option<Hook>,
    /// Where changes of state are put for other systems; `None`: nobody is told.
    pub(crate) outbox: Option<Outbox>,
    /// Counts refused requests about SIMs.
    pub(crate) refusals: RefusalCount,
    /// Every metric.
    pub(crate) registry: Registry,
    /// Who may change something; `None`: nobody.
    pub(crate) token: Option<Token>,
    /// Where refused calls are written down.
    pub(crate) audit: Arc<Audit>,
    /// Whether traffic should be sent here.
    pub(crate) readiness: Readiness,
}

impl Desk {
    /// Who is behind which address.
    fn sims(&self) -> &Sims {
        self.court.sims()
    }
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
    listener: Listener,
}

impl Admin {
    /// Binds the listener of `config`.
    pub(crate) fn bind(
        config: &crate::config::AdminConfig,
        inherited: &mut Inherited,
    ) -> Result<Self, AdminError> {
        let socket = inherited.take(Service::Admin, config.listen).pop();
        let tls = config.tls.as_ref().map(|tls| (&*tls.certificate, &*tls.key));
        Ok(Self { listener: Listener::bind(config.listen, tls, socket)? })
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

    /// Serves what `desk` knows until `stop`.
    pub(crate) async fn run(self, desk: Arc<Desk>, stop: CancellationToken) {
        let places = Places::new(CONNECTIONS, CONNECTIONS);
        self.listener.serve(api::routes(desk), places, stop).await;
    }
}

/// Connections at once; further ones are closed.
const CONNECTIONS: usize = 64;
