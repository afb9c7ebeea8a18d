//! The gateway: proxy, steering, reload, admin and command line around `policy` and `dns`.
//!
//! A subscriber's traffic enters by `steering`, is read by `dns` and `proxy`, judged by the `court`
//! under the snapshot in the `store`, and leaves by our own resolution of the name. `app` is the
//! only place where the parts meet.

mod admin;
mod app;
mod aside;
mod captive;
mod cli;
mod client;
mod clock;
mod config;
mod court;
mod emergency;
mod files;
mod gate;
mod grants;
mod handover;
mod lift;
mod log;
mod places;
mod proxy;
mod radius;
mod reload;
mod replay;
mod report;
mod signature;
#[expect(dead_code, reason = "the admin API and the kernel sets use the rest")]
mod sims;
mod steering;
mod store;
mod webhook;

pub use cli::main;
