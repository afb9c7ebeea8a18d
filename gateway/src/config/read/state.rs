//! The table `[state]`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{
    super::{STALE_MAX, StateConfig, StateEngine},
    Findings,
};
use crate::sims::{
    Bounds, HOME,
    store::redis::{Password, RedisConfig},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    engine: Option<Spanned<String>>,
    path: Option<PathBuf>,
    servers: Option<Spanned<Vec<Spanned<String>>>>,
    sentinel_master: Option<String>,
    password_file: Option<Spanned<PathBuf>>,
    key_prefix: Option<String>,
    stale_max: Option<Spanned<String>>,
    bindings: Option<Spanned<u32>>,
    domain: Option<String>,
    identities: Option<String>,
}

impl State {
    pub(super) fn check(self, folder: &Path, findings: &mut Findings) -> StateConfig {
        let stale_max = self.stale_max.as_ref().and_then(|text| findings.duration(text));
        let bounds = self.bindings.as_ref().map_or_else(Bounds::default, |number| {
            let bindings = usize::try_from(findings.limit(number)).unwrap_or(usize::MAX);
            Bounds { bindings, sims: bindings.saturating_mul(2) }
        });
        let (domain, identities) = (self.domain.clone(), self.identities.clone());
        let file =
            identities.as_deref().filter(|text| *text != "api").map(|path| folder.join(path));
        StateConfig {
            engine: self.engine(folder, findings),
            stale_max: stale_max.unwrap_or(STALE_MAX),
            bounds,
            domain: domain.unwrap_or_else(|| HOME.to_owned()),
            maps_iccid: identities.is_some(),
            identities: file,
        }
    }

    fn engine(self, folder: &Path, findings: &mut Findings) -> Option<StateEngine> {
        let engine = self.engine?;
        match engine.get_ref().as_str() {
            "embedded" => {
                let path = folder.join(self.path.unwrap_or_else(|| PathBuf::from(FILE)));
                Some(StateEngine::Embedded { path })
            }
            "redis" => {
                let servers = self.servers.filter(|servers| !servers.get_ref().is_empty());
                let Some(servers) = servers else {
                    let message = "no state server is named";
                    let help = Some("servers = [\"redis://192.0.2.20:6379\"]");
                    findings.error("GW0004", engine.span(), message, help);
                    return None;
                };
                let servers = servers.into_inner().into_iter().map(|server| {
                    if !server.get_ref().starts_with("redis://") {
                        let message = "a state server is named redis://HOST:PORT";
                        findings.error("GW0002", server.span(), message, None);
                    }
                    server.into_inner()
                });
                let servers = servers.collect();
                let password = self.password_file.and_then(|file| {
                    let read = std::fs::read_to_string(folder.join(file.get_ref()));
                    if read.is_err() {
                        findings.error("GW0002", file.span(), "the file cannot be read", None);
                    }
                    read.ok().map(|text| Password(text.trim().to_owned()))
                });
                Some(StateEngine::Redis(RedisConfig {
                    servers,
                    sentinel_master: self.sentinel_master,
                    password,
                    prefix: self.key_prefix.unwrap_or_else(|| PREFIX.to_owned()),
                }))
            }
            other => {
                let message =
                    format!("`{other}` is not a state engine; `embedded` and `redis` are");
                findings.error("GW0002", engine.span(), &message, None);
                None
            }
        }
    }
}

/// The file of the embedded store where none is named.
const FILE: &str = "state.redb";
/// What keys begin with where nothing is said.
const PREFIX: &str = "postern";
