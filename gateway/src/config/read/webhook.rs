//! The table `[webhook]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    super::{WebhookConfig, WebhookTarget},
    Findings,
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    #[serde(default)]
    key_files: Vec<PathBuf>,
    window: Option<Spanned<String>>,
    #[serde(default)]
    to: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    url: Spanned<String>,
    key_file: PathBuf,
    ca_file: Option<PathBuf>,
}

impl Webhook {
    pub(super) fn check(self, folder: &Path, findings: &mut Findings) -> WebhookConfig {
        let Self { key_files, window, to } = self;
        if to.len() > TARGETS_MAX {
            let message = format!("at most {TARGETS_MAX} systems are told of changes");
            findings.error("GW0002", 0..0, &message, None);
        }
        WebhookConfig {
            key_files: key_files.into_iter().map(|file| folder.join(file)).collect(),
            window: window.and_then(|text| findings.duration(&text)).unwrap_or(WINDOW),
            to: to.into_iter().filter_map(|target| target.check(folder, findings)).collect(),
        }
    }
}

impl Target {
    fn check(self, folder: &Path, findings: &mut Findings) -> Option<WebhookTarget> {
        let Self { url, key_file, ca_file } = self;
        let parsed: Option<http::Uri> = url.get_ref().parse().ok();
        let parts =
            parsed.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?, uri)));
        let Some((scheme @ ("http" | "https"), authority, uri)) = parts else {
            let message = format!("`{}` is not http:// or https://", url.get_ref());
            findings.error("GW0002", url.span(), &message, None);
            return None;
        };
        // The client wants the port named.
        let port = authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        if scheme == "https" && ca_file.is_none() {
            let help = "name the certificate authority of the system: ca_file = \"crm-ca.pem\"";
            findings.error("GW0004", url.span(), "https:// needs ca_file", Some(help));
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Some(WebhookTarget {
            origin: format!("{scheme}://{}:{port}", authority.host()),
            path: path.to_owned(),
            key_file: folder.join(key_file),
            ca_file: ca_file.map(|file| folder.join(file)),
        })
    }
}

/// How far the signed time of a message may lie from ours (Standard Webhooks recommends minutes).
const WINDOW: Duration = Duration::from_secs(300);
/// Systems that are told of changes.
const TARGETS_MAX: usize = 8;
