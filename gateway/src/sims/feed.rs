//! What changed behind an address, for those who act on it: kernel sets, live sessions, webhooks.

use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use policy::Subscriber;
use tokio::sync::broadcast::{self, error::RecvError};

use super::registry::Source;

/// Another verdict may hold for these addresses from here on; readers already see it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// An IPv4 address, an IPv6 /64 or a delegated prefix.
    pub(crate) network: IpNet,
    /// Who was behind it.
    pub(crate) before: Subscriber,
    /// Who is behind it.
    pub(crate) after: Subscriber,
    /// What brought the change.
    pub(crate) source: Source,
    /// When the event was accepted; lift times run from here.
    pub(crate) at: Timestamp,
}

/// What a feed brings.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// One change.
    Change(Arc<Change>),
    /// Changes were lost, or all may have changed at once: look at every binding again.
    Everything,
}

/// Changes in order, up to [`FEED`] behind; who falls further back is told [`News::Everything`].
#[derive(Debug)]
pub(crate) struct Feed(broadcast::Receiver<News>);

/// Where changes are sent from.
#[derive(Debug)]
pub(super) struct Sender(broadcast::Sender<News>);

impl Feed {
    /// The next news; `None` when the table is no more. Safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> Option<News> {
        match self.0.recv().await {
            Ok(news) => Some(news),
            Err(RecvError::Lagged(_)) => Some(News::Everything),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Sender {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(FEED))
    }

    pub(super) fn feed(&self) -> Feed {
        Feed(self.0.subscribe())
    }

    /// Nobody listening is no fault.
    pub(super) fn send(&self, news: News) {
        let _ = self.0.send(news);
    }

    pub(super) fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }
}

/// Changes that wait for the slowest listener.
pub(crate) const FEED: usize = 8192;
