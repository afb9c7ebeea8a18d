//! The emulated world Postern is shown in: a fake Microsoft, a fake operator, decoys, an upstream
//! resolver and fake SIMs around the real gateway binary.
//!
//! The world knows the gateway only from outside (its two files, its sockets, its admin API) and
//! links none of its crates. It never sends a packet to a network it did not make: everything
//! happens in network namespaces that live and die with one process ([`private`]), or, where those
//! are refused, on the loopback interface.
//!
//! Building a world reports failure as [`WorldError`]. A built world that breaks under the hands of
//! its user (a dead runtime, a poisoned lock) fails by panicking, as a test does.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lab is a test instrument: a broken instrument stops at once"
)]

mod authority;
mod clock;
mod family;
mod front;
mod gateway;
mod hits;
mod journey;
mod metrics;
mod namespace;
mod operator;
mod origin;
mod pgw;
mod places;
pub mod private;
pub mod radius;
mod redis;
mod report;
mod sim;
mod upstream;
mod visit;
mod world;

pub use family::Family;
pub use front::{Format, RunOptions, list, run, up};
pub use gateway::{AdminReply, Gateway, GatewayError, Successor};
pub use hits::HitCount;
pub use http::{Method, StatusCode};
pub use journey::{Journey, Outlook, Step, StepReport, Verdict, find, journeys, perform};
pub use metrics::Metrics;
pub use namespace::Namespace;
pub use operator::Hook;
pub use origin::octets;
pub use pgw::{Attached, Pgw};
pub use places::{LISTED, Place, Role, Row, Schemes, place, places};
pub use redis::Redis;
pub use sim::{Answer, DnsAnswer, Fetch, Held, Outcome, Question, Record, Seen, Sim, Transport};
pub use visit::{VisitError, visit};
pub use world::{Form, Options, World, WorldError};
