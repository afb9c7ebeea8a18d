//! The table.

use crate::{
    peers::Kind,
    work::{Figures, Part},
};

/// One column: its head, its decimals, and the figure of a peer.
type Column = (&'static str, usize, fn(&Figures) -> f64);

/// Prints every figure, and ours over each peer's.
pub(crate) fn print(figures: &[(Kind, Figures)], parts: &[Part]) {
    println!("one worker thread each, 101 names, 32 connections in flight; medians of the turns");
    let mut columns: Vec<Column> = Vec::new();
    for part in parts {
        match part {
            Part::Connect => columns.extend([
                (
                    "connect CPU us",
                    1,
                    (|found: &Figures| median(&found.connect)) as fn(&Figures) -> f64,
                ),
                ("p99 ms", 2, |found| median(&found.p99)),
                ("connections/s", 0, |found| median(&found.rate)),
            ]),
            Part::Denied => columns.push(("denied CPU us", 1, |found| median(&found.denied))),
            Part::Bulk => columns.extend([
                (
                    "bulk CPU s/GB",
                    2,
                    (|found: &Figures| median(&found.bulk)) as fn(&Figures) -> f64,
                ),
                ("Gbit/s", 1, |found| median(&found.gigabits)),
            ]),
            Part::Idle => columns.push(("idle octets", 0, |found| median(&found.idle))),
        }
    }
    let head: Vec<String> = columns.iter().map(|(head, ..)| format!("{head:>15}")).collect();
    println!("{:<22}{}", "", head.concat());
    for (kind, found) in figures {
        let row = columns.iter().map(|(_, decimals, figure)| cell(figure(found), *decimals));
        println!("{:<22}{}", kind.name(), row.collect::<String>());
    }
    let Some((_, ours)) = figures.iter().find(|(kind, _)| *kind == Kind::Postern) else { return };
    for (kind, found) in figures.iter().filter(|(kind, _)| *kind != Kind::Postern) {
        let row = columns.iter().map(|(_, _, figure)| cell(figure(ours) / figure(found), 2));
        println!("{:<22}{}", format!("ours / {}", kind.name()), row.collect::<String>());
    }
    if parts.contains(&Part::Idle) {
        let held: Vec<String> =
            figures.iter().map(|(kind, found)| format!("{} {}", kind.name(), found.held)).collect();
        println!("silent connections held: {}", held.join(", "));
    }
}

fn cell(figure: f64, decimals: usize) -> String {
    if figure.is_finite() { format!("{figure:>15.decimals$}") } else { format!("{:>15}", "-") }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    bench::percentile(&sorted, 0.5)
}
