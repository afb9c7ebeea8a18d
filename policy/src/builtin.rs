//! The built-in host sets: dated tables of vendors, kept as data files in the schema of policies.
//!
//! A policy names them `builtin:NAME` or `builtin:NAME@DATE`; without a date the newest is meant.
//! `builtin:ts43-entitlement(MCC,MNC)` takes the operator's network codes.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use jiff::civil::Date;
use toml::{Spanned, de::DeTable};

use crate::{
    diagnostic::Findings,
    document::{Fields, read_hostset},
    host::HostPattern,
    layout::Layout,
    lines::LineIndex,
    nearest::suggest,
    rule::{Place, Scheme},
};

/// What policies write in front of the name of a built-in host set.
pub const PREFIX: &str = "builtin:";

/// A host set that comes with the program.
#[derive(Clone, Debug)]
pub struct BuiltinSet {
    name: Box<str>,
    source: Box<str>,
    date: Date,
    entries: Vec<BuiltinEntry>,
}

/// One row of a built-in host set.
#[derive(Clone, Debug)]
pub struct BuiltinEntry {
    printed: Box<str>,
    pattern: HostPattern,
    schemes: Vec<Scheme>,
    ports: Vec<u16>,
    reason: Option<Box<str>>,
    place: Place,
}

/// Why a text names no built-in host set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBuiltin {
    /// No such name.
    #[error("no built-in host set is named `{name}`")]
    Unknown {
        /// The name as written.
        name: Box<str>,
    },
    /// The set is a template and the network codes are missing.
    #[error("`{name}` needs the network codes")]
    NeedsNetwork {
        /// The set's name.
        name: Box<str>,
    },
    /// Network codes behind a set that takes none.
    #[error("`{name}` takes no network codes")]
    TakesNoNetwork {
        /// The set's name.
        name: Box<str>,
    },
    /// The network codes are not three digits, and two or three digits.
    #[error("a mobile country code has 3 digits, a mobile network code 2 or 3")]
    Network,
}

/// Every built-in host set, the dated ones of one name from old to new.
#[must_use]
pub fn all() -> &'static [BuiltinSet] {
    &ALL
}

/// The set called `name`: `mobile-plans`, `mobile-plans@2018-01-05`, `ts43-entitlement(001,01)`.
/// Without network codes a set that needs them shows its template.
///
/// # Errors
///
/// No set has the name, or the network codes are wrong.
pub fn find(name: &str) -> Result<Cow<'static, BuiltinSet>, InvalidBuiltin> {
    let (bare, network) = match name.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        Some((bare, codes)) => (bare, Some(codes)),
        None => (name, None),
    };
    let family = |set: &BuiltinSet| set.name.split('@').next() == Some(bare);
    let set = ALL
        .iter()
        .find(|set| *set.name == *bare)
        .or_else(|| ALL.iter().rfind(|set| family(set)))
        .ok_or_else(|| InvalidBuiltin::Unknown {
            name: crate::document::short(name).to_string().into(),
        })?;
    match (network, set.is_template()) {
        (None, _) => Ok(Cow::Borrowed(set)),
        (Some(_), false) => Err(InvalidBuiltin::TakesNoNetwork { name: set.name.clone() }),
        (Some(codes), true) => set.for_network(codes).map(Cow::Owned),
    }
}

/// As [`find`], but a template without network codes is refused.
pub(crate) fn resolve(name: &str) -> Result<Cow<'static, BuiltinSet>, InvalidBuiltin> {
    let set = find(name)?;
    if set.is_template() {
        return Err(InvalidBuiltin::NeedsNetwork { name: set.name.clone() });
    }
    Ok(set)
}

impl BuiltinSet {
    /// The set's name, with its date if there are several.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who published the table, and where.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// When it was published, or last compared with its source.
    #[must_use]
    pub fn date(&self) -> Date {
        self.date
    }

    /// Its rows, in the order of the source.
    #[must_use]
    pub fn entries(&self) -> &[BuiltinEntry] {
        &self.entries
    }

    /// Whether network codes are needed before the set names a host.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.entries.iter().any(|entry| entry.printed.contains(MCC))
    }

    fn for_network(&self, codes: &str) -> Result<Self, InvalidBuiltin> {
        let (mcc, mnc) = codes.split_once(',').ok_or(InvalidBuiltin::Network)?;
        let (mcc, mnc) = (mcc.trim(), mnc.trim());
        let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
        if mcc.len() != 3 || !(2..=3).contains(&mnc.len()) || !digits(mcc) || !digits(mnc) {
            return Err(InvalidBuiltin::Network);
        }
        let name = format!("{}({mcc},{mnc})", self.name);
        let entries = self.entries.iter().map(|entry| {
            // Two-digit network codes get a leading zero (3GPP TS 23.003 section 13.2).
            let printed = entry.printed.replace(MCC, mcc).replace(MNC, &format!("{mnc:0>3}"));
            let pattern =
                HostPattern::parse(&printed, None).map_err(|_| InvalidBuiltin::Network)?;
            let file = format!("{PREFIX}{name}").into();
            let place = Place { file, ..entry.place.clone() };
            Ok(BuiltinEntry { printed: printed.into(), pattern, place, ..entry.clone() })
        });
        Ok(Self { entries: entries.collect::<Result<_, _>>()?, name: name.into(), ..self.clone() })
    }
}

impl BuiltinEntry {
    /// The host as its source prints it.
    #[must_use]
    pub fn printed(&self) -> &str {
        &self.printed
    }

    /// The host as it is matched.
    #[must_use]
    pub fn pattern(&self) -> &HostPattern {
        &self.pattern
    }

    /// The schemes, in order; never empty.
    #[must_use]
    pub fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    /// The ports, if they are not the default ones.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// What the host is for.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The row of the data file.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl InvalidBuiltin {
    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { name } => {
                let bare: &str = name.split('(').next().unwrap_or(name);
                let names = ALL.iter().map(|set| &*set.name);
                let families = names.clone().filter_map(|name| name.split('@').next());
                let mut known: Vec<&str> = names.chain(families).collect();
                known.sort_unstable();
                known.dedup();
                suggest(bare, known)
            }
            Self::NeedsNetwork { name } => {
                Some(format!("write `{PREFIX}{name}(MCC,MNC)`, such as `{PREFIX}{name}(001,01)`"))
            }
            Self::TakesNoNetwork { name } => Some(format!("write `{PREFIX}{name}`")),
            Self::Network => None,
        }
    }
}

/// Stands for the mobile country code in a template.
const MCC: &str = "MCC";
/// Stands for the mobile network code in a template.
const MNC: &str = "MNC";

static ALL: LazyLock<Vec<BuiltinSet>> =
    LazyLock::new(|| TEXTS.iter().filter_map(|(name, text)| read(name, text)).collect());

/// Reads one data file. A file with a fault gives nothing, so that a policy that names it is
/// refused; the tests read every file.
fn read(name: &str, text: &str) -> Option<BuiltinSet> {
    let root = DeTable::parse(text).ok()?;
    let mut findings = Findings::new(Arc::new(Layout::new(PREFIX.into(), text)));
    let mut fields = Fields::root("a data file", root.get_ref(), 0);
    let sets = fields.tables("hostset", "[[hostset]]", 1, &mut findings, read_hostset);
    fields.finish(&mut findings);
    let set = sets.first().filter(|_| !findings.has_errors())?;
    let family = set.name.as_ref().map(|name| *name.get_ref())?;
    if name.split('@').next() != Some(family) {
        return None;
    }
    let lines = LineIndex::new(text);
    let file: Arc<str> = format!("{PREFIX}{name}").into();
    let entries = set.hosts.iter().map(|host| {
        let written = host.written.as_ref()?;
        let (line, span) = (lines.line(written.span().start), written.span());
        Some(BuiltinEntry {
            printed: (*written.get_ref()).into(),
            pattern: host.pattern.clone()?,
            schemes: host.schemes.clone(),
            ports: host.ports.clone(),
            reason: host.reason.map(Into::into),
            place: Place { file: file.clone(), line, span },
        })
    });
    Some(BuiltinSet {
        entries: entries.collect::<Option<_>>()?,
        source: set.source.as_ref().map(Spanned::get_ref).map(|source| (*source).into())?,
        date: set.reviewed.as_ref().map(|date| *date.get_ref())?,
        name: name.into(),
    })
}

/// Names, dated where there are several tables of one kind, and data files.
const TEXTS: [(&str, &str); 14] = [
    ("mobile-plans@2017-11-13", include_str!("builtin/mobile-plans@2017-11-13.toml")),
    ("mobile-plans@2018-01-05", include_str!("builtin/mobile-plans@2018-01-05.toml")),
    ("mobile-plans@2018-11-02", include_str!("builtin/mobile-plans@2018-11-02.toml")),
    ("mobile-plans@2019-04-03", include_str!("builtin/mobile-plans@2019-04-03.toml")),
    ("mobile-plans@2023-12-12a", include_str!("builtin/mobile-plans@2023-12-12a.toml")),
    ("mobile-plans@2023-12-12", include_str!("builtin/mobile-plans@2023-12-12.toml")),
    ("ms-pki-extra", include_str!("builtin/ms-pki-extra.toml")),
    ("gsma-rsp", include_str!("builtin/gsma-rsp.toml")),
    ("windows-web-esim", include_str!("builtin/windows-web-esim.toml")),
    ("apple-setup", include_str!("builtin/apple-setup.toml")),
    ("apple-carrier", include_str!("builtin/apple-carrier.toml")),
    ("apple-pki", include_str!("builtin/apple-pki.toml")),
    ("android-captive", include_str!("builtin/android-captive.toml")),
    ("ts43-entitlement", include_str!("builtin/ts43-entitlement.toml")),
];

#[cfg(test)]
mod tests;
