//! Policies of any size, always the same.

use std::fmt::Write;

/// A policy with one garden of `count` host entries, which `100.64.0.0/10` falls in.
#[must_use]
pub fn document(count: usize) -> String {
    let mut text = String::from(
        "schema = 1\nname = \"bench\"\nserial = 1\nenvironment = \"lab\"\ndefault_class = \"garden\"\n\
         [http]\ndenied = \"close\"\n\
         [[class]]\nname = \"garden\"\npriority = 1\naction = \"garden\"\nhostsets = [\"many\"]\n\
         [[class.match]]\nnetworks = [\"100.64.0.0/10\"]\n\
         [[hostset]]\nname = \"many\"\nsource = \"bench\"\nreviewed = 2026-01-01\n",
    );
    for number in 0..count {
        let entry = written(number);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "[[hostset.host]]\nmatch = \"{entry}\"\nschemes = [\"https\"]");
    }
    text
}

/// The pattern of the entry of this number: one in ten stands for what is below a name, one in ten
/// for that and the name.
#[must_use]
pub fn written(number: usize) -> String {
    match number % 10 {
        0 => format!("*.{}", name(number)),
        1 => format!(".{}", name(number)),
        _ => name(number),
    }
}

/// The name in that pattern.
#[must_use]
pub fn name(number: usize) -> String {
    let top = ["com", "net", "org", "example", "io"].get(number % 5).copied().unwrap_or("com");
    format!("host-{number}.zone-{}.{top}", number % 977)
}
