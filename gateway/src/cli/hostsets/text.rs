//! Host sets as text: in the schema of policies, as CSV.

use std::fmt::Write as _;

use policy::Scheme;

/// A host set that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sheet {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) reviewed: Option<jiff::civil::Date>,
    pub(super) rows: Vec<Row>,
}

/// One host entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The pattern as it was printed.
    pub(super) host: String,
    /// The parent of a suffix pattern.
    pub(super) within: Option<String>,
    /// In order, without repetition.
    pub(super) schemes: Vec<Scheme>,
    /// Empty: the default ones.
    pub(super) ports: Vec<u16>,
    pub(super) reason: Option<String>,
}

impl Sheet {
    /// A `[[hostset]]` for a policy, and where in the text each row begins.
    pub(super) fn toml(&self) -> (String, Vec<usize>) {
        let mut text = format!("[[hostset]]\nname     = {}\n", quoted(&self.name));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "source   = {}", quoted(&self.source));
        if let Some(reviewed) = self.reviewed {
            let _ = writeln!(text, "reviewed = {reviewed}");
        }
        let mut starts = Vec::new();
        for row in &self.rows {
            text.push('\n');
            starts.push(text.len());
            row.toml(&mut text);
        }
        (text, starts)
    }

    /// A line for each entry, with a heading (RFC 4180); lists are separated by blanks.
    pub(super) fn csv(&self) -> String {
        let mut text = "match,within,schemes,ports,reason\r\n".to_owned();
        for Row { host, within, schemes, ports, reason } in &self.rows {
            let schemes: Vec<&str> = schemes.iter().map(|scheme| scheme.label()).collect();
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            let fields = [
                host,
                within.as_deref().unwrap_or_default(),
                &schemes.join(" "),
                &ports.join(" "),
                reason.as_deref().unwrap_or_default(),
            ];
            text.push_str(&fields.map(csv_field).join(","));
            text.push_str("\r\n");
        }
        text
    }
}

impl Row {
    fn toml(&self, text: &mut String) {
        let Self { host, within, schemes, ports, reason } = self;
        let _ = writeln!(text, "[[hostset.host]]\nmatch   = {}", quoted(host));
        if let Some(within) = within {
            let _ = writeln!(text, "within  = {}", quoted(within));
        }
        let schemes: Vec<String> = schemes.iter().map(|scheme| quoted(scheme.label())).collect();
        let _ = writeln!(text, "schemes = [{}]", schemes.join(", "));
        if !ports.is_empty() {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            let _ = writeln!(text, "ports   = [{}]", ports.join(", "));
        }
        if let Some(reason) = reason {
            let _ = writeln!(text, "reason  = {}", quoted(reason));
        }
    }
}

/// A basic string: one line, whatever the text holds.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

fn csv_field(text: &str) -> String {
    // A spreadsheet would run these as formulas.
    let formula = text.starts_with(['=', '+', '-', '@', '\t']);
    let guard = if formula { "'" } else { "" };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_quoting() {
        for text in ["plain", "a \"b\" \\ c", "line\nbreak\ttab\u{7f}", "ü €"] {
            let document = format!("text = {}", quoted(text));
            let read: toml::Table = document.parse().unwrap();
            assert_eq!(read["text"].as_str(), Some(text), "{document}");
        }
    }

    #[test]
    fn csv_quotes_what_needs_it_and_runs_nothing() {
        for (text, expected) in [
            ("*.a.example", "*.a.example"),
            ("a, b", "\"a, b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
        ] {
            assert_eq!(csv_field(text), expected);
        }
    }
}
