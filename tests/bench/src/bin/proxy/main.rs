//! The proxy beside haproxy, nginx and sniproxy, in one run: `tests/bench/proxy` starts it in
//! namespaces of its own.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

mod null;
mod peers;
mod report;
mod work;

use std::{env, net::SocketAddr, process::ExitCode};

use bench::{hello::Order, load, origin};

use work::{Figures, Part};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    match words.as_slice() {
        // What the conductor starts in the namespaces.
        ["origin", address] => runtime.block_on(origin::serve(address_of(address))).expect("serve"),
        ["null", address, to] => {
            runtime.block_on(null::serve(address_of(address), address_of(to))).expect("serve");
        }
        ["floor", address] => {
            // A socket is made within a runtime.
            let _inside = runtime.enter();
            null::refuse(address_of(address)).expect("serve");
        }
        ["client", "connect", to, names, count, octets] => {
            let names = names.split(',').map(str::to_owned).collect();
            let (count, octets) = (number(count), number(octets));
            let count = usize::try_from(count).expect("a count");
            let run = load::connections(address_of(to), names, count, IN_FLIGHT, octets);
            let run = runtime.block_on(run);
            println!("{} {} {} {} {}", run.good, run.bad, run.seconds, run.p50, run.p99);
        }
        ["client", "bulk", to, name, streams, octets] => {
            let streams = usize::try_from(number(streams)).expect("a count");
            let run = load::bulk(address_of(to), name, streams, number(octets));
            println!("{}", runtime.block_on(run).expect("every transfer is whole"));
        }
        ["client", "hold", to, names, count] => {
            let names: Vec<String> = names.split(',').map(str::to_owned).collect();
            let count = usize::try_from(number(count)).expect("a count");
            let held = runtime.block_on(load::hold(address_of(to), &names, count));
            println!("{}", held.len());
            // Until the conductor lets go.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        ["client", "once", to, name] => {
            let order = Order { octets: 1 << 20, seed: 1, holds: false };
            let wrong = load::checked(address_of(to), name, order, std::time::Duration::ZERO);
            println!("{}", runtime.block_on(wrong).expect("a transfer"));
        }
        _ => return conduct(&words),
    }
    ExitCode::SUCCESS
}

fn conduct(words: &[&str]) -> ExitCode {
    let mut parts = Vec::new();
    let mut only = Vec::new();
    for word in words {
        match (Part::named(word), peers::Kind::named(word)) {
            (Some(part), _) => parts.push(part),
            (None, Some(kind)) => only.push(kind),
            (None, None) => {
                println!("usage: tests/bench/proxy [connect] [denied] [bulk] [idle] [PEER…]");
                return ExitCode::from(2);
            }
        }
    }
    if parts.is_empty() {
        parts = Part::EACH.to_vec();
    }
    let kinds: Vec<_> = peers::Kind::EACH
        .into_iter()
        .filter(|kind| if only.is_empty() { kind.is_usual() } else { only.contains(kind) })
        .collect();
    let figures: Vec<(peers::Kind, Figures)> = work::measure(&kinds, &parts);
    report::print(&figures, &parts);
    ExitCode::SUCCESS
}

fn address_of(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// Connections a client has open at once.
const IN_FLIGHT: usize = 32;
