//! The table `[proxy]`.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{super::ProxyConfig, Findings};
use crate::proxy::Limits;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proxy {
    #[serde(default)]
    http: Vec<Spanned<String>>,
    #[serde(default)]
    https: Vec<Spanned<String>>,
    quic: Option<Spanned<String>>,
    #[serde(default)]
    limits: LimitTexts,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitTexts {
    hello_time: Option<Spanned<String>>,
    header_time: Option<Spanned<String>>,
    idle_time: Option<Spanned<String>>,
    dial_time: Option<Spanned<String>>,
    drain_time: Option<Spanned<String>>,
    sessions: Option<Spanned<usize>>,
    sessions_per_subscriber: Option<Spanned<usize>>,
}

impl Proxy {
    pub(super) fn check(self, findings: &mut Findings) -> ProxyConfig {
        let Self { http, https, quic, limits } = self;
        if let Some(quic) = quic.filter(|quic| quic.get_ref() != "reject") {
            let message = match quic.get_ref().as_str() {
                "inspect" => "this version cannot look into QUIC; it refuses it".to_owned(),
                other => format!("`{other}` is not a way to treat QUIC"),
            };
            findings.error("GW0002", quic.span(), &message, Some("quic = \"reject\""));
        }
        let mut time = |given: Option<Spanned<String>>, otherwise| {
            given.and_then(|text| findings.duration(&text)).unwrap_or(otherwise)
        };
        let default = Limits::default();
        let drain_time = time(limits.drain_time, DRAIN_TIME);
        let (hello_time, header_time, idle_limit, dial_time) = (
            time(limits.hello_time, default.hello_time),
            time(limits.header_time, default.header_time),
            time(limits.idle_time, default.idle_limit),
            time(limits.dial_time, default.dial_time),
        );
        let mut count = |given: Option<Spanned<usize>>, otherwise| {
            given.map_or(otherwise, |number| {
                if *number.get_ref() == 0 {
                    findings.error(
                        "GW0002",
                        number.span(),
                        "a limit of 0 would admit nobody",
                        None,
                    );
                }
                number.into_inner()
            })
        };
        let sessions = count(limits.sessions, default.sessions);
        let sessions_per_subscriber =
            count(limits.sessions_per_subscriber, default.sessions_per_subscriber);
        ProxyConfig {
            http: findings.addresses(http),
            https: findings.addresses(https),
            limits: Limits {
                hello_time,
                header_time,
                idle_limit,
                dial_time,
                sessions,
                sessions_per_subscriber,
            },
            drain_time,
        }
    }
}

/// What live sessions get to end by themselves at stop.
const DRAIN_TIME: Duration = Duration::from_secs(10);
