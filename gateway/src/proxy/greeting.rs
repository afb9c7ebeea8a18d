//! Connections of load balancers: each begins by saying for whom it is.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    Parts, Protocol,
    forwarded::{self, Forwarded},
    listener::{self, Accepted},
};

/// Whose connections are another's.
pub(super) struct Balancers {
    networks: Vec<IpNet>,
    places: Arc<Semaphore>,
}

impl Balancers {
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self { networks, places: Arc::new(Semaphore::new(MAX_GREETINGS)) }
    }

    /// A place for one more that has not said yet for whom it is.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// Hands a connection to `take`; one of a load balancer as that of whom it is for. A header from
/// anybody else is left where it is, and refused for what it is not: a hello, or a request.
pub(super) fn receive(
    accepted: Accepted,
    protocol: Protocol,
    parts: &Arc<Parts>,
    serving: &TaskTracker,
    take: &(impl Fn(Accepted) + Clone + Send + 'static),
) {
    if !parts.balancers.contains(accepted.subscriber) {
        return take(accepted);
    }
    let Some(place) = parts.balancers.place() else {
        parts.metrics.accept_failed(protocol);
        return listener::reset(accepted.stream);
    };
    let (parts, take) = (Arc::clone(parts), take.clone());
    serving.spawn(async move {
        let unsaid = || {
            parts.metrics.accept_failed(protocol);
            tracing::debug!("a load balancer did not say for whom it connects");
        };
        let told = timeout(GREETING_TIME, told(accepted.stream)).await;
        drop(place);
        match told {
            Ok(Ok((stream, Forwarded::For { from, to }))) => take(Accepted {
                stream,
                subscriber: from.ip(),
                destination: Some(to),
                port: to.port(),
            }),
            // A health check has seen that somebody listens.
            Ok(Ok((_, Forwarded::Own))) => {}
            Ok(Ok((stream, Forwarded::Incomplete { .. } | Forwarded::Reject))) => {
                listener::reset(stream);
                unsaid();
            }
            Ok(Err(_)) | Err(_) => unsaid(),
        }
    });
}

/// Reads the header, and nothing behind it.
async fn told(stream: std::net::TcpStream) -> io::Result<(std::net::TcpStream, Forwarded)> {
    let mut stream = TcpStream::from_std(stream)?;
    let mut octets = Vec::new();
    loop {
        let read = forwarded::read(&octets);
        let Forwarded::Incomplete { more } = read else {
            return Ok((stream.into_std()?, read));
        };
        let known = octets.len();
        octets.resize(known + more, 0);
        stream.read_exact(octets.get_mut(known..).unwrap_or_default()).await?;
    }
}

/// Connections of load balancers that have not said yet for whom they are.
const MAX_GREETINGS: usize = 1_024;
/// From accept to the end of the header, which balancers send at once.
const GREETING_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
