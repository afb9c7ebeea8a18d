//! Names, host sets, classes and verdicts of a walled garden.
//!
//! This crate is pure: it opens no file and no socket, reads no clock, takes no lock and writes no
//! log. Text goes in, a [`Policy`] or every [`Diagnostic`] comes out; a policy, a subject, a
//! request and a time go in, a [`Decision`] comes out.

pub mod builtin;
mod class;
mod compile;
mod decide;
mod diagnostic;
mod host;
mod policy;
mod reason;
mod record;
mod rule;
mod sim;

pub use class::{Action, Class, ClassMatch, Limits, Ncsi, Subscriber};
pub use compile::{Compiled, Source, compile};
pub use decide::{Decision, Request, Subject, Verdict, decide};
pub use diagnostic::{Diagnostic, Severity};
pub use host::{
    HostName, HostPattern, HostTable, InvalidHostName, InvalidHostPattern, PatternKind,
};
pub use policy::{
    DnsDenial, DnsTerms, Environment, HttpDenial, HttpTerms, LabTerms, Policy, Sha256, Snapshot,
};
pub use reason::Reason;
pub use record::Record;
pub use rule::{Place, Rule, Scheme};
pub use sim::{Iccid, Identity, IdentityRange, Imsi, InvalidIdentity, Msisdn, SimState};
