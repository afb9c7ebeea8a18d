//! Pure files: no input or output, no task, no clock, no lock.

use std::path::{Path, PathBuf};

use crate::repository::{files, text};

/// Files and folders that are pure, relative to the top folder.
const PURE: [&str; 26] = [
    "policy/src",
    "dns/src/wire.rs",
    "dns/src/plan.rs",
    "dns/src/rates.rs",
    "dns/src/screen.rs",
    "dns/src/special.rs",
    "gateway/src/proxy/forwarded.rs",
    "gateway/src/proxy/hello.rs",
    "gateway/src/proxy/http/head.rs",
    "gateway/src/proxy/quic/initial.rs",
    "gateway/src/proxy/quic/refusal.rs",
    "gateway/src/proxy/quic/watch.rs",
    "gateway/src/proxy/retry.rs",
    "gateway/src/proxy/outcome.rs",
    "gateway/src/radius/content.rs",
    "gateway/src/radius/packet.rs",
    "gateway/src/sims/claim.rs",
    "gateway/src/sims/identity.rs",
    "gateway/src/sims/ledger.rs",
    "gateway/src/sims/mapping.rs",
    "gateway/src/sims/names.rs",
    "gateway/src/sims/prefix.rs",
    "gateway/src/sims/record.rs",
    "gateway/src/sims/registry.rs",
    "gateway/src/sims/rows.rs",
    "gateway/src/sims/table.rs",
];

/// What none of them may name.
const IMPURE: &str = "tokio async await Instant::now SystemTime Timestamp::now std::fs std::env \
                      TcpStream UdpSocket Mutex RwLock";

/// Iteration order is output in `policy`: a hash map would make it differ from run to run.
const UNORDERED: &str = "HashMap HashSet";

#[test]
fn pure_files_name_nothing_impure() {
    for path in pure() {
        assert_names_none(&path, IMPURE);
    }
}

#[test]
fn policy_has_no_hash_map() {
    for path in files("policy/src").iter().filter(|path| is_code(path)) {
        assert_names_none(path, UNORDERED);
    }
}

#[test]
fn code_is_told_from_comments_and_tests() {
    let source = "//! tokio\nuse std::fs; // Mutex\nlet asynchronous = 1;\n#[cfg(test)]\nmod tests {\n    use tokio;\n}\n";
    let code = code(source);
    assert!(names(&code, "std::fs"));
    for word in ["tokio", "Mutex", "async"] {
        assert!(!names(&code, word), "{word}");
    }
}

/// Every pure file: those listed, and what stands in the folder of the same name.
fn pure() -> Vec<PathBuf> {
    let all: Vec<PathBuf> =
        ["policy/src", "dns/src", "gateway/src"].into_iter().flat_map(files).collect();
    let mut found = Vec::new();
    for listed in PURE {
        let folder = listed.trim_end_matches(".rs");
        let before = found.len();
        found.extend(
            all.iter()
                .filter(|path| path.as_path() == Path::new(listed) || path.starts_with(folder))
                .filter(|path| is_code(path))
                .cloned(),
        );
        assert!(found.len() > before, "{listed} is not there");
    }
    found
}

fn is_code(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
        && !path.iter().any(|part| part == "tests.rs" || part == "tests")
}

#[track_caller]
fn assert_names_none(path: &Path, words: &str) {
    let code = code(&text(path.to_str().unwrap()));
    for word in words.split_whitespace() {
        assert!(!names(&code, word), "{} names {word}", path.display());
    }
}

/// `source` without comments and without the tests at its end.
fn code(source: &str) -> String {
    source
        .split_once("#[cfg(test)]\nmod tests {")
        .map_or(source, |(code, _)| code)
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Whether `word` stands in `code` as a word of its own.
fn names(code: &str, word: &str) -> bool {
    let part_of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(part_of_word) && !code[at + word.len()..].starts_with(part_of_word)
    })
}
