//! How findings and explanations are shown: as text for people, as JSON for programs.

mod explanation;

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};
use policy::{Diagnostic, Parts, Severity};
use serde_json::{Value, json};

pub(crate) use explanation::{explanation, explanation_text};

/// A finding for programs, where the text of its document is not at hand.
pub(crate) fn diagnostic(found: &Diagnostic) -> Value {
    let Diagnostic { code, severity, file, span, message, help } = found;
    json!({
        "code": code,
        "severity": severity.label(),
        "file": **file,
        "span": [span.start, span.end],
        "message": message,
        "help": help,
    })
}

/// The texts that findings speak of.
pub(crate) trait Texts {
    /// The text of the file called `file`.
    fn text_of(&self, file: &str) -> &str;
}

impl Texts for str {
    fn text_of(&self, _: &str) -> &str {
        self
    }
}

impl Texts for String {
    fn text_of(&self, _: &str) -> &str {
        self
    }
}

impl Texts for Parts<'_> {
    fn text_of(&self, file: &str) -> &str {
        self.text(file)
    }
}

/// A finding for programs, with line and column in its text, from 1.
pub(crate) fn placed_diagnostic(found: &Diagnostic, texts: &(impl Texts + ?Sized)) -> Value {
    let mut value = diagnostic(found);
    if let Value::Object(value) = &mut value {
        let (line, column) = place(texts.text_of(&found.file), found.span.start);
        value.insert("line".into(), line.into());
        value.insert("column".into(), column.into());
    }
    value
}

/// Line and column of an offset, from 1; columns are characters.
pub(crate) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
    (line, column)
}

/// Findings for people, in the shape rustc gives them.
pub(crate) fn diagnostics(
    found: &[Diagnostic],
    texts: &(impl Texts + ?Sized),
    styled: bool,
) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let mut page = String::new();
    for found in found {
        page.push_str(&renderer.render(&[group(found, texts.text_of(&found.file))]));
        page.push_str("\n\n");
    }
    page
}

/// Writes findings to standard error.
pub(crate) fn diagnostics_to_stderr(found: &[Diagnostic], texts: &(impl Texts + ?Sized)) {
    let styled = io::stderr().is_terminal();
    complain(diagnostics(found, texts, styled).trim_end());
}

/// Writes one line to standard error.
pub(crate) fn complain(line: &str) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes an error with its causes to standard error, on one line.
pub(crate) fn complain_with_causes(error: &dyn Error) {
    complain(&format!("error: {}", with_causes(error)));
}

/// An error with its causes, on one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

fn group<'a>(found: &'a Diagnostic, text: &'a str) -> Group<'a> {
    let level = match found.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(found.message.as_str()).id(found.code);
    let span = found.span.start.min(text.len())..found.span.end.min(text.len());
    // Only the lines it speaks of: the renderer walks through whatever it is given.
    let (line, _) = place(text, span.start);
    let before = text.get(..span.start).and_then(|before| before.rfind('\n'));
    let start = before.map_or(0, |at| at + 1);
    let after = text.get(span.end..).and_then(|after| after.find('\n'));
    let end = after.map_or(text.len(), |at| span.end + at);
    let lines = text.get(start..end).unwrap_or(text);
    let span = span.start - start..span.end - start;
    let snippet = Snippet::source(lines).line_start(line).path(&*found.file);
    let mut group = title.element(snippet.annotation(AnnotationKind::Primary.span(span)));
    if let Some(help) = &found.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_line_caret_code_and_help() {
        let text = "schema = 1\nserial = \"x\"\n";
        let found = Diagnostic {
            code: "PN0001",
            severity: Severity::Error,
            file: "policy.toml".into(),
            span: 20..23,
            message: "expected an integer".into(),
            help: Some("write a number".into()),
        };
        let page = diagnostics(std::slice::from_ref(&found), text, false);
        for part in [
            "error[PN0001]: expected an integer",
            "policy.toml:2:10",
            "^^^",
            "help: write a number",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        let value = placed_diagnostic(&found, text);
        assert_eq!((&value["line"], &value["column"]), (&2.into(), &10.into()));
    }
}
