//! Tables of HTML pages.

use html5gum::{DefaultEmitter, HtmlString, Token, Tokenizer};
use policy::LineIndex;

use super::table::{Row, Table};

/// Every table of the page that lists hosts and protocols.
pub(super) fn tables(page: &str) -> Vec<Table> {
    let lines = LineIndex::new(page);
    let mut emitter = DefaultEmitter::<usize>::new_with_span();
    // Scripts and styles hold text that is none of the page's.
    emitter.naively_switch_states(true);
    let mut reader = Reader::default();
    for token in Tokenizer::new_with_emitter(page, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let line = usize::try_from(lines.line(tag.span.start)).unwrap_or(usize::MAX);
                reader.open(&tag.name, line);
            }
            Token::EndTag(tag) => reader.close(&tag.name),
            Token::String(text) => reader.text(&text),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    reader.tables
}

/// Whether a tag leaves the texts before and behind it one word.
pub(super) fn is_transparent(name: &[u8]) -> bool {
    TRANSPARENT.iter().any(|transparent| transparent.as_bytes() == name)
}

/// Where in a table the page stands. End tags of rows and cells may be left out (HTML, section
/// 13.1.2.4), so that the next one ends them.
#[derive(Debug, Default)]
struct Reader {
    tables: Vec<Table>,
    depth: usize,
    rows: Vec<Row>,
    row: Option<Row>,
    cell: Option<String>,
    /// Inside an element whose text is not shown.
    hidden: bool,
}

impl Reader {
    fn open(&mut self, name: &HtmlString, line: usize) {
        match name.as_slice() {
            b"table" => {
                self.depth += 1;
                // A table within a cell leaves its words there, where they cannot be read as hosts.
                self.between("\n");
            }
            _ if self.depth != 1 => {}
            b"tr" => {
                self.end_row();
                self.row = Some(Row { line, cells: Vec::new() });
            }
            b"td" | b"th" => {
                self.end_cell();
                self.cell = Some(String::new());
            }
            b"script" | b"style" | b"template" => self.hidden = true,
            name if is_transparent(name) => {}
            _ => self.between("\n"),
        }
    }

    fn close(&mut self, name: &HtmlString) {
        match name.as_slice() {
            b"table" => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.end_row();
                    self.tables.extend(Table::new(std::mem::take(&mut self.rows)));
                }
            }
            _ if self.depth != 1 => {}
            b"tr" | b"thead" | b"tbody" | b"tfoot" => self.end_row(),
            b"td" | b"th" => self.end_cell(),
            b"script" | b"style" | b"template" => self.hidden = false,
            name if is_transparent(name) => {}
            _ => self.between("\n"),
        }
    }

    fn text(&mut self, text: &HtmlString) {
        if let Some(cell) = &mut self.cell
            && !self.hidden
        {
            cell.push_str(&String::from_utf8_lossy(text));
        }
    }

    fn between(&mut self, gap: &str) {
        if let Some(cell) = &mut self.cell {
            cell.push_str(gap);
        }
    }

    fn end_cell(&mut self) {
        if let (Some(cell), Some(row)) = (self.cell.take(), &mut self.row) {
            row.cells.push(cell);
        }
    }

    fn end_row(&mut self) {
        self.end_cell();
        self.rows.extend(self.row.take().filter(|row| !row.cells.is_empty()));
    }
}

/// They mark a part of a text, or give a place where a line may break.
const TRANSPARENT: [&str; 10] = ["a", "b", "strong", "code", "em", "i", "span", "font", "u", "wbr"];
