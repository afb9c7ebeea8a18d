//! The table `[proxy]`.

use std::time::Duration;

use policy::Quic;
use serde::Deserialize;
use toml::Spanned;

use super::{
    super::{ProxyConfig, SteeringMode},
    Findings,
};
use crate::proxy::{Egress, Limits};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proxy {
    #[serde(default)]
    http: Vec<Spanned<String>>,
    #[serde(default)]
    https: Vec<Spanned<String>>,
    #[serde(default)]
    explicit: Vec<Spanned<String>>,
    #[serde(default)]
    proxy_protocol: Vec<Spanned<String>>,
    quic: Option<Spanned<String>>,
    workers: Option<Spanned<usize>>,
    #[serde(default)]
    egress: Vec<Spanned<String>>,
    source: Option<Spanned<String>>,
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
    leave_time: Option<Spanned<String>>,
    upgrade_time: Option<Spanned<String>>,
    sessions: Option<Spanned<usize>>,
    hellos: Option<Spanned<usize>>,
    sessions_per_subscriber: Option<Spanned<usize>>,
    sessions_per_second: Option<Spanned<u32>>,
}

impl Proxy {
    pub(super) fn check(self, mode: SteeringMode, findings: &mut Findings) -> ProxyConfig {
        let Self { http, https, explicit, proxy_protocol, .. } = self;
        let Self { quic, workers, egress, source, limits, .. } = self;
        let quic = quic.map_or(Quic::Reject, |quic| match quic.get_ref().as_str() {
            "reject" => Quic::Reject,
            "inspect" => Quic::Inspect,
            other => {
                let message = format!("`{other}` is not a way to treat QUIC");
                findings.error("GW0002", quic.span(), &message, Some("quic = \"reject\""));
                Quic::Reject
            }
        });
        let (limits, drain_time, upgrade_time) = limits.check(findings);
        ProxyConfig {
            http: findings.addresses(http),
            https: findings.addresses(https),
            explicit: findings.addresses(explicit),
            balancers: proxy_protocol.into_iter().filter_map(|text| findings.parse(text)).collect(),
            quic,
            workers: workers.map(|number| findings.count(number)),
            egress: whence(source, egress, mode, findings),
            limits,
            drain_time,
            upgrade_time,
        }
    }
}

impl LimitTexts {
    /// The bounds, the drain time and the upgrade time.
    fn check(self, findings: &mut Findings) -> (Limits, Duration, Duration) {
        let mut time = |given: Option<Spanned<String>>, otherwise| {
            given.and_then(|text| findings.duration(&text)).unwrap_or(otherwise)
        };
        let default = Limits::default();
        let drain_time = time(self.drain_time, DRAIN_TIME);
        let upgrade_time = time(self.upgrade_time, UPGRADE_TIME);
        let hello_time = time(self.hello_time, default.hello_time);
        let header_time = time(self.header_time, default.header_time);
        let idle_limit = time(self.idle_time, default.idle_limit);
        let dial_time = time(self.dial_time, default.dial_time);
        let leave_time = time(self.leave_time, default.leave_time);
        let mut count = |given: Option<Spanned<usize>>, otherwise| {
            given.map_or(otherwise, |number| findings.count(number))
        };
        let sessions = count(self.sessions, default.sessions);
        let hellos = count(self.hellos, default.hellos);
        let sessions_per_subscriber =
            count(self.sessions_per_subscriber, default.sessions_per_subscriber);
        let sessions_per_second = self
            .sessions_per_second
            .map_or(default.sessions_per_second, |number| findings.limit(&number));
        let limits = Limits {
            hello_time,
            header_time,
            idle_limit,
            dial_time,
            leave_time,
            sessions,
            hellos,
            sessions_per_subscriber,
            sessions_per_second,
        };
        (limits, drain_time, upgrade_time)
    }
}

/// The addresses that origins are dialled from.
fn whence(
    source: Option<Spanned<String>>,
    egress: Vec<Spanned<String>>,
    mode: SteeringMode,
    findings: &mut Findings,
) -> Egress {
    let Some(source) = source else {
        return Egress::Gateway(
            egress.into_iter().filter_map(|text| findings.parse(text)).collect(),
        );
    };
    match source.get_ref().as_str() {
        "gateway" => return whence(None, egress, mode, findings),
        "subscriber" if !egress.is_empty() => {
            let message = "`egress` names addresses of the gateway, and `source` the subscriber's";
            findings.error("GW0002", source.span(), message, Some("source = \"gateway\""));
        }
        "subscriber" if mode != SteeringMode::Tproxy => {
            let message = "only steering by TPROXY brings back what is sent to a subscriber";
            findings.error("GW0002", source.span(), message, Some("mode = \"tproxy\""));
        }
        "subscriber" => {}
        other => {
            let message = format!("`{other}` is not where origins are dialled from");
            findings.error("GW0002", source.span(), &message, Some("source = \"gateway\""));
        }
    }
    Egress::Subscriber
}

/// What live sessions get to end by themselves at stop.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// What live sessions get to end by themselves in the old process of an upgrade.
const UPGRADE_TIME: Duration = Duration::from_secs(3600);
