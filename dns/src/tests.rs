//! Stories over the whole resolver: real sockets on loopback, a scripted upstream, a judge whose
//! policy can change under way.

mod abuse;
mod answers;
mod behind;
mod cases;
mod differential;
mod drills;
mod encrypted;
mod fast;
mod lying;
mod proof;
mod rates;
mod screening;
mod scripted;
mod stale;
mod trust;
mod upstreams;
mod world;

pub(crate) use scripted::zone;
