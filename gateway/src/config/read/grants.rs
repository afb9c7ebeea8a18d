//! The table `[grants]`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{super::GrantConfig, Findings};
use crate::grants::GrantLimits;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grants {
    per_hour: Option<Spanned<u32>>,
    per_day: Option<Spanned<u32>>,
    time: Option<Spanned<String>>,
    bytes: Option<Spanned<String>>,
    journal: Option<PathBuf>,
}

impl Grants {
    pub(super) fn check(self, folder: &Path, findings: &mut Findings) -> GrantConfig {
        let Self { per_hour, per_day, time, bytes, journal } = self;
        let default = GrantLimits::default();
        // 0 is a way to say: none at all.
        let count = |given: Option<Spanned<u32>>, otherwise| {
            given.map_or(otherwise, |number| {
                usize::try_from(number.into_inner()).unwrap_or(usize::MAX)
            })
        };
        let time = time.and_then(|text| findings.duration(&text));
        let seconds = time.and_then(|time| u32::try_from(time.as_secs()).ok());
        let limits = GrantLimits {
            per_hour: count(per_hour, default.per_hour),
            per_day: count(per_day, default.per_day),
            seconds: seconds.unwrap_or(default.seconds),
            bytes: bytes.and_then(|text| findings.size(&text)).unwrap_or(default.bytes),
            sims: default.sims,
        };
        GrantConfig { limits, journal: journal.map(|file| folder.join(file)) }
    }
}
