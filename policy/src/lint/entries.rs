//! What can be said about one host entry by itself.

use super::{
    Entry,
    data::{DOH_HOSTS, ECH_NAMES, SHARED_CDNS},
    written,
};
use crate::{
    code::Code,
    diagnostic::{Fault, Findings},
    document::{Document, short},
    host::PatternKind,
};

pub(super) fn review(document: &Document<'_>, findings: &mut Findings) {
    for entry in written(document) {
        let faults = [
            wide_suffix(&entry),
            shared_cdn(&entry),
            strangers(&entry),
            ech_name(&entry),
            doh_host(&entry),
            look_alike(&entry),
        ];
        for fault in faults.into_iter().flatten() {
            let fault = fault.of_hostset(entry.hostset).of_pattern(entry.pattern);
            findings.add(entry.span.clone(), fault);
        }
    }
}

fn wide_suffix(entry: &Entry<'_>) -> Option<Fault> {
    let base = entry.pattern.base();
    (entry.pattern.kind() == PatternKind::Suffix).then(|| {
        let message = format!(
            "`{}` is not bound to a label: it matches `{base}`, `a.{base}` and `a{base}` alike",
            entry.pattern
        );
        Fault::new(Code::WideSuffix, message)
            .help(format!("`.{base}` stands for the name and all below it"))
    })
}

fn shared_cdn(entry: &Entry<'_>) -> Option<Fault> {
    let network = SHARED_CDNS.holding(entry.pattern.base())?;
    let message = format!(
        "`{}` belongs to `{network}`, which serves many owners: whoever reaches one may reach others",
        entry.pattern
    );
    Some(
        Fault::new(Code::SharedCdn, message).help(
            "list a name under the owner's own domain; it may lead to the network all the same",
        ),
    )
}

fn strangers(entry: &Entry<'_>) -> Option<Fault> {
    let base = entry.pattern.base();
    match entry.pattern.kind() {
        PatternKind::Exact => return None,
        PatternKind::Below | PatternKind::Both | PatternKind::Suffix => {}
    }
    let suffix = psl::suffix(base.as_str().as_bytes())?;
    let zone = std::str::from_utf8(suffix.as_bytes()).ok()?;
    (suffix.typ() == Some(psl::Type::Private)).then(|| {
        let message =
            format!("`{}` lies below `{zone}`, where strangers can register names", entry.pattern);
        Fault::new(Code::StrangersZone, message).help("list the names one by one")
    })
}

fn ech_name(entry: &Entry<'_>) -> Option<Fault> {
    let name = ECH_NAMES.reached(entry.pattern)?;
    let message = format!(
        "`{}` lets `{name}` through, the outer name of Encrypted Client Hello: every name behind \
         it would pass unseen",
        entry.pattern
    );
    Some(
        Fault::new(Code::EchPublicName, message)
            .help(format!("remove it, or list narrower names (list of {})", ECH_NAMES.reviewed)),
    )
}

fn doh_host(entry: &Entry<'_>) -> Option<Fault> {
    let name = DOH_HOSTS.reached(entry.pattern)?;
    let message = format!(
        "`{}` lets `{name}` through, a public resolver: subscribers could resolve names past the \
         gateway",
        entry.pattern
    );
    Some(
        Fault::new(Code::DohHost, message)
            .help(format!("remove it, or list narrower names (list of {})", DOH_HOSTS.reviewed)),
    )
}

fn look_alike(entry: &Entry<'_>) -> Option<Fault> {
    if entry.written.is_ascii() && !entry.pattern.base().as_str().contains("xn--") {
        return None;
    }
    let labels = entry.written.trim_start_matches(['*', '.']).split('.');
    labels.into_iter().find_map(|label| {
        let shown = if label.is_ascii() {
            let encoded = label.to_ascii_lowercase().starts_with("xn--");
            encoded.then(|| idna::domain_to_unicode(label).0)?
        } else {
            label.to_owned()
        };
        let mut scripts: Vec<Script> = shown.chars().filter_map(Script::of).collect();
        scripts.sort_unstable();
        scripts.dedup();
        let message = match scripts.as_slice() {
            [] => return None,
            [Script::Cyrillic] if shown.chars().all(looks_latin) => format!(
                "every letter of `{}` is Cyrillic and looks like a Latin one: the name is `{}`",
                short(&shown),
                entry.pattern.base()
            ),
            [_] => return None,
            several => format!(
                "`{}` mixes {} letters: the name is `{}`",
                short(&shown),
                several.iter().map(|script| script.label()).collect::<Vec<_>>().join(" and "),
                entry.pattern.base()
            ),
        };
        Some(Fault::new(Code::MixedScripts, message).help("type the name again by hand"))
    })
}

/// Families of letters that are not mixed in one word; East Asian ones are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
    Armenian,
    Hebrew,
    Arabic,
    EastAsian,
    Other,
}

impl Script {
    /// The family of a letter, by blocks of Unicode; `None` for what all families share.
    fn of(letter: char) -> Option<Self> {
        match u32::from(letter) {
            _ if !letter.is_alphabetic() => None,
            0x0000..=0x024f | 0x1e00..=0x1eff | 0x2c60..=0x2c7f | 0xa720..=0xa7ff => {
                Some(Self::Latin)
            }
            0x0370..=0x03ff | 0x1f00..=0x1fff => Some(Self::Greek),
            0x0400..=0x052f | 0x1c80..=0x1c8f | 0x2de0..=0x2dff | 0xa640..=0xa69f => {
                Some(Self::Cyrillic)
            }
            0x0530..=0x058f => Some(Self::Armenian),
            0x0590..=0x05ff => Some(Self::Hebrew),
            0x0600..=0x077f | 0x08a0..=0x08ff => Some(Self::Arabic),
            0x1100..=0x11ff
            | 0x3005..=0x31ff
            | 0x3400..=0x9fff
            | 0xac00..=0xd7ff
            | 0xf900..=0xfaff
            | 0x2_0000..=0x3_ffff => Some(Self::EastAsian),
            _ => Some(Self::Other),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Latin => "Latin",
            Self::Greek => "Greek",
            Self::Cyrillic => "Cyrillic",
            Self::Armenian => "Armenian",
            Self::Hebrew => "Hebrew",
            Self::Arabic => "Arabic",
            Self::EastAsian => "East Asian",
            Self::Other => "other",
        }
    }
}

/// Whether a Cyrillic letter looks like a Latin one (Unicode, confusables.txt).
fn looks_latin(letter: char) -> bool {
    !letter.is_alphabetic() || "асԁеһіјӏорԛѕԝхузьгн".contains(letter)
}
