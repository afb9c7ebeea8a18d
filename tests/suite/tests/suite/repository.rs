//! The files of the repository, as a fresh clone has them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The top folder.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The text of the file at `path`, relative to the top folder.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file under `folder`, relative to the top folder, in order; without what builds make.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let top = top();
    let mut found = Vec::new();
    let mut folders = vec![top.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
            let entry = entry.unwrap();
            let made = [".git", "target"].iter().any(|name| entry.file_name() == *name);
            match entry.file_type().unwrap() {
                _ if made => {}
                kind if kind.is_dir() => folders.push(entry.path()),
                _ => found.push(entry.path().strip_prefix(&top).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// The fenced blocks of a Markdown text whose opening line is three backquotes and `info`.
pub(crate) fn fenced(markdown: &str, info: &str) -> Vec<String> {
    let opening = format!("```{info}");
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line == opening {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}
