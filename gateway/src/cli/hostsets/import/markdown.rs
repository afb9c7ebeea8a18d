//! Tables of Markdown pages (GitHub's flavour).

use std::ops::Range;

use policy::LineIndex;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{
    html::is_transparent,
    table::{Row, Table},
};

/// Every table of the page that lists hosts and protocols.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of which few variants matter")]
pub(super) fn tables(page: &str) -> Vec<Table> {
    let lines = LineIndex::new(page);
    let line = |span: &Range<usize>| usize::try_from(lines.line(span.start)).unwrap_or(usize::MAX);
    let (mut tables, mut rows, mut cells, mut cell) =
        (Vec::new(), Vec::new(), Vec::new(), String::new());
    let mut inside = false;
    for (event, span) in Parser::new_ext(page, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Table(_)) => rows.clear(),
            Event::End(TagEnd::Table) => tables.extend(Table::new(std::mem::take(&mut rows))),
            Event::Start(Tag::TableHead | Tag::TableRow) => cells.clear(),
            Event::End(TagEnd::TableHead | TagEnd::TableRow) => {
                rows.push(Row { line: line(&span), cells: std::mem::take(&mut cells) });
            }
            Event::Start(Tag::TableCell) => (inside, cell) = (true, String::new()),
            Event::End(TagEnd::TableCell) => {
                inside = false;
                cells.push(std::mem::take(&mut cell));
            }
            _ if !inside => {}
            Event::Text(text) | Event::Code(text) => cell.push_str(&text),
            Event::InlineHtml(tag) | Event::Html(tag) => cell.push_str(between(&tag)),
            Event::SoftBreak | Event::HardBreak => cell.push('\n'),
            // Two stars of two hosts look like emphasis, and their loss would widen a pattern.
            Event::Start(Tag::Emphasis) => cell.push_str(mark(page, span.start)),
            Event::End(TagEnd::Emphasis) => cell.push_str(mark(page, span.end.saturating_sub(1))),
            Event::Start(Tag::Strong | Tag::Link { .. })
            | Event::End(TagEnd::Strong | TagEnd::Link) => {}
            // Images, footnotes and the like are not part of a host.
            _ => cell.push(' '),
        }
    }
    tables
}

/// The character that was taken for a mark of emphasis.
fn mark(page: &str, at: usize) -> &str {
    page.get(at..at + 1).unwrap_or(" ")
}

/// What stands for a tag between two texts.
fn between(tag: &str) -> &'static str {
    let name = tag.trim_start_matches(['<', '/']);
    let end = name.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(name.len());
    let name = name.get(..end).unwrap_or_default().to_ascii_lowercase();
    if tag.starts_with("<!--") || is_transparent(name.as_bytes()) { "" } else { "\n" }
}
