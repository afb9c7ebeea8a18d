//! The gateway: proxy, steering, reload, admin and command line around `policy` and `dns`.
//!
//! A subscriber's traffic enters by `steering`, is read by `dns` and `proxy`, judged by the `court`
//! under the snapshot in the `store`, and leaves by our own resolution of the name. `app` is the
//! only place where the parts meet.

mod admin;
mod app;
mod cli;
mod client;
mod clock;
mod config;
mod court;
mod files;
mod handover;
mod log;
mod proxy;
mod reload;
mod replay;
mod report;
mod signature;
#[expect(dead_code, unused_imports, reason = "RADIUS, the stores and the admin API use the rest")]
mod sims;
mod steering;
mod store;

pub use cli::main;
