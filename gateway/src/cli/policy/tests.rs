use super::*;

const POLICY: &str = "\
schema        = 1
name          = \"example\"
serial        = 1
environment   = \"lab\"
default_class = \"unprovisioned\"
[[class]]
name     = \"unprovisioned\"
priority = 100
action   = \"garden\"
hostsets = [\"builtin:mobile-plans\"]
";

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(desk.path("policy.toml"), POLICY).unwrap();
        keygen(&desk.path("release.key"), &mut Vec::new()).ok().unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self) -> Result<(), Failure> {
        sign(&self.path("release.key"), &self.path("policy.toml"), &mut Vec::new())
    }

    fn verify(&self, key: &str) -> Result<String, Failure> {
        let mut page = Vec::new();
        let (file, signature) = (self.path("policy.toml"), self.path("policy.toml.sig"));
        verify(&[self.path(key)], &signature, &file, &mut page)?;
        Ok(String::from_utf8(page).unwrap())
    }
}

fn found<T>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Found(line)) => line,
        Err(Failure::Unable(line)) => panic!("could not run: {line}"),
        Ok(_) => panic!("nothing found"),
    }
}

fn unable<T>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Unable(line)) => line,
        Err(Failure::Found(line)) => panic!("found: {line}"),
        Ok(_) => panic!("it ran"),
    }
}

#[test]
fn what_is_signed_verifies_until_an_octet_changes() {
    let desk = Desk::new();
    assert!(found(desk.verify("release.key.pub")).contains("is not signed"));
    desk.sign().ok().unwrap();
    assert!(desk.verify("release.key.pub").ok().unwrap().contains("signed with key "));
    std::fs::write(desk.path("policy.toml"), format!("{POLICY} ")).unwrap();
    assert!(found(desk.verify("release.key.pub")).ends_with("is not over these files"));
    desk.sign().ok().unwrap();
    assert!(desk.verify("release.key.pub").is_ok());
    keygen(&desk.path("other.key"), &mut Vec::new()).ok().unwrap();
    assert!(found(desk.verify("other.key.pub")).ends_with("is not among the trusted ones"));
}

#[test]
fn keys_are_never_overwritten() {
    let desk = Desk::new();
    let before = std::fs::read(desk.path("release.key")).unwrap();
    assert!(
        unable(keygen(&desk.path("release.key"), &mut Vec::new())).contains("never overwritten")
    );
    std::fs::remove_file(desk.path("release.key.pub")).unwrap();
    assert!(
        unable(keygen(&desk.path("release.key"), &mut Vec::new())).contains("never overwritten")
    );
    assert_eq!(std::fs::read(desk.path("release.key")).unwrap(), before);
}

#[test]
fn a_policy_with_errors_is_not_signed() {
    let desk = Desk::new();
    std::fs::write(desk.path("policy.toml"), "schema = 1").unwrap();
    assert!(found(desk.sign()).ends_with("has errors and is not signed"));
    assert!(!desk.path("policy.toml.sig").exists());
}

#[test]
fn a_missing_key_or_file_is_one_clear_line() {
    let desk = Desk::new();
    desk.sign().ok().unwrap();
    let line = unable(desk.verify("nothing.pub"));
    assert!(line.starts_with("error: cannot read the key ") && line.lines().count() == 1, "{line}");
    let line = unable(desk.verify("release.key"));
    assert!(line.ends_with("is not a PEM file with an Ed25519 public key"), "{line}");
    std::fs::remove_file(desk.path("policy.toml")).unwrap();
    assert!(unable(desk.sign()).contains("cannot read"));
}
