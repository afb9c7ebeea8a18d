//! Ways around the garden, one test each. Every one goes through the real steering and the real
//! gateway, in both families, to servers that would answer; afterwards no decoy may have seen anything.

mod http;
mod ports;
mod tls;
