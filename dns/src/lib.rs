//! The resolver that answers by verdict.
//!
//! A question is read by [`wire`], judged by [`policy::decide`], turned into a plan by `plan` and
//! `special`, and, if the name is listed, resolved by the operator's own upstreams and screened.
//! `wire`, `plan`, `special`, `site`, `reverse`, `nat64`, `dns64`, `screen`, `packets`, `rates` and
//! [`address`] are pure; sockets, clocks and locks are in
//! the rest. A denied question never reaches an upstream, and no answer to it is ever stored.

pub mod address;
mod bind;
mod cache;
mod cookies;
mod dns64;
mod encrypted;
mod inherited;
mod limits;
mod metrics;
mod nat64;
mod packets;
mod plan;
mod rates;
mod recent;
mod resolver;
mod respond;
mod reverse;
mod screen;
mod server;
mod site;
mod sources;
mod special;
mod stream;
mod transparent;
mod udp;
mod upstream;
pub mod wire;

pub use bind::BindError;
pub use cookies::{CookieSecrets, InvalidCookieSecrets};
pub use encrypted::{Encrypted, Identity, InvalidIdentity};
pub use inherited::Inherited;
pub use limits::Limits;
pub use metrics::Metrics;
pub use nat64::{InvalidNat64, Nat64};
pub use resolver::{ResolveError, Resolver};
pub use respond::Judge;
pub use screen::BadAnswer;
pub use server::{Server, Settings};
pub use transparent::make_transparent;
pub use upstream::{InvalidTrust, InvalidUpstream, Trust, Upstream, UpstreamError};

#[cfg(test)]
mod tests;
