//! Emergency: classes that an operator opens for a while, because the purchase path itself is broken.
//!
//! Each opening has an end, and reaches no further than [`LONGEST`]. They are kept on disk beside
//! the last good policy, so that a restart neither ends one early nor lets it outlive its end.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use policy::{Action, Policy};
use prometheus::{IntGaugeVec, Opts, Registry};
use serde::{Deserialize, Serialize};

use crate::files;

/// A class that is open for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Opening {
    /// The class.
    pub(crate) class: String,
    /// Since when.
    pub(crate) since: Timestamp,
    /// When it ends.
    pub(crate) until: Timestamp,
    /// The operator's words.
    pub(crate) reason: String,
}

/// Why a class is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpeningError {
    /// The time.
    #[error("an emergency of {seconds} s; 1 s to {} s are allowed", LONGEST.as_secs())]
    Time { seconds: u64 },
    /// The words.
    #[error("a reason has 1 to {REASON_MAX} printable characters")]
    Reason,
    /// The policy.
    #[error("the policy in force has no class `{class}`")]
    NoClass { class: String },
    /// The class's action.
    #[error("class `{class}` has action `{action}`; only `garden` and `observe` can be opened")]
    Action { class: String, action: &'static str },
    /// Nothing is in force.
    #[error("no policy is in force")]
    NoPolicy,
    /// The disk.
    #[error("the emergency cannot be kept in {}", path.display())]
    Keep { path: PathBuf, source: io::Error },
    /// The kernel.
    #[error("the kernel cannot be told which addresses are open")]
    Kernel(#[source] crate::reload::ReloadError),
}

/// The classes that are open in an emergency.
#[derive(Debug)]
pub(crate) struct Openings {
    /// Absent: a restart ends every emergency.
    path: Option<PathBuf>,
    open: Mutex<BTreeMap<String, Opening>>,
    gauge: IntGaugeVec,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format_version: u32,
    openings: Vec<Opening>,
}

impl Opening {
    /// Of `class`, for so many seconds from `now`.
    ///
    /// # Errors
    ///
    /// The time or the reason is out of bounds.
    pub(crate) fn new(
        class: String,
        seconds: u64,
        reason: String,
        now: Timestamp,
    ) -> Result<Self, OpeningError> {
        if !(1..=LONGEST.as_secs()).contains(&seconds) {
            return Err(OpeningError::Time { seconds });
        }
        let length = reason.chars().count();
        if reason.trim().is_empty() || length > REASON_MAX || reason.chars().any(char::is_control) {
            return Err(OpeningError::Reason);
        }
        let time = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        let until = now.checked_add(time).map_err(|_| OpeningError::Time { seconds })?;
        Ok(Self { class, since: now, until, reason })
    }

    /// Whether it is in force at `now`. One that claims more than it may is not: somebody else wrote
    /// it, or the clock went back.
    fn holds(&self, now: Timestamp) -> bool {
        now < self.until && self.until.duration_since(now).unsigned_abs() <= LONGEST
    }
}

impl Openings {
    /// What an earlier process left beside the copy of the last good policy. A file that cannot be
    /// read opens nothing.
    pub(crate) fn load(
        last_good: Option<&Path>,
        registry: &Registry,
        now: Timestamp,
    ) -> prometheus::Result<Self> {
        let help = "Whether the class is open in an emergency.";
        let gauge = IntGaugeVec::new(Opts::new(OPEN, help), &["class"])?;
        registry.register(Box::new(gauge.clone()))?;
        let path = last_good.map(|path| path.with_file_name(FILE));
        let kept = path.as_deref().map_or_else(|| Ok(Vec::new()), read).unwrap_or_else(|error| {
            tracing::error!(%error, "the kept emergencies cannot be read: every class stays shut");
            Vec::new()
        });
        let held = kept.into_iter().filter(|opening| opening.holds(now));
        let open = held.map(|opening| (opening.class.clone(), opening)).collect();
        Ok(Self { path, open: Mutex::new(open), gauge })
    }

    /// Every opening, by class.
    pub(crate) fn list(&self) -> Vec<Opening> {
        self.table().values().cloned().collect()
    }

    /// Opens in `policy` what is open.
    pub(crate) fn apply(&self, policy: &mut Policy) {
        let table = self.table();
        policy.open_classes(|class| table.get(class).map(|opening| opening.until));
    }

    /// Tells the metrics which classes of `policy`, which is in force, are open.
    pub(crate) fn show(&self, policy: &Policy) {
        self.gauge.reset();
        for class in policy.classes() {
            let open = class.may_be_opened() && class.action() == Action::Open;
            self.gauge.with_label_values(&[class.name()]).set(i64::from(open));
        }
    }

    /// Adds or replaces the opening of a class; says what was there. Kept when it returns.
    ///
    /// # Errors
    ///
    /// It cannot be kept; nothing is changed.
    pub(crate) fn add(&self, opening: Opening) -> Result<Option<Opening>, OpeningError> {
        self.change(|table| table.insert(opening.class.clone(), opening))
    }

    /// Removes the openings that `which` picks, and returns them. Kept when it returns.
    ///
    /// # Errors
    ///
    /// It cannot be kept; nothing is changed.
    pub(crate) fn remove(
        &self,
        which: impl Fn(&Opening) -> bool,
    ) -> Result<Vec<Opening>, OpeningError> {
        self.change(|table| {
            let removed: Vec<Opening> = table.values().filter(|one| which(one)).cloned().collect();
            table.retain(|_, one| !which(one));
            removed
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Opening>) -> T,
    ) -> Result<T, OpeningError> {
        let mut table = self.table();
        let mut changed = table.clone();
        let result = change(&mut changed);
        if let Some(path) = self.path.as_ref().filter(|_| changed != *table) {
            let openings = changed.values().cloned().collect();
            let kept = serde_json::to_vec(&Kept { format_version: FORMAT, openings });
            kept.map_err(io::Error::from)
                .and_then(|octets| files::replace(path, &octets))
                .map_err(|source| OpeningError::Keep { path: path.clone(), source })?;
        }
        *table = changed;
        Ok(result)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Opening>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> io::Result<Vec<Opening>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut octets = Vec::new();
    file.take(KEPT_MAX).read_to_end(&mut octets)?;
    let Kept { format_version, openings } = serde_json::from_slice(&octets)?;
    if format_version == FORMAT {
        Ok(openings)
    } else {
        let message = format!("format {format_version} is not known");
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

/// The longest an emergency may be; it can be opened again.
pub(crate) const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Characters of a reason.
const REASON_MAX: usize = 200;
/// Where openings are kept, in the folder of the last good policy.
const FILE: &str = "emergency.json";
/// Octets of that file: every class that a policy may have, with its reason.
const KEPT_MAX: u64 = 4 * 1024 * 1024;
/// Of the file.
const FORMAT: u32 = 1;
/// Which classes are open in an emergency.
const OPEN: &str = "postern_emergency_open";

#[cfg(test)]
mod tests {
    use super::*;

    fn openings(folder: &Path, now: &str) -> Openings {
        let last_good = folder.join("last-good.json");
        Openings::load(Some(&last_good), &Registry::new(), now.parse().unwrap()).unwrap()
    }

    fn opening(class: &str, seconds: u64, now: &str) -> Result<Opening, OpeningError> {
        Opening::new(
            class.into(),
            seconds,
            "the payment provider is down".into(),
            now.parse().unwrap(),
        )
    }

    const NOON: &str = "2026-11-26T12:00:00Z";

    #[test]
    fn bounds_of_time_and_reason_hold() {
        for (seconds, fits) in [(0, false), (1, true), (43_200, true), (43_201, false)] {
            assert_eq!(opening("walled", seconds, NOON).is_ok(), fits, "{seconds}");
        }
        for (reason, fits) in [
            ("", false),
            ("  ", false),
            ("two\nlines", false),
            (&"x".repeat(200), true),
            (&"x".repeat(201), false),
        ] {
            let made = Opening::new("walled".into(), 60, reason.into(), NOON.parse().unwrap());
            assert_eq!(made.is_ok(), fits, "{reason}");
        }
    }

    #[test]
    fn what_is_open_outlives_a_restart_and_not_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let first = openings(folder.path(), NOON);
        first.add(opening("walled", 1_800, NOON).unwrap()).unwrap();
        first.add(opening("other", 60, NOON).unwrap()).unwrap();
        let classes = |openings: &Openings| -> Vec<String> {
            openings.list().into_iter().map(|opening| opening.class).collect()
        };
        assert_eq!(classes(&openings(folder.path(), NOON)), ["other", "walled"]);
        assert_eq!(classes(&openings(folder.path(), "2026-11-26T12:29:59Z")), ["walled"]);
        assert!(classes(&openings(folder.path(), "2026-11-26T12:30:00Z")).is_empty());
        // A clock that went back must not make it longer than it may be.
        assert!(classes(&openings(folder.path(), "2026-11-25T00:00:00Z")).is_empty());
        assert_eq!(first.remove(|one| one.class == "walled").unwrap().len(), 1);
        assert_eq!(classes(&openings(folder.path(), NOON)), ["other"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"format_version":2,"openings":[]}"#, "[]"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert!(openings(folder.path(), NOON).list().is_empty(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let openings = openings(&folder.path().join("absent"), NOON);
        let error = openings.add(opening("walled", 60, NOON).unwrap()).unwrap_err();
        assert!(matches!(error, OpeningError::Keep { .. }), "{error}");
        assert!(openings.list().is_empty());
    }
}
