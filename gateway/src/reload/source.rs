//! The policy source: signed policies that are pulled over HTTP, for a fleet of nodes.
//!
//! What is pulled is a bundle, see [`Bundle`]: every file of a policy with its signature, so that
//! one answer is one policy. It goes the way of every other policy, and is trusted for its signature
//! alone, not for where it came from.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio_util::sync::CancellationToken;

use super::{Bundle, Reloaded, Reloader};
use crate::{
    client::{Client, ClientError, Page},
    clock,
    config::PolicySourceConfig,
};

/// Pulls policies for `reloader`.
pub(crate) struct PolicySource {
    client: Client,
    path: String,
    interval: Duration,
    reloader: Arc<Reloader>,
    metrics: Metrics,
    /// What the policy in force was called by the server that served it.
    tag: Option<String>,
}

/// How a pull ended; also the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pull {
    /// The exchange broke off, or its body was cut short.
    Broken,
    /// The body is no bundle.
    Malformed,
    /// A new policy came into force.
    Published,
    /// The policy may not come into force here.
    Refused,
    /// No answer in time.
    Slow,
    /// Neither 200, nor 304 to a question that named what is known; redirects are not followed.
    Status,
    /// The body is too long.
    TooLarge,
    /// What is in force is what the source has.
    Unchanged,
    /// No connection.
    Unreachable,
}

/// What every node of a process with or without a source counts.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pulls: IntCounterVec,
    confirmed: IntGauge,
}

impl PolicySource {
    /// The source of `config`.
    ///
    /// # Errors
    ///
    /// The certificate authority cannot be read.
    pub(crate) fn new(
        config: &PolicySourceConfig,
        reloader: Arc<Reloader>,
        metrics: Metrics,
    ) -> Result<Self, ClientError> {
        let PolicySourceConfig { url, ca, interval } = config;
        let client = Client::anonymous(url, ca.as_deref())?;
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let (interval, tag) = (*interval, None);
        // Silence from now on is what the alarm counts.
        metrics.confirmed.set(clock::now().as_second());
        Ok(Self { client, path, interval, reloader, metrics, tag })
    }

    /// Pulls until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pull = tokio::select! {
                () = stop.cancelled() => return,
                pull = self.pull() => pull,
            };
            self.metrics.pulls.with_label_values(&[pull.label()]).inc();
            if pull.is_confirmed() {
                self.metrics.confirmed.set(clock::now().as_second());
            } else {
                tracing::warn!(result = pull.label(), "the policy source gave no policy to use");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(spread(self.interval)) => {}
            }
        }
    }

    async fn pull(&mut self) -> Pull {
        let known = self.tag.as_ref().map(|tag| (header::IF_NONE_MATCH.as_str(), tag.clone()));
        let Page { status, headers, body } =
            match self.client.fetch(&self.path, known.as_slice(), BODY_MAX).await {
                Ok(page) => page,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::debug!(%error, cause, "pull failed");
                    return Pull::of(&error);
                }
            };
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => return Pull::Unchanged,
            _ => return Pull::Status,
        }
        let bundle = match Bundle::from_json(&body) {
            Ok(bundle) if is_json(&headers) => bundle,
            Ok(_) | Err(_) => return Pull::Malformed,
        };
        let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let taken = self.reloader.take(bundle).await;
        // What was refused is asked for again, and counted again, until somebody cures it.
        self.tag = tag.filter(|_| taken.is_ok());
        match taken {
            Ok(Reloaded::Published { .. }) => Pull::Published,
            Ok(Reloaded::Unchanged { .. } | Reloaded::Rehearsed { .. }) => Pull::Unchanged,
            Err(_) => Pull::Refused,
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// A tenth more or less, so that a fleet that starts together does not ask together.
fn spread(interval: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness the interval is kept as it is.
    let share = getrandom::fill(&mut random).map_or(0.5, |()| f64::from(random[0]) / 255.0);
    interval.mul_f64(0.9 + 0.2 * share)
}

impl Pull {
    const ALL: [Self; 9] = [
        Self::Broken,
        Self::Malformed,
        Self::Published,
        Self::Refused,
        Self::Slow,
        Self::Status,
        Self::TooLarge,
        Self::Unchanged,
        Self::Unreachable,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Malformed => "malformed",
            Self::Published => "published",
            Self::Refused => "refused",
            Self::Slow => "slow",
            Self::Status => "status",
            Self::TooLarge => "too-large",
            Self::Unchanged => "unchanged",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether the source and this node agree now.
    fn is_confirmed(self) -> bool {
        match self {
            Self::Published | Self::Unchanged => true,
            Self::Broken
            | Self::Malformed
            | Self::Refused
            | Self::Slow
            | Self::Status
            | Self::TooLarge
            | Self::Unreachable => false,
        }
    }

    fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Slow { .. } => Self::Slow,
            ClientError::TooLarge { .. } => Self::TooLarge,
            ClientError::Broken { .. } | ClientError::Answer { .. } => Self::Broken,
            ClientError::Url { .. }
            | ClientError::Clear { .. }
            | ClientError::AnyPort { .. }
            | ClientError::NoAuthority
            | ClientError::Read { .. }
            | ClientError::Certificate { .. }
            | ClientError::Connect { .. }
            | ClientError::Tls(_)
            | ClientError::Name { .. } => Self::Unreachable,
        }
    }
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Pulls from the policy source by result; published and unchanged are good.";
        let pulls = IntCounterVec::new(Opts::new(PULLS, help), &["result"])?;
        for pull in Pull::ALL {
            let _ = pulls.with_label_values(&[pull.label()]);
        }
        let help = "When the policy source last agreed with what is in force, or the node started, in seconds since 1970; 0 without a source.";
        let confirmed = IntGauge::new(CONFIRMED, help)?;
        registry.register(Box::new(pulls.clone()))?;
        registry.register(Box::new(confirmed.clone()))?;
        Ok(Self { pulls, confirmed })
    }
}

/// Octets of a bundle, twice those of a document: JSON writes a line feed as two characters.
const BODY_MAX: usize = 128 * 1024 * 1024;
/// Pulls by result.
const PULLS: &str = "postern_policy_pulls_total";
/// When source and node last agreed.
const CONFIRMED: &str = "postern_policy_source_timestamp_seconds";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_are_spread_around_the_interval() {
        let interval = Duration::from_secs(100);
        let spread: Vec<Duration> = (0..100).map(|_| spread(interval)).collect();
        let bounds = Duration::from_secs(89)..Duration::from_secs(111);
        assert!(spread.iter().all(|time| bounds.contains(time)), "{spread:?}");
        assert!(spread.iter().any(|time| *time != spread[0]));
    }

    #[test]
    fn labels_differ() {
        let labels: std::collections::BTreeSet<_> = Pull::ALL.map(Pull::label).into();
        assert_eq!(labels.len(), Pull::ALL.len());
    }
}
