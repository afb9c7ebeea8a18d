//! Webhooks: signed messages between the operator's systems and this node.
//!
//! One comes in when a SIM's state changes at the operator's; one goes out when it changes here.

pub(crate) mod outbox;
pub(crate) mod seal;
