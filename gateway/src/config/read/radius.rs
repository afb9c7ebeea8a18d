//! The table `[radius]`.

use std::{
    collections::HashSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    super::{ClientConfig, RadiusConfig},
    Findings,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Radius {
    #[serde(default)]
    listen: Vec<Spanned<String>>,
    #[serde(default)]
    coa: Vec<Spanned<String>>,
    clients: Spanned<Vec<Client>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    name: Spanned<String>,
    address: Spanned<String>,
    secret_file: PathBuf,
    #[serde(default)]
    require_message_authenticator: bool,
    #[serde(default)]
    require_event_timestamp: bool,
    stop_without_indicator: Option<Spanned<String>>,
    interim: Option<Spanned<String>>,
    domain: Option<String>,
}

impl Radius {
    pub(super) fn check(self, folder: &Path, findings: &mut Findings) -> RadiusConfig {
        if self.listen.is_empty() && self.coa.is_empty() {
            let message = "RADIUS has no address to listen on";
            findings.error(
                "GW0004",
                self.clients.span(),
                message,
                Some("listen = [\"0.0.0.0:1813\"]"),
            );
        }
        if self.clients.get_ref().is_empty() {
            let message = "nobody may send RADIUS";
            findings.error("GW0004", self.clients.span(), message, Some("name a NAS in clients"));
        }
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        let clients = self.clients.into_inner().into_iter().filter_map(|client| {
            let (name, address) = (client.name.span(), client.address.span());
            let client = client.check(folder, findings)?;
            if !names.insert(client.name.clone()) {
                findings.error("GW0002", name, "two clients have this name", None);
            }
            if !addresses.insert(client.address) {
                findings.error("GW0002", address, "two clients have this address", None);
            }
            Some(client)
        });
        let clients = clients.collect();
        RadiusConfig {
            listen: findings.addresses(self.listen),
            coa: findings.addresses(self.coa),
            clients,
        }
    }
}

impl Client {
    fn check(self, folder: &Path, findings: &mut Findings) -> Option<ClientConfig> {
        let keeps = match self.stop_without_indicator {
            None => false,
            Some(word) => match word.get_ref().as_str() {
                "release" => false,
                "keep" => true,
                _ => {
                    let message = "a Stop without indicator is to `release` or to `keep`";
                    findings.error("GW0002", word.span(), message, None);
                    false
                }
            },
        };
        let lifetime = match self.interim {
            None => INTERIM * INTERIMS,
            Some(text) if text.get_ref() == "none" => {
                let message = "bindings of this client never lapse: a Stop that is lost leaves the \
                               address with its last SIM until another one gets it";
                findings.warning("GW0006", text.span(), message, None);
                0
            }
            Some(text) => {
                let interim = findings
                    .duration(&text)
                    .map_or_else(|| u64::from(INTERIM), |time| time.as_secs());
                u32::try_from(interim.max(1)).unwrap_or(INTERIM) * INTERIMS
            }
        };
        if self.name.get_ref().is_empty() {
            findings.error("GW0002", self.name.span(), "a client's name is empty", None);
        }
        let address: IpAddr = findings.parse(self.address)?;
        Some(ClientConfig {
            name: self.name.into_inner(),
            address: address.to_canonical(),
            secret_file: folder.join(self.secret_file),
            signed: self.require_message_authenticator,
            dated: self.require_event_timestamp,
            keeps_without_indicator: keeps,
            lifetime,
            domain: self.domain,
        })
    }
}

/// Seconds between Interims of a client that does not say.
const INTERIM: u32 = 1800;
/// Interims that may be lost before a binding lapses.
const INTERIMS: u32 = 3;
