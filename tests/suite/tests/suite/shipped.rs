//! What is shipped beside the code: sample files, documents, scripts, the shape of the repository.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    repository::{fenced, files, text, top},
    tool::{checker, finish, postern, succeed},
};

#[test]
fn sample_configuration_has_no_error() {
    let samples = files("deploy/config");
    assert!(samples.len() >= 2, "{samples:?}");
    for sample in samples {
        succeed(postern().arg("check").arg(top().join(&sample)));
    }
}

#[test]
fn policies_in_documents_have_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for document in ["README.md", "deploy/README.md"] {
        for (number, policy) in fenced(&text(document), "toml policy").iter().enumerate() {
            let path = folder.path().join(format!("{}-{number}.toml", document.replace('/', "-")));
            fs::write(&path, policy).unwrap();
            succeed(postern().args(["check", "--fail-on", "error"]).arg(&path));
            checked += 1;
        }
    }
    assert!(checked > 0, "the README shows no policy");
}

#[test]
fn commands_in_the_readme_answer_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let policies = fenced(&text("README.md"), "toml policy");
    fs::write(folder.path().join("garden.toml"), &policies[0]).unwrap();
    let mut answered = 0;
    for block in fenced(&text("README.md"), "console") {
        let mut lines = block.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(arguments) = line.strip_prefix("$ postern ") else { continue };
            let shown: Vec<&str> =
                std::iter::from_fn(|| lines.next_if(|line| !line.starts_with("$ "))).collect();
            let (code, said) =
                finish(postern().args(arguments.split_whitespace()).current_dir(folder.path()));
            assert!(code < 2, "`postern {arguments}` ended with {code}:\n{said}");
            for line in shown {
                assert!(
                    said.contains(line.trim()),
                    "`postern {arguments}` says\n{said}\nnot\n{line}"
                );
            }
            answered += 1;
        }
    }
    assert!(answered > 0, "the README shows no command");
}

#[test]
fn links_in_documents_lead_somewhere() {
    for document in files("").iter().filter(|path| has_extension(path, "md")) {
        let folder = top().join(document.parent().unwrap());
        for link in links(&text(document.to_str().unwrap())) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{}: {link}", document.display());
            }
        }
    }
}

#[test]
fn steering_of_a_stopped_gateway_loads() {
    let Some(mut nft) = checker("nft") else { return };
    succeed(nft.arg("--check").arg("--file").arg(top().join("deploy/nftables/shut.nft")));
}

#[test]
fn scripts_are_executable_and_parse() {
    let mut checked = BTreeSet::new();
    for path in files("") {
        let Ok(script) = fs::read_to_string(top().join(&path)) else { continue };
        let executable = fs::metadata(top().join(&path)).unwrap().permissions().mode() & 0o111 != 0;
        let (shebang, _) = script.split_once('\n').unwrap_or((&script, ""));
        let (shell, script) = (shebang.ends_with("sh"), script.starts_with("#!"));
        assert_eq!(
            script,
            executable,
            "{}: a script is executable, the rest is not",
            path.display()
        );
        if script && shell || has_extension(&path, "sh") {
            succeed(Command::new("bash").arg("-n").arg(top().join(&path)));
            checked.insert(path);
        }
    }
    for expected in
        [".ci/run", "deploy/lab/run", "deploy/lab/setup.sh", "tests/run", "tests/in-namespaces"]
    {
        assert!(checked.contains(Path::new(expected)), "{expected}");
    }
}

#[test]
fn top_folder_holds_what_the_map_names() {
    let agreed = [
        ".ci",
        ".clippy.toml",
        ".deny.toml",
        ".git",
        ".gitignore",
        ".rustfmt.toml",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "deploy",
        "dns",
        "gateway",
        "policy",
        "target",
        "tests",
    ];
    assert_holds_only("", &agreed);
    assert_holds_only("tests", &["bench", "data", "fuzz", "in-namespaces", "lab", "run", "suite"]);
    let readme = text("README.md");
    for folder in ["policy/", "dns/", "gateway/", "tests/lab/", "tests/suite/", "deploy/"] {
        assert!(readme.contains(folder), "the map in README.md leaves out {folder}");
    }
}

#[test]
fn no_file_names_the_place_it_was_made_in() {
    // Put together here, so that this file does not name them either.
    let places = [["/wo", "rk/"].concat(), ["/ho", "me/"].concat(), ["resea", "rch/"].concat()];
    for path in files("") {
        let Ok(text) = fs::read_to_string(top().join(&path)) else { continue };
        for place in &places {
            assert!(!text.contains(place.as_str()), "{} names {place}", path.display());
        }
    }
}

#[track_caller]
fn assert_holds_only(folder: &str, agreed: &[&str]) {
    for entry in fs::read_dir(top().join(folder)).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(agreed.iter().any(|agreed| name == *agreed), "{folder}/{name:?} is not on the map");
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    PathBuf::from(path).extension().is_some_and(|found| found == extension)
}

/// The targets of a Markdown text's links.
fn links(markdown: &str) -> Vec<&str> {
    markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}
