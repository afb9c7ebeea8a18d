//! Attack tools and browsers against a TLS server, straight and through Postern, in namespaces:
//! `tests/bench/hostile` starts it. Whatever a tool finds must be the same, or the gateway must have
//! refused what the tool sent; nothing may hang.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "a comparison prints, and ends where it cannot go on"
)]

mod stand;
mod tools;

use std::{env, path::PathBuf, process::ExitCode};

use stand::{Server, Stand};
use tools::{Difference, Tool};

fn main() -> ExitCode {
    let mut words = env::args().skip(1);
    let Some(folder) = words.next().map(PathBuf::from) else {
        println!("usage: tests/bench/hostile FOLDER [tlsfuzzer] [tldr] [testssl] [slow] [clients]");
        return ExitCode::from(2);
    };
    let parts: Vec<String> = words.collect();
    let stand = Stand::set().expect("namespaces; run tests/bench/hostile");
    println!("| tool | run | straight | through | same | refused | hangs |");
    println!("|---|---|---|---|---|---|---|");
    let mut is_well = true;
    for server in Server::EACH {
        let _serving = stand.serve(server);
        for tool in Tool::all(&folder).into_iter().filter(|tool| tool.needs() == server) {
            if !parts.is_empty() && !parts.iter().any(|part| part == tool.part()) {
                continue;
            }
            let straight = tool.run(&stand, stand.straight());
            let through = tool.run(&stand, stand.through());
            let difference = Difference::between(&straight, &through);
            println!(
                "| {} | {} | {} | {} | {} | {} | {} |",
                tool.part(),
                tool.title(),
                straight.summary(),
                through.summary(),
                difference.same,
                difference.refused.len(),
                difference.hangs.len()
            );
            for (what, said) in difference.refused.iter().chain(&difference.other) {
                eprintln!("{}: {what}: {said}", tool.title());
            }
            for what in &difference.hangs {
                println!("HANGS: {}: {what}", tool.title());
            }
            for (what, _) in &difference.other {
                println!("DIFFERS: {}: {what}", tool.title());
            }
            is_well &= difference.hangs.is_empty() && difference.other.is_empty();
        }
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
