//! The suite: stories over the emulated world, and checks of everything that is shipped.
//!
//! One binary, so that it is linked once. `tests/run` sets up what it needs.

// Written on each module, so that clippy knows helpers beside tests for what they are.
#[cfg(test)]
mod alerts;
#[cfg(test)]
mod bindings;
#[cfg(test)]
mod blackbox;
#[cfg(test)]
mod bypass;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod dependencies;
#[cfg(test)]
mod desk;
#[cfg(test)]
mod emergency;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod garden;
#[cfg(test)]
mod hello;
#[cfg(test)]
mod hellos;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod model;
#[cfg(test)]
mod node;
#[cfg(test)]
mod pull;
#[cfg(test)]
mod pure;
#[cfg(test)]
mod redirected;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod repository;
#[cfg(test)]
mod resolver;
#[cfg(test)]
mod sarif;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod service;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod signed;
#[cfg(test)]
mod sims;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod start;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod told;
#[cfg(test)]
mod tool;
#[cfg(test)]
mod unsteered;
#[cfg(test)]
mod upgrade;
