//! Stories over the whole resolver: real sockets on loopback, a scripted upstream, a judge whose
//! policy can change under way.

mod abuse;
mod answers;
mod denials;
mod encrypted;
mod fast;
mod rates;
mod scripted;
mod upstreams;
mod world;

pub(crate) use scripted::zone;
