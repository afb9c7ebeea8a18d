//! Names, host sets, classes and verdicts of a walled garden.
//!
//! This crate is pure: it opens no file and no socket, reads no clock, takes no lock and writes no
//! log. Text goes in, a [`Policy`] or every [`Diagnostic`] comes out; a policy, a subject, a
//! request and a time go in, a [`Decision`] comes out.

pub mod builtin;
mod class;
mod code;
mod compile;
mod decide;
mod diagnostic;
mod document;
mod explain;
mod host;
pub mod limits;
mod lines;
mod nearest;
mod policy;
mod reason;
mod record;
mod rule;
mod sim;
mod target;
mod territory;

pub use class::{Action, Class, ClassMatch, Limits, Ncsi, Subscriber};
pub use code::Code;
pub use compile::{Compiled, Source, compile};
pub use decide::{Decision, Request, Subject, Verdict, decide, decide_nameless};
pub use diagnostic::{Diagnostic, Severity};
pub use explain::{ClassChoice, Explanation, NearMiss, Nearness, Weighed, explain};
pub use host::{
    HostName, HostPattern, HostTable, InvalidHostName, InvalidHostPattern, PatternKind,
};
pub use lines::LineIndex;
pub use policy::{
    DnsDenial, DnsTerms, Environment, HttpDenial, HttpTerms, LabTerms, Policy, Sha256, Snapshot,
};
pub use reason::Reason;
pub use record::Record;
pub use rule::{Place, Rule, Scheme};
pub use sim::{Iccid, Identity, IdentityRange, Imsi, InvalidIdentity, Msisdn, SimState};
pub use target::{InvalidTarget, Target};
pub use territory::AddressRange;
