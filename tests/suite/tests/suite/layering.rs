//! The arrows between the crates: policy <- dns <- gateway, and a lab that knows none of them.

use std::collections::BTreeSet;

use crate::{
    repository::{files, text},
    tool::{cargo, succeed},
};

/// What may stand in a crate's tree.
struct Arrows {
    name: &'static str,
    /// Our own crates it may use.
    ours: &'static str,
    /// Others it must not, by the start of their names.
    banned: &'static str,
}

const CRATES: [Arrows; 4] = [
    Arrows {
        name: "policy",
        ours: "",
        banned: "arc-swap async axum futures hickory http hyper log mio nix notify parking_lot \
                 pingora prometheus rustls socket2 tokio tracing",
    },
    Arrows { name: "dns", ours: "policy", banned: "axum hyper openssl pingora" },
    Arrows { name: "gateway", ours: "dns lab policy", banned: "native-tls openssl-sys" },
    Arrows { name: "lab", ours: "", banned: "axum native-tls openssl-sys pingora" },
];

#[test]
fn crates_use_only_what_is_below_them() {
    for Arrows { name, ours, banned } in &CRATES {
        let tree = tree(name);
        for used in ["policy", "dns", "gateway", "lab", "suite"] {
            assert!(
                used == *name || ours.split(' ').any(|ours| ours == used) || !tree.contains(used),
                "`{name}` uses `{used}`"
            );
        }
        for used in &tree {
            let allowed = !banned.split_whitespace().any(|banned| used.starts_with(banned));
            assert!(allowed, "`{name}` uses `{used}`: cargo tree -p {name} -e normal -i {used}");
        }
    }
}

#[test]
fn tree_is_read_as_cargo_prints_it() {
    let tree = tree("gateway");
    for used in ["gateway", "dns", "policy", "lab", "tokio", "hickory-proto"] {
        assert!(tree.contains(used), "`{used}` is missing");
    }
}

#[test]
fn each_framework_stays_at_its_edge() {
    let edges: [(&str, &[&str]); 2] = [
        ("pingora", &["gateway/src/proxy/http.rs", "gateway/src/proxy/http/"]),
        ("axum", &["gateway/src/admin.rs", "gateway/src/admin/", "gateway/src/captive.rs"]),
    ];
    for path in
        ["policy/src", "dns/src", "gateway/src", "tests/lab/src"].into_iter().flat_map(files)
    {
        let path = path.to_str().unwrap();
        for (framework, allowed) in edges {
            let named = path.ends_with(".rs")
                && text(path).lines().any(|line| {
                    let line = line.trim_start();
                    !line.starts_with("//") && line.contains(&format!("{framework}::"))
                });
            assert!(
                !named || allowed.iter().any(|allowed| path.starts_with(allowed)),
                "{path} names {framework}"
            );
        }
    }
}

/// The names of the crates that `name` is built of, itself included.
fn tree(name: &str) -> BTreeSet<String> {
    succeed(cargo().args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]).args([
        "--package",
        name,
        "--format",
        "{p}",
    ]))
    .lines()
    .filter_map(|line| line.split_whitespace().next())
    .map(str::to_owned)
    .collect()
}
