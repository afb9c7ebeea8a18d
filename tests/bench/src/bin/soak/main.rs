//! Mixed good and hostile load for as long as wanted, at a share of what the machine can do:
//! `tests/bench/soak` starts it in namespaces of its own. It fails when memory or descriptors grow,
//! when an attempt ends as it should not, and when the gateway counts an outcome that nobody caused.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark measures, prints, and ends where it cannot go on"
)]

mod attempt;
mod client;
mod conduct;
mod pace;
mod watch;

use std::{env, net::SocketAddr, process::ExitCode, time::Duration};

use bench::{garden, load, origin};

use pace::Pace;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    match words.as_slice() {
        ["origin", on] => runtime.block_on(origin::serve(address(on))).expect("serve"),
        ["capacity", to] => {
            let run = load::connections(address(to), garden::names(), 20_000, 32, 1024);
            let run = runtime.block_on(run);
            assert!(run.bad == 0, "{} connections failed", run.bad);
            println!("{}", run.good as f64 / run.seconds);
        }
        [word @ ("trial" | "attempts"), to, rate, seconds, seed] => {
            let rate = rate.parse().expect("a number");
            let lasting = Duration::from_secs(seconds.parse().expect("a number"));
            let seed = seed.parse().expect("a number");
            let pace = if *word == "trial" { Pace::whatever(rate) } else { Pace::at_best(rate) };
            runtime.block_on(client::attempts(address(to), pace, lasting, seed));
        }
        [seconds, rest @ ..] if rest.len() <= 2 => {
            let number = |text: Option<&&str>, otherwise: u64| {
                text.map_or(otherwise, |text| text.parse().expect("a whole number"))
            };
            let seconds = seconds.parse().expect("seconds");
            return conduct::conduct(seconds, number(rest.first(), 80), number(rest.get(1), 1));
        }
        _ => {
            println!("usage: tests/bench/soak SECONDS [PERCENT OF CAPACITY] [SEED]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
