//! A table as it stands on a page, whatever it was written in.

/// Text of cells; a line break inside a cell is a line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    host: Column,
    protocol: Column,
    width: usize,
    pub(super) rows: Vec<Row>,
}

/// One row below the heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The line it begins in, from 1.
    pub(super) line: usize,
    pub(super) cells: Vec<String>,
}

/// Place of a column, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Column(usize);

impl Table {
    /// The table, if its first row is a heading with hosts and protocols.
    pub(super) fn new(rows: Vec<Row>) -> Option<Self> {
        let mut rows = rows.into_iter();
        let heading = rows.next()?;
        let (host, protocol) = (find(&heading, &HOST)?, find(&heading, &PROTOCOL)?);
        (host != protocol).then(|| Self {
            host,
            protocol,
            width: heading.cells.len(),
            rows: rows.collect(),
        })
    }

    /// Hosts and protocols of a row.
    pub(super) fn columns<'r>(&self, row: &'r Row) -> Result<(&'r str, &'r str), String> {
        let (count, width) = (row.cells.len(), self.width);
        if count != width {
            return Err(format!("the row has {count} cells, the heading {width}"));
        }
        match (row.cells.get(self.host.0), row.cells.get(self.protocol.0)) {
            (Some(host), Some(protocol)) => Ok((host, protocol)),
            (_, _) => Err(format!("the row has {count} cells")),
        }
    }
}

/// The first column whose heading holds one of `words`.
fn find(heading: &Row, words: &[&str]) -> Option<Column> {
    let holds = |cell: &String| {
        let cell = cell.to_lowercase();
        words.iter().any(|word| cell.contains(word))
    };
    heading.cells.iter().position(holds).map(Column)
}

/// How pages head a column of hosts.
const HOST: [&str; 7] = ["host", "domain", "url", "fqdn", "endpoint", "destination", "address"];
/// How pages head a column of protocols.
const PROTOCOL: [&str; 2] = ["protocol", "scheme"];
