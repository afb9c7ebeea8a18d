//! From text to [`Config`], with every finding.

mod dns;
mod proxy;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    node: Spanned<String>,
    environment: Environment,
    policy: PathBuf,
    require_signature: Option<Spanned<Vec<PathBuf>>>,
    last_good: Option<PathBuf>,
    #[serde(default)]
    steering: Option<Spanned<Steering>>,
    dns: dns::Dns,
    proxy: Option<Proxy>,
    admin: Admin,
    radius: Option<Spanned<BTreeMap<String, toml::Value>>>,
    state: Option<Spanned<State>>,
    #[serde(default)]
    log: Log,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    engine: Spanned<String>,
    #[expect(dead_code, reason = "read so that a misspelt key is refused")]
    path: Option<PathBuf>,
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
    let document: Document = match toml::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            findings.error("GW0001", error.span().unwrap_or_default(), error.message(), None);
            return Err(findings.found);
        }
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
            steering,
            dns,
            proxy,
            admin,
            radius,
            state,
            log,
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
        if let Some(radius) = radius {
            findings.warning(
                "GW0003",
                radius.span(),
                "this version reads no accounting: every subscriber is classed by its address",
                Some("remove the table, or keep it for a later version"),
            );
        }
        if let Some(state) = state {
            let engine = state.get_ref().engine.get_ref();
            if !["embedded", "redis"].contains(&engine.as_str()) {
                let message =
                    format!("`{engine}` is not a state engine; `embedded` and `redis` are");
                findings.error("GW0002", state.get_ref().engine.span(), &message, None);
            } else {
                findings.warning(
                    "GW0003",
                    state.span(),
                    "this version keeps no SIM state: every subscriber is classed by its address",
                    Some("remove the table, or keep it for a later version"),
                );
            }
        }
        Config {
            node: node.into_inner(),
            environment,
            policy: folder.join(policy),
            require_signature: keys.into_iter().map(|key| folder.join(key)).collect(),
            last_good: last_good.map(|path| folder.join(path)),
            steering: steering.map_or_else(SteeringConfig::none, |steering| {
                steering.into_inner().check(findings)
            }),
            dns: dns.check(folder, findings),
            proxy: proxy.map(|proxy| proxy.check(findings)),
            admin: admin.check(folder, findings),
            log: log.check(folder, findings),
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
        }
    }
}

impl Steering {
    fn check(self, findings: &mut Findings) -> SteeringConfig {
        let Self { mode, interfaces, install, mark, table } = self;
        let interfaces = findings.interfaces(interfaces);
        if mode != SteeringMode::None && install && interfaces.is_empty() {
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
        SteeringConfig {
            mode,
            interfaces,
            install: install && mode != SteeringMode::None,
            mark,
            table,
        }
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

    fn duration(&mut self, text: &Spanned<String>) -> Option<Duration> {
        let parsed = text
            .get_ref()
            .find(|letter: char| !letter.is_ascii_digit())
            .and_then(|at| text.get_ref().split_at_checked(at))
            .and_then(|(number, unit)| {
                let number: u64 = number.parse().ok()?;
                match unit {
                    "ms" => Some(Duration::from_millis(number)),
                    "s" => Some(Duration::from_secs(number)),
                    "m" => number.checked_mul(60).map(Duration::from_secs),
                    "h" => number.checked_mul(3600).map(Duration::from_secs),
                    _ => None,
                }
            })
            .filter(|time| (Duration::from_millis(1)..=DURATION_MAX).contains(time));
        if parsed.is_none() {
            let message = format!("`{}` is not a time between 1ms and 24h", text.get_ref());
            self.error("GW0002", text.span(), &message, Some("for example \"5s\" or \"250ms\""));
        }
        parsed
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
