//! The document as it was written: a spanned tree with every value read into its type.
//!
//! Reading never stops at a mistake: what cannot be read becomes a finding and is left out here.
//! A tree with errors among its findings is never made into a policy.

mod fields;
mod host;
mod schedule;
mod subscribers;
mod suppression;
mod units;

use ipnet::IpNet;
use jiff::civil::Date;
use toml::{Spanned, de::DeTable};

use std::{net::IpAddr, ops::Range};

use fields::{limit, text};

use crate::{
    class::{Action, Limits, Ncsi, OnDenial},
    code::Code,
    diagnostic::{Fault, Findings},
    host::{HostName, HostPattern},
    limits::{
        MAX_ASSERTS, MAX_CLASS_HOSTSETS, MAX_CLASSES, MAX_FILES, MAX_HOSTS, MAX_HOSTSETS,
        MAX_LAB_ENTRIES, MAX_MATCHES, MAX_NAME, MAX_NETWORKS, MAX_PATH, MAX_SCHEDULES,
        MAX_SUPPRESSIONS, MAX_TARGETS,
    },
    policy::{DnsDenial, Environment, HttpDenial},
    rule::Scheme,
    target::Target,
};

pub(crate) use fields::{Fields, short};
pub(crate) use host::read_hostset;
pub(crate) use schedule::Schedule;
pub(crate) use subscribers::{Identities, Match};
pub(crate) use suppression::Suppression;

/// The text of a policy, read.
#[derive(Debug)]
pub(crate) struct Document<'t> {
    pub(crate) name: Option<Spanned<&'t str>>,
    pub(crate) serial: Option<Spanned<u64>>,
    pub(crate) environment: Option<Spanned<Environment>>,
    pub(crate) default_class: Option<Spanned<&'t str>>,
    pub(crate) dns: Dns,
    pub(crate) http: Http<'t>,
    pub(crate) hostsets: Vec<HostSet<'t>>,
    pub(crate) classes: Vec<Class<'t>>,
    pub(crate) schedules: Vec<Schedule<'t>>,
    pub(crate) asserts: Vec<Assert<'t>>,
    pub(crate) suppressions: Vec<Suppression<'t>>,
    pub(crate) lab: Option<Lab>,
}

#[derive(Debug, Default)]
pub(crate) struct Dns {
    pub(crate) denied: Option<Spanned<DnsDenial>>,
    pub(crate) denied_ttl: Option<Spanned<u32>>,
    pub(crate) max_ttl: Option<Spanned<u32>>,
}

#[derive(Debug, Default)]
pub(crate) struct Http<'t> {
    pub(crate) denied: Option<Spanned<HttpDenial>>,
    pub(crate) portal: Option<Spanned<&'t str>>,
}

#[derive(Debug)]
pub(crate) struct HostSet<'t> {
    pub(crate) name: Option<Spanned<&'t str>>,
    pub(crate) source: Option<Spanned<&'t str>>,
    pub(crate) reviewed: Option<Spanned<Date>>,
    pub(crate) hosts: Vec<Host<'t>>,
}

#[derive(Debug)]
pub(crate) struct Host<'t> {
    /// The text of `match`, if there is one.
    pub(crate) written: Option<Spanned<&'t str>>,
    pub(crate) pattern: Option<HostPattern>,
    /// In order, without repetition.
    pub(crate) schemes: Vec<Scheme>,
    /// In order, without repetition.
    pub(crate) ports: Vec<u16>,
    pub(crate) expires: Option<Spanned<Date>>,
    pub(crate) networks: Vec<IpNet>,
    pub(crate) reason: Option<&'t str>,
}

#[derive(Debug)]
pub(crate) struct Class<'t> {
    pub(crate) span: Range<usize>,
    pub(crate) name: Option<Spanned<&'t str>>,
    pub(crate) priority: Option<Spanned<u32>>,
    pub(crate) action: Option<Spanned<Action>>,
    /// Whether `hostsets` is written, well or badly.
    pub(crate) has_hostsets: bool,
    pub(crate) hostsets: Vec<Spanned<&'t str>>,
    pub(crate) ncsi: Option<Spanned<Ncsi>>,
    pub(crate) on_denial: Option<Spanned<OnDenial>>,
    pub(crate) limits: Limits,
    pub(crate) matches: Vec<Match<'t>>,
}

#[derive(Debug)]
pub(crate) struct Assert<'t> {
    pub(crate) name: Option<&'t str>,
    pub(crate) class: Option<Spanned<&'t str>>,
    pub(crate) allow: Vec<Spanned<Target>>,
    pub(crate) deny: Vec<Spanned<Target>>,
}

#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) span: Range<usize>,
    pub(crate) resolve: Vec<(HostName, Vec<IpAddr>)>,
    pub(crate) ports: Vec<(u16, u16)>,
    pub(crate) networks: Vec<IpNet>,
}

/// The schema this crate reads.
pub(crate) const SCHEMA: u64 = 1;

/// The lists that may stand in every file of a document.
#[derive(Debug)]
struct Lists<'t> {
    hostsets: Vec<HostSet<'t>>,
    classes: Vec<Class<'t>>,
    schedules: Vec<Schedule<'t>>,
    asserts: Vec<Assert<'t>>,
    suppressions: Vec<Suppression<'t>>,
}

impl<'t> Document<'t> {
    /// Reads the parsed text of the first file. `None` if it is written in a schema that is not
    /// known: then nothing else about it is guessed.
    pub(crate) fn read(root: &'t DeTable<'t>, findings: &mut Findings) -> Option<Self> {
        let mut fields = Fields::root("the document", root, 0);
        let schema = fields.require("schema", findings, fields::whole(0, u64::MAX));
        if !knows_schema(schema.as_ref(), findings) {
            return None;
        }
        let name = fields.require("name", findings, name);
        let serial = fields.require("serial", findings, fields::whole(0, MAX_SERIAL));
        let environment = fields.require("environment", findings, environment);
        let default_class = fields.get("default_class", findings, text);
        let dns = fields.table("dns", "[dns]", findings, Dns::read).unwrap_or_default();
        let http = fields.table("http", "[http]", findings, Http::read).unwrap_or_default();
        let lists = Lists::read(&mut fields, findings);
        let lab = fields.table("lab", "[lab]", findings, Lab::read);
        fields.finish(findings);
        let Lists { hostsets, classes, schedules, asserts, suppressions } = lists;
        Some(Self {
            name,
            serial,
            environment,
            default_class,
            dns,
            http,
            hostsets,
            classes,
            schedules,
            asserts,
            suppressions,
            lab,
        })
    }

    /// Adds what an included file says, which begins at `base`.
    pub(crate) fn include(&mut self, root: &'t DeTable<'t>, base: usize, findings: &mut Findings) {
        let mut fields = Fields::root("an included file", root, base);
        let schema = fields.get("schema", findings, fields::whole(0, u64::MAX));
        if !knows_schema(schema.as_ref(), findings) {
            return;
        }
        let lists = Lists::read(&mut fields, findings);
        fields.finish(findings);
        self.hostsets.extend(lists.hostsets);
        self.classes.extend(lists.classes);
        self.schedules.extend(lists.schedules);
        self.asserts.extend(lists.asserts);
        self.suppressions.extend(lists.suppressions);
    }

    /// Holds the sums over all files against their limits.
    pub(crate) fn limit(&self, findings: &mut Findings) {
        let hosts: usize = self.hostsets.iter().map(|set| set.hosts.len()).sum();
        for (count, most, what) in [
            (hosts, MAX_HOSTS, "host entries"),
            (self.hostsets.len(), MAX_HOSTSETS, "host sets"),
            (self.classes.len(), MAX_CLASSES, "classes"),
            (self.schedules.len(), MAX_SCHEDULES, "schedules"),
            (self.asserts.len(), MAX_ASSERTS, "asserts"),
            (self.suppressions.len(), MAX_SUPPRESSIONS, "allowed findings"),
        ] {
            limit(count, most, what, 0..0, findings);
        }
    }
}

/// A file that says no schema is read as its document's.
fn knows_schema(schema: Option<&Spanned<u64>>, findings: &mut Findings) -> bool {
    let Some(schema) = schema.filter(|schema| *schema.get_ref() != SCHEMA) else { return true };
    let message = format!("schema {} is not known; this is {SCHEMA}", schema.get_ref());
    let fault = Fault::new(Code::UnknownSchema, message);
    findings.add(schema.span(), fault.help("use a release of this program that knows the schema"));
    false
}

impl<'t> Lists<'t> {
    fn read(fields: &mut Fields<'t>, findings: &mut Findings) -> Self {
        // Followed before the document is read; here only its shape is held.
        fields.list("include", MAX_FILES, findings, path);
        Self {
            hostsets: fields.tables("hostset", "[[hostset]]", MAX_HOSTSETS, findings, read_hostset),
            classes: fields.tables("class", "[[class]]", MAX_CLASSES, findings, Class::read),
            schedules: fields.tables(
                "schedule",
                "[[schedule]]",
                MAX_SCHEDULES,
                findings,
                Schedule::read,
            ),
            asserts: fields.tables("assert", "[[assert]]", MAX_ASSERTS, findings, Assert::read),
            suppressions: fields
                .table("lint", "[lint]", findings, |fields, findings| {
                    fields.tables(
                        "allow",
                        "[[lint.allow]]",
                        MAX_SUPPRESSIONS,
                        findings,
                        Suppression::read,
                    )
                })
                .unwrap_or_default(),
        }
    }
}

impl Dns {
    fn read(fields: &mut Fields<'_>, findings: &mut Findings) -> Self {
        Self {
            denied: fields.get("denied", findings, |value| {
                fields::choice(
                    value,
                    &[
                        ("nxdomain", DnsDenial::Nxdomain),
                        ("nodata", DnsDenial::Nodata),
                        ("refused", DnsDenial::Refused),
                        ("sinkhole", DnsDenial::Sinkhole),
                    ],
                )
            }),
            denied_ttl: fields.get("denied_ttl", findings, units::seconds),
            max_ttl: fields.get("max_ttl", findings, units::seconds),
        }
    }
}

impl<'t> Http<'t> {
    fn read(fields: &mut Fields<'t>, findings: &mut Findings) -> Self {
        Self {
            denied: fields.get("denied", findings, |value| {
                fields::choice(
                    value,
                    &[
                        ("redirect", HttpDenial::Redirect),
                        ("511", HttpDenial::NetworkAuthenticationRequired),
                        ("close", HttpDenial::Close),
                    ],
                )
            }),
            portal: fields.get("portal", findings, text),
        }
    }
}

impl<'t> Class<'t> {
    fn read(fields: &mut Fields<'t>, findings: &mut Findings) -> Self {
        Self {
            span: fields.span(),
            name: fields.require("name", findings, class_name),
            priority: fields.require("priority", findings, fields::whole(0, u32::MAX)),
            action: fields.require("action", findings, |value| {
                let all = [Action::Open, Action::Garden, Action::Observe, Action::Drop];
                fields::choice(value, &all.map(|action| (action.label(), action)))
            }),
            has_hostsets: fields.has("hostsets"),
            hostsets: fields.list("hostsets", MAX_CLASS_HOSTSETS, findings, text),
            ncsi: fields.get("ncsi", findings, |value| {
                let all = [Ncsi::Pass, Ncsi::Answer, Ncsi::Deny, Ncsi::Redirect];
                fields::choice(value, &all.map(|mode| (mode.label(), mode)))
            }),
            on_denial: fields.get("on_denial", findings, |value| {
                let all = [OnDenial::Cut, OnDenial::Drain];
                fields::choice(value, &all.map(|way| (way.label(), way)))
            }),
            limits: fields
                .table("limits", "[class.limits]", findings, read_limits)
                .unwrap_or_default(),
            matches: fields.tables(
                "match",
                "[[class.match]]",
                MAX_MATCHES,
                findings,
                subscribers::read_match,
            ),
        }
    }
}

fn read_limits(fields: &mut Fields<'_>, findings: &mut Findings) -> Limits {
    Limits {
        dns_qps: fields
            .get("dns_qps", findings, fields::whole(1, u32::MAX))
            .map(Spanned::into_inner),
        sessions: fields
            .get("sessions", findings, fields::whole(1, u32::MAX))
            .map(Spanned::into_inner),
        sessions_per_second: fields
            .get("sessions_per_second", findings, fields::whole(1, u32::MAX))
            .map(Spanned::into_inner),
        bytes_per_day: fields.get("bytes_per_day", findings, units::bytes).map(Spanned::into_inner),
    }
}

impl<'t> Assert<'t> {
    fn read(fields: &mut Fields<'t>, findings: &mut Findings) -> Self {
        let target = |value: &'t _| {
            Target::parse(text(value)?)
                .map_err(|error| Fault::new(Code::InvalidTarget, error.to_string()).help(TARGETS))
        };
        let assert = Self {
            name: fields.get("name", findings, text).map(Spanned::into_inner),
            class: fields.require("class", findings, text),
            allow: fields.list("allow", MAX_TARGETS, findings, target),
            deny: fields.list("deny", MAX_TARGETS, findings, target),
        };
        if !fields.has("allow") && !fields.has("deny") {
            let message = "the assert promises nothing: neither `allow` nor `deny` is there";
            findings.add(fields.span(), Fault::new(Code::EmptyList, message));
        }
        assert
    }
}

impl Lab {
    fn read(fields: &mut Fields<'_>, findings: &mut Findings) -> Self {
        let span = fields.span();
        Self {
            resolve: fields
                .table("resolve", "lab.resolve", findings, |fields, findings| {
                    let keyed = fields.every(MAX_LAB_ENTRIES, findings, |key| {
                        HostName::parse(key)
                            .map_err(|error| Fault::new(Code::InvalidHost, error.to_string()))
                    });
                    let base = fields.base();
                    keyed
                        .into_iter()
                        .map(|(host, value)| {
                            (host, fields::items(value, base, MAX_NETWORKS, findings, address))
                        })
                        .collect()
                })
                .unwrap_or_default(),
            ports: fields
                .table("ports", "lab.ports", findings, |fields, findings| {
                    let keyed = fields.every(MAX_LAB_ENTRIES, findings, |key| {
                        key.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                            let message = format!("`{key}` is not a port; 1 to 65535 are");
                            Fault::new(Code::OutOfRange, message)
                        })
                    });
                    let read = keyed.into_iter().filter_map(|(asked, value)| {
                        let read = fields::whole(1, u16::MAX)(value.get_ref());
                        let real = read.map_err(|fault| findings.add(value.span(), fault)).ok()?;
                        Some((asked, real))
                    });
                    read.collect()
                })
                .unwrap_or_default(),
            networks: fields
                .list("networks", MAX_NETWORKS, findings, subscribers::network)
                .into_iter()
                .map(Spanned::into_inner)
                .collect(),
            span,
        }
    }
}

fn environment(value: &toml::de::DeValue<'_>) -> Result<Environment, Fault> {
    let all = [Environment::Lab, Environment::Staging, Environment::Production];
    fields::choice(value, &all.map(|environment| (environment.label(), environment)))
}

fn address(value: &toml::de::DeValue<'_>) -> Result<IpAddr, Fault> {
    let text = text(value)?;
    text.parse().map_err(|_| {
        Fault::new(Code::InvalidAddress, format!("`{text}` is not an IPv4 or IPv6 address"))
    })
}

/// The path of another file.
fn path<'t>(value: &'t toml::de::DeValue<'t>) -> Result<&'t str, Fault> {
    let text = text(value)?;
    if text.is_empty() || text.len() > MAX_PATH || text.contains('\0') {
        let message =
            format!("a path has 1 to {MAX_PATH} octets and no NUL; this has {}", text.len());
        return Err(Fault::new(Code::InvalidName, message));
    }
    Ok(text)
}

/// A name that may stand in metrics, reports and other documents.
pub(crate) fn name<'t>(value: &'t toml::de::DeValue<'t>) -> Result<&'t str, Fault> {
    let text = text(value)?;
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(fits) {
        let message = format!(
            "a name has 1 to {MAX_NAME} letters, digits, '-', '_' or '.'; this has {} octets",
            text.len()
        );
        return Err(Fault::new(Code::InvalidName, message));
    }
    Ok(text)
}

fn class_name<'t>(value: &'t toml::de::DeValue<'t>) -> Result<&'t str, Fault> {
    let text = name(value)?;
    if text == NO_CLASS {
        let message = format!("`{NO_CLASS}` stands for no class at all in metrics and logs");
        return Err(Fault::new(Code::InvalidName, message).help("choose another name"));
    }
    Ok(text)
}

/// The largest whole number TOML promises to keep.
const MAX_SERIAL: u64 = i64::MAX.unsigned_abs();
/// The metric label of subscribers without a class.
const NO_CLASS: &str = "none";
/// How targets are written.
const TARGETS: &str = "write https://host[:port], http://host[:port]/path, dns:host[/TYPE], \
                       quic://host[:port] or tcp://host:port";
