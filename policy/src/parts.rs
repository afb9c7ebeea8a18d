//! The files of one document: the first, those it includes, and its lists of SIMs.
//!
//! Nothing is opened here: whoever has files is asked for each, once.

use std::{borrow::Cow, collections::BTreeMap, ops::Range, sync::Arc};

use sha2::{Digest, Sha256 as Hasher};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    code::Code,
    compile::Source,
    diagnostic::Fault,
    document::short,
    limits::{MAX_DEPTH, MAX_DOCUMENT, MAX_FILES},
    policy::{Quic, Sha256},
};

/// A document with all its files, ready to be compiled.
#[derive(Debug)]
pub struct Parts<'a> {
    first: Part<'a>,
    rest: Vec<Part<'a>>,
    /// What went wrong while files were gathered: by file, and by the place that names the other.
    pub(crate) faults: Vec<(usize, Range<usize>, Fault)>,
    /// Which file a list of SIMs is, by the file and offset that name it.
    pub(crate) lists: BTreeMap<(usize, usize), usize>,
    /// What the node it is compiled for does with QUIC.
    pub(crate) quic: Quic,
}

/// One file of a document.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) text: Cow<'a, str>,
    pub(crate) kind: PartKind,
    /// As another file writes its path; empty for the first.
    written: Box<str>,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    /// A policy, or a part of one.
    Document,
    /// Identities of SIMs.
    List,
}

/// A file that a document asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its path, as written.
    pub path: &'a str,
    /// The name of the file that names it, to which the path is relative.
    pub from: &'a str,
    /// Most bytes it may have.
    pub room: usize,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name in diagnostics: usually the path. A file has one name, however it is reached.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Why a file cannot be a part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is none.
    #[error("there is no such file")]
    Absent,
    /// Other files are out of reach: the document is not a file itself.
    #[error("other files cannot be read here")]
    Alone,
    /// It may not be read, or reading failed.
    #[error("it may not be read")]
    Refused,
    /// It is not UTF-8.
    #[error("it is not text")]
    NotText,
    /// With it, the document is too long.
    #[error("with it, the document has more than {MAX_DOCUMENT} bytes")]
    TooLarge,
}

impl<'a> Parts<'a> {
    /// Gathers `source` and every file it names, each by a call of `read`.
    pub fn gather(
        source: &Source<'a>,
        read: &mut dyn FnMut(Wanted<'_>) -> Result<File, Unreadable>,
    ) -> Self {
        let first = Part {
            name: source.name.into(),
            text: source.text.into(),
            kind: PartKind::Document,
            written: "".into(),
        };
        let mut parts = Self {
            first,
            rest: Vec::new(),
            faults: Vec::new(),
            lists: BTreeMap::new(),
            quic: Quic::default(),
        };
        if source.text.len() <= MAX_DOCUMENT {
            parts.follow(0, 1, read);
        }
        parts
    }

    /// A document of one file; files it names are out of reach.
    #[must_use]
    pub fn alone(source: &Source<'a>) -> Self {
        Self::gather(source, &mut |_| Err(Unreadable::Alone))
    }

    /// The same, for a node that treats QUIC so.
    #[must_use]
    pub fn for_node(self, quic: Quic) -> Self {
        Self { quic, ..self }
    }

    /// The same, with its own copy of every text.
    #[must_use]
    pub fn into_owned(self) -> Parts<'static> {
        let Self { first, rest, faults, lists, quic } = self;
        let own = |part: Part<'_>| Part {
            name: part.name,
            text: Cow::Owned(part.text.into_owned()),
            kind: part.kind,
            written: part.written,
        };
        Parts { first: own(first), rest: rest.into_iter().map(own).collect(), faults, lists, quic }
    }

    /// The texts of all files, the first one first.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.all().map(|part| &*part.text)
    }

    /// The text of the file called `name`; that of the first file if there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        let known = self.rest.iter().find(|part| &*part.name == name);
        &known.unwrap_or(&self.first).text
    }

    /// The names of all files, the first one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all().map(|part| &*part.name)
    }

    /// SHA-256 of the text; of the digests of path and text of each file, if there are several.
    pub(crate) fn sha256(&self) -> Sha256 {
        let digest = |text: &str| Hasher::digest(text.as_bytes());
        if self.rest.is_empty() {
            return Sha256(digest(&self.first.text).into());
        }
        let mut all = Hasher::new();
        for part in self.all() {
            all.update(digest(&part.written));
            all.update(digest(&part.text));
        }
        Sha256(all.finalize().into())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Part<'a>> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn part(&self, index: usize) -> &Part<'a> {
        index.checked_sub(1).and_then(|index| self.rest.get(index)).unwrap_or(&self.first)
    }

    /// Reads what the file at `index` names; what it includes is at `depth`.
    fn follow(
        &mut self,
        index: usize,
        depth: usize,
        read: &mut dyn FnMut(Wanted<'_>) -> Result<File, Unreadable>,
    ) {
        for Named { path, span, kind } in named(&self.part(index).text) {
            let known = match kind {
                PartKind::Document if depth > MAX_DEPTH => {
                    Err(format!("files include files {depth} deep; at most {MAX_DEPTH}"))
                }
                PartKind::Document | PartKind::List => self.load(index, &path, kind, read),
            };
            match (known, kind) {
                (Ok(added), PartKind::List) => {
                    self.lists.insert((index, span.start), added);
                }
                (Ok(added), PartKind::Document) => self.follow(added, depth + 1, read),
                (Err(message), _) => {
                    let help = "paths are relative to the file that names them";
                    let fault = Fault::new(Code::UnreadableFile, message).help(help);
                    self.faults.push((index, span, fault));
                }
            }
        }
    }

    /// The number of the file at `path`, read if it was not.
    fn load(
        &mut self,
        from: usize,
        path: &str,
        kind: PartKind,
        read: &mut dyn FnMut(Wanted<'_>) -> Result<File, Unreadable>,
    ) -> Result<usize, String> {
        let shown = short(path);
        if self.rest.len() + 1 >= MAX_FILES {
            return Err(format!("`{shown}` is one file more than the {MAX_FILES} of a document"));
        }
        let used: usize = self.all().map(|part| part.text.len()).sum();
        let room = MAX_DOCUMENT.saturating_sub(used);
        let wanted = Wanted { path, from: &self.part(from).name, room };
        let File { name, text } =
            read(wanted).map_err(|why| format!("cannot read `{shown}`: {why}"))?;
        if text.len() > room {
            return Err(format!("cannot read `{shown}`: {}", Unreadable::TooLarge));
        }
        if let Some(known) = self.all().position(|part| *part.name == *name) {
            return match (kind, self.part(known).kind) {
                // Two classes may share a list.
                (PartKind::List, PartKind::List) => Ok(known),
                (PartKind::Document | PartKind::List, _) => {
                    Err(format!("`{shown}` is a part of this document already"))
                }
            };
        }
        let part = Part { name: name.into(), text: text.into(), kind, written: path.into() };
        self.rest.push(part);
        Ok(self.rest.len())
    }
}

/// A path in a document, and what it leads to.
struct Named {
    path: String,
    span: Range<usize>,
    kind: PartKind,
}

/// Every file that `text` names, in the order in which it names them.
fn named(text: &str) -> Vec<Named> {
    // Most documents are one file, and need not be parsed twice.
    if !text.contains("include") && !text.contains("_file") {
        return Vec::new();
    }
    let (root, _) = DeTable::parse_recoverable(text);
    let root = root.get_ref();
    let mut found: Vec<Named> = items(root.get("include"))
        .filter_map(|value| Named::read(value, PartKind::Document))
        .collect();
    let classes = items(root.get("class")).filter_map(|value| value.get_ref().as_table());
    for class in classes {
        for entry in items(class.get("match")).filter_map(|value| value.get_ref().as_table()) {
            let files = ["iccid_file", "imsi_file"].into_iter().filter_map(|key| entry.get(key));
            found.extend(files.filter_map(|value| Named::read(value, PartKind::List)));
        }
    }
    found.sort_by_key(|named| named.span.start);
    found
}

impl Named {
    fn read(value: &Spanned<DeValue<'_>>, kind: PartKind) -> Option<Self> {
        let path = value.get_ref().as_str().filter(|path| !path.is_empty())?;
        Some(Self { path: path.to_owned(), span: value.span(), kind })
    }
}

fn items<'v, 't>(
    value: Option<&'v Spanned<DeValue<'t>>>,
) -> impl Iterator<Item = &'v Spanned<DeValue<'t>>> {
    value.and_then(|value| value.get_ref().as_array()).into_iter().flat_map(|array| array.iter())
}

#[cfg(test)]
mod tests;
