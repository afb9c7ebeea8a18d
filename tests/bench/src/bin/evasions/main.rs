//! The known evasions tried on Postern, haproxy, nginx, sniproxy, sslh and squid, each by the best
//! recipe that is public: `tests/bench/evasions` starts it in namespaces of its own.
//!
//! A cell says what was seen on the wire, by servers that record every octet they are sent.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "a comparison prints, and ends where it cannot go on"
)]

mod client;
mod crafted;
mod programs;
mod rows;
mod scene;

use std::{env, process::ExitCode};

use programs::Program;
use rows::{Cell, ROWS};
use scene::Scene;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let programs: Vec<Program> = Program::EACH
        .into_iter()
        .filter(|program| words.is_empty() || words.iter().any(|word| word == program.name()))
        .collect();
    if programs.is_empty() || (!words.is_empty() && programs.len() != words.len()) {
        println!("usage: tests/bench/evasions [PROGRAM…]");
        return ExitCode::from(2);
    }
    let scene = Scene::set().expect("namespaces; run tests/bench/evasions");
    let mut columns: Vec<Vec<Cell>> = Vec::new();
    for program in &programs {
        println!("{}", program.version());
        let _running = program.start(&scene);
        let tried = ROWS.iter().map(|row| {
            let cell = row.tried(&scene, *program);
            eprintln!("{} {} {}: {cell}", program.name(), row.number, row.what);
            cell
        });
        columns.push(tried.collect());
    }
    println!();
    let names = programs.iter().map(|program| format!("| {} ", program.name()));
    println!("| row | what is tried {}|", names.collect::<String>());
    println!("|---|---{}|", "|---".repeat(programs.len()));
    for (at, row) in ROWS.iter().enumerate() {
        let cells = columns.iter().filter_map(|column| column.get(at));
        let cells: String = cells.map(|cell| format!("| {cell} ")).collect();
        println!("| {} | {} {cells}|", row.number, row.what);
    }
    let ours = programs.iter().position(|program| *program == Program::Postern);
    let ours = ours.and_then(|at| columns.get(at)).into_iter().flatten();
    if ours.zip(ROWS).all(|(cell, row)| row.is_well(*cell)) {
        ExitCode::SUCCESS
    } else {
        println!("\npostern does not hold");
        ExitCode::FAILURE
    }
}
