//! From text to [`Config`], with every finding.

mod dns;
mod grants;
mod policy_source;
mod proxy;
mod radius;
mod state;
mod tables;
mod webhook;

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use policy::{Diagnostic, Environment, Severity};
use serde::Deserialize;
use toml::Spanned;

use super::{AdminConfig, AdminTls, Config, LogConfig, SteeringConfig, SteeringMode};
use proxy::Proxy;

use crate::proxy::Egress;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    node: Spanned<String>,
    environment: Environment,
    policy: PathBuf,
    require_signature: Option<Spanned<Vec<PathBuf>>>,
    last_good: Option<PathBuf>,
    policy_source: Option<policy_source::PolicySource>,
    #[serde(default)]
    steering: Option<Spanned<Steering>>,
    dns: dns::Dns,
    proxy: Option<Proxy>,
    admin: Admin,
    radius: Option<radius::Radius>,
    state: Option<state::State>,
    captive_portal: Option<dns::Encrypted>,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    grants: grants::Grants,
    #[serde(default)]
    webhook: webhook::Webhook,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Steering {
    mode: SteeringMode,
    #[serde(default)]
    interfaces: Vec<Spanned<String>>,
    #[serde(default = "yes")]
    install: bool,
    #[serde(default = "default_mark")]
    mark: u32,
    #[serde(default = "default_mark")]
    table: u32,
    addresses: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Admin {
    listen: Spanned<String>,
    token_file: Option<PathBuf>,
    tls: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    decisions: Option<PathBuf>,
    allow_sample: Option<Spanned<u32>>,
    audit: Option<PathBuf>,
    pseudonym_key_file: Option<PathBuf>,
}

/// Collects findings while values are read.
struct Findings {
    file: Arc<str>,
    found: Vec<Diagnostic>,
}

pub(super) fn read(path: &Path, text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut findings = Findings { file: path.display().to_string().into(), found: Vec::new() };
    let Some(document) = tables::read::<Document>(text, &mut findings) else {
        return Err(findings.found);
    };
    let config = document.check(path.parent().unwrap_or_else(|| Path::new("")), &mut findings);
    findings.found.sort_by_key(|diagnostic| diagnostic.span.start);
    if findings.found.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        Err(findings.found)
    } else {
        Ok((config, findings.found))
    }
}

impl Document {
    fn check(self, folder: &Path, findings: &mut Findings) -> Config {
        let Self {
            node,
            environment,
            policy,
            require_signature,
            last_good,
            policy_source,
            steering,
            dns,
            proxy,
            admin,
            captive_portal,
            radius,
            state,
            log,
            grants,
            webhook,
        } = self;
        if let Some(keys) = require_signature.as_ref().filter(|keys| keys.get_ref().is_empty()) {
            let message = "signatures are required, but no key is named that may have made them";
            let help = "name the files of the public keys, or remove the line";
            findings.error("GW0004", keys.span(), message, Some(help));
        }
        let keys = require_signature.map(Spanned::into_inner).unwrap_or_default();
        let name_ok = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
        if node.get_ref().is_empty()
            || node.get_ref().len() > NODE_MAX
            || !node.get_ref().bytes().all(name_ok)
        {
            let message =
                format!("a node name has 1 to {NODE_MAX} letters, digits, '-', '_' or '.'");
            findings.error("GW0002", node.span(), &message, None);
        }
        let mut steering = steering
            .map_or_else(SteeringConfig::none, |steering| steering.into_inner().check(findings));
        let proxy = proxy.map(|proxy| proxy.check(steering.mode, findings));
        steering.brings_back =
            proxy.as_ref().is_some_and(|proxy| matches!(proxy.egress, Egress::Subscriber));
        Config {
            node: node.into_inner(),
            environment,
            policy: folder.join(policy),
            policy_source: policy_source.and_then(|source| {
                source.check(folder, !keys.is_empty(), last_good.is_some(), findings)
            }),
            require_signature: keys.into_iter().map(|key| folder.join(key)).collect(),
            last_good: last_good.map(|path| folder.join(path)),
            steering,
            dns: dns.check(folder, findings),
            proxy,
            admin: admin.check(folder, findings),
            radius: radius.map(|radius| radius.check(folder, findings)),
            state: state.map(|state| state.check(folder, findings)).unwrap_or_default(),
            captive_portal: captive_portal.map(|portal| portal.check(folder, findings)),
            log: log.check(folder, findings),
            grants: grants.check(folder, findings),
            webhook: webhook.check(folder, findings),
        }
    }
}

impl SteeringConfig {
    fn none() -> Self {
        Self {
            mode: SteeringMode::None,
            interfaces: Vec::new(),
            install: false,
            mark: default_mark(),
            table: default_mark(),
            brings_back: false,
            addresses: Vec::new(),
        }
    }
}

impl Steering {
    fn check(self, findings: &mut Findings) -> SteeringConfig {
        let Self { mode, interfaces, install, mark, table, addresses } = self;
        let interfaces = findings.interfaces(interfaces);
        let addresses = addresses_of(mode, addresses, findings);
        let steers = match mode {
            SteeringMode::Tproxy | SteeringMode::Redirect => true,
            SteeringMode::Dns | SteeringMode::None => false,
        };
        if steers && install && interfaces.is_empty() {
            findings.error(
                "GW0004",
                0..0,
                "steering is to be installed, but no interface towards subscribers is named",
                Some("name them: interfaces = [\"ue0\"]"),
            );
        }
        if mark == 0 || table == 0 {
            findings.error("GW0002", 0..0, "mark and table of the steering must not be 0", None);
        }
        let (install, brings_back) = (install && steers, false);
        SteeringConfig { mode, interfaces, install, mark, table, brings_back, addresses }
    }
}

impl Admin {
    fn check(self, folder: &Path, findings: &mut Findings) -> AdminConfig {
        let span = self.listen.span();
        let listen = findings
            .parse::<SocketAddr>(self.listen)
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        if !listen.ip().is_loopback() && self.tls.is_none() {
            findings.error(
                "GW0005",
                span,
                "the admin address is not loopback and has no [admin.tls]",
                Some("listen on 127.0.0.1 or [::1], or give certificate and key"),
            );
        }
        let file = |path: PathBuf| folder.join(path);
        AdminConfig {
            listen,
            token_file: self.token_file.map(file),
            tls: self
                .tls
                .map(|tls| AdminTls { certificate: file(tls.certificate), key: file(tls.key) }),
        }
    }
}

impl Log {
    fn check(self, folder: &Path, findings: &mut Findings) -> LogConfig {
        let allow_sample = self.allow_sample.map_or(ALLOW_SAMPLE, |number| {
            if *number.get_ref() == 0 {
                findings.error("GW0002", number.span(), "one of 0 allows cannot be kept", None);
            }
            number.into_inner()
        });
        let file = |path: PathBuf| folder.join(path);
        LogConfig {
            decisions: self.decisions.map(file),
            allow_sample,
            audit: self.audit.map(file),
            pseudonym_key_file: self.pseudonym_key_file.map(file),
        }
    }
}

impl Findings {
    fn error(&mut self, code: &'static str, span: Range<usize>, message: &str, help: Option<&str>) {
        self.push(code, Severity::Error, span, message, help);
    }

    fn warning(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: &str,
        help: Option<&str>,
    ) {
        self.push(code, Severity::Warning, span, message, help);
    }

    fn push(
        &mut self,
        code: &'static str,
        severity: Severity,
        span: Range<usize>,
        message: &str,
        help: Option<&str>,
    ) {
        self.found.push(Diagnostic {
            code,
            severity,
            file: Arc::clone(&self.file),
            span,
            message: message.to_owned(),
            help: help.map(str::to_owned),
        });
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(&mut self, text: Spanned<String>) -> Option<T> {
        match text.get_ref().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("`{}`: {error}", text.get_ref());
                self.error("GW0002", text.span(), &message, None);
                None
            }
        }
    }

    fn limit(&mut self, number: &Spanned<u32>) -> u32 {
        if *number.get_ref() == 0 {
            self.error("GW0002", number.span(), "a limit of 0 would admit nobody", None);
        }
        *number.get_ref()
    }

    fn interfaces(&mut self, names: Vec<Spanned<String>>) -> Vec<String> {
        for interface in &names {
            // IFNAMSIZ is 16 with the closing NUL; the name goes into a ruleset between quotes.
            let name = interface.get_ref();
            let fits = !name.is_empty()
                && name.len() < 16
                && name
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || b"-_.@".contains(&octet));
            if !fits {
                let message = "an interface name has 1 to 15 letters, digits, '-', '_', '.' or '@'";
                self.error("GW0002", interface.span(), message, None);
            }
        }
        names.into_iter().map(Spanned::into_inner).collect()
    }

    fn count(&mut self, number: Spanned<usize>) -> usize {
        if *number.get_ref() == 0 {
            self.error("GW0002", number.span(), "a limit of 0 would admit nobody", None);
        }
        number.into_inner()
    }

    fn addresses(&mut self, texts: Vec<Spanned<String>>) -> Vec<SocketAddr> {
        texts.into_iter().filter_map(|text| self.parse(text)).collect()
    }

    /// A number of bytes with a unit.
    fn size(&mut self, text: &Spanned<String>) -> Option<u64> {
        let parsed = text
            .get_ref()
            .find(|letter: char| !letter.is_ascii_digit())
            .and_then(|at| text.get_ref().split_at_checked(at))
            .and_then(|(number, unit)| {
                let number: u64 = number.parse().ok()?;
                match unit {
                    "B" => Some(number),
                    "kB" => number.checked_mul(1_000),
                    "MB" => number.checked_mul(1_000_000),
                    "GB" => number.checked_mul(1_000_000_000),
                    _ => None,
                }
            })
            .filter(|size| *size > 0);
        if parsed.is_none() {
            let message = format!("`{}` is not a number of bytes", text.get_ref());
            self.error("GW0002", text.span(), &message, Some("for example \"5MB\" or \"500kB\""));
        }
        parsed
    }

    fn duration(&mut self, text: &Spanned<String>) -> Option<Duration> {
        let parsed = super::duration(text.get_ref())
            .filter(|time| (Duration::from_millis(1)..=DURATION_MAX).contains(time));
        if parsed.is_none() {
            let message = format!("`{}` is not a time between 1ms and 24h", text.get_ref());
            self.error("GW0002", text.span(), &message, Some("for example \"5s\" or \"250ms\""));
        }
        parsed
    }
}

/// The addresses that DNS answers lead to: some where that is all the steering there is, else none.
fn addresses_of(
    mode: SteeringMode,
    written: Option<Spanned<Vec<Spanned<String>>>>,
    findings: &mut Findings,
) -> Vec<IpAddr> {
    match (mode, written) {
        (SteeringMode::Dns, Some(written)) if !written.get_ref().is_empty() => {
            let message = "DNS answers alone steer here: a subscriber that knows an address goes \
                           around the gateway, unless the network lets it reach nothing else";
            findings.warning("GW0007", written.span(), message, None);
            let addresses = written.into_inner().into_iter();
            addresses.filter_map(|text| findings.parse(text)).collect()
        }
        (SteeringMode::Dns, written) => {
            let span = written.map_or(0..0, |written| written.span());
            let message = "DNS answers are to lead to the proxy, but its addresses are not named";
            let help = "name one of each family: addresses = [\"192.0.2.1\", \"2001:db8::1\"]";
            findings.error("GW0004", span, message, Some(help));
            Vec::new()
        }
        (SteeringMode::Tproxy | SteeringMode::Redirect | SteeringMode::None, Some(written)) => {
            let message = "`addresses` are for steering by DNS answers alone";
            findings.error("GW0002", written.span(), message, Some("mode = \"dns\""));
            Vec::new()
        }
        (SteeringMode::Tproxy | SteeringMode::Redirect | SteeringMode::None, None) => Vec::new(),
    }
}

fn yes() -> bool {
    true
}

/// "po" as a number: far from the marks and tables that examples of other programs use.
fn default_mark() -> u32 {
    0x706f
}

/// Characters in a node name.
const NODE_MAX: usize = 63;
/// One of how many allows the decision log keeps.
const ALLOW_SAMPLE: u32 = 100;
/// The longest time any knob takes.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
