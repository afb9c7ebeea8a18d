//! Ways around the garden, one test each, named for the row of the table of evasions it belongs to. Every one goes through the real steering and the real
//! gateway, in both families, to servers that would answer; afterwards no decoy may have seen anything.

mod bounds;
mod dialling;
mod explicit;
mod http;
mod ports;
mod quic;
mod shape;
mod slow;
mod tls;
