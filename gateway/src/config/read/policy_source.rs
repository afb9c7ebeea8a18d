//! The table `[policy_source]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use serde::Deserialize;
use toml::Spanned;

use super::{super::PolicySourceConfig, Findings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicySource {
    url: Spanned<String>,
    ca: Option<PathBuf>,
    interval: Option<Spanned<String>>,
}

impl PolicySource {
    /// `signed` and `kept`: whether signatures are demanded, and the last good policy is kept.
    pub(super) fn check(
        self,
        folder: &Path,
        signed: bool,
        kept: bool,
        findings: &mut Findings,
    ) -> Option<PolicySourceConfig> {
        let span = self.url.span();
        if !signed {
            let message = "policies are pulled, but no signature is demanded";
            let help = "name the public keys: require_signature = [\"release.key.pub\"]";
            findings.error("GW0004", span.clone(), message, Some(help));
        }
        if !kept {
            let message = "policies are pulled, but none is kept for the next start";
            findings.error("GW0004", span.clone(), message, Some("last_good = \"last-good.json\""));
        }
        let interval = self.interval.map_or(Some(INTERVAL), |text| {
            let interval = findings.duration(&text)?;
            if interval < INTERVAL_MIN {
                let message = "the interval is shorter than 1s";
                findings.error("GW0002", text.span(), message, None);
            }
            Some(interval)
        });
        let url: Uri = findings.parse(self.url)?;
        let https = url.scheme() == Some(&Scheme::HTTPS);
        let plain = url.scheme() == Some(&Scheme::HTTP);
        let named = url.authority().is_some_and(|named| !named.as_str().contains('@'));
        if !named || !(https || plain) {
            let message = "this is not http://HOST/PATH or https://HOST/PATH";
            findings.error("GW0002", span.clone(), message, None);
        }
        if https && self.ca.is_none() {
            let message = "https:// needs `ca`, the certificate authority of the source";
            findings.error("GW0004", span, message, Some("ca = \"ca.pem\""));
        }
        let ca = self.ca.filter(|_| https).map(|ca| folder.join(ca));
        Some(PolicySourceConfig { url, ca, interval: interval? })
    }
}

/// Between two pulls.
const INTERVAL: Duration = Duration::from_secs(60);
/// The shortest time between two pulls.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
