//! Names, host sets, classes and verdicts of a walled garden.
//!
//! This crate is pure: it opens no file and no socket, reads no clock, takes no lock and writes no
//! log. Text goes in, a [`Policy`] or every [`Diagnostic`] comes out; a policy, a subject, a
//! request and a time go in, a [`Decision`] comes out.
//!
//! ```
//! use policy::{HostName, Request, Source, Subject, Verdict, compile, decide};
//!
//! let text = r#"
//! schema        = 1
//! name          = "example"
//! serial        = 1
//! environment   = "lab"
//! default_class = "unprovisioned"
//!
//! [[hostset]]
//! name = "ours"
//! [[hostset.host]]
//! match   = "portal.example.com"
//! schemes = ["https"]
//!
//! [[class]]
//! name     = "unprovisioned"
//! priority = 100
//! action   = "garden"
//! hostsets = ["builtin:mobile-plans", "ours"]
//! "#;
//! let today = jiff::civil::date(2026, 11, 23);
//! let compiled = compile(&Source { name: "policy.toml", text }, today).expect("no mistakes");
//!
//! let now = jiff::Timestamp::UNIX_EPOCH;
//! let ask = |host: &str| {
//!     let host = &HostName::parse(host).expect("a host name");
//!     let request = Request::Https { host, port: 443 };
//!     decide(&compiled.policy, Subject::Class("unprovisioned"), request, now).verdict()
//! };
//! assert_eq!(ask("portal.example.com"), Verdict::Allow);
//! assert_eq!(ask("nav-edge.smartscreen.microsoft.com"), Verdict::Allow);
//! assert_eq!(ask("www.bing.com"), Verdict::Deny);
//! ```

pub mod builtin;
mod cases;
mod class;
mod code;
mod compile;
mod decide;
mod delta;
mod diagnostic;
mod document;
mod drift;
mod explain;
mod host;
mod layout;
pub mod limits;
mod lines;
mod lint;
mod nearest;
mod parts;
mod policy;
mod probe;
mod reason;
mod record;
mod rule;
mod sim;
mod target;
mod territory;
mod times;

pub use cases::{Case, Coverage, Expectation, Held, read_cases};
pub use class::{Action, Apn, Class, ClassMatch, Limits, Ncsi, OnDenial, Subscriber};
pub use code::Code;
pub use compile::{
    Compiled, Source, compile, compile_parts, compile_parts_unproven, compile_unproven,
};
pub use decide::{Decision, Request, Subject, Verdict, decide, decide_in, decide_nameless};
pub use delta::{
    Access, Change, Channel, ClassDelta, Condition, Cover, Delta, Group, Move, Ports, Presence,
    ReachChange, Region, Scope, Term, Words, delta,
};
pub use diagnostic::{Diagnostic, Severity};
pub use drift::{Drift, DriftRow, InvalidDrift, drift, drift_sets};
pub use explain::{ClassChoice, Explanation, NearMiss, Nearness, Weighed, explain};
pub use host::{
    HostMemory, HostName, HostPattern, HostTable, InvalidHostName, InvalidHostPattern, PatternKind,
    Values,
};
pub use lines::LineIndex;
pub use parts::{File, Parts, Unreadable, Wanted};
pub use policy::{
    DnsDenial, DnsTerms, Environment, HttpDenial, HttpTerms, LabTerms, Policy, Quic, Sha256,
    Snapshot,
};
pub use probe::Probe;
pub use reason::Reason;
pub use record::Record;
pub use rule::{Place, Rule, Scheme, Window};
pub use sim::{Iccid, Identity, IdentityRange, Imsi, InvalidIdentity, Msisdn, SimState};
pub use target::{InvalidTarget, Target};
pub use territory::AddressRange;
