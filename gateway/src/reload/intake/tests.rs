use super::*;
use crate::signature::{Manifest, PrivateKey};

const POLICY: &str = "\
schema        = 1
name          = \"example\"
serial        = 7
environment   = \"lab\"
default_class = \"unprovisioned\"
include       = [\"one.toml\", \"two.toml\"]
[[class]]
name     = \"unprovisioned\"
priority = 100
action   = \"garden\"
hostsets = [\"one\", \"two\"]
";

struct Desk {
    folder: tempfile::TempDir,
    key: PrivateKey,
    intake: Intake,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate().unwrap();
        let intake = Intake {
            path: folder.path().join("policy.toml"),
            environment: Environment::Lab,
            maps_iccid: false,
            quic: Quic::Reject,
            keys: vec![key.public()],
            last_good: Some(folder.path().join("last-good.json")),
        };
        let desk = Self { folder, key, intake };
        desk.write("policy.toml", POLICY);
        desk.write("one.toml", &hostset("one", "http"));
        desk.write("two.toml", &hostset("two", "https"));
        desk
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Signs what lies there.
    fn sign(&self, key: &PrivateKey) {
        let read = |name| std::fs::read(self.folder.path().join(name)).unwrap();
        let texts = ["policy.toml", "one.toml", "two.toml"].map(read);
        let manifest = Manifest::of(texts.iter().map(Vec::as_slice));
        self.write("policy.toml.sig", &key.sign(&manifest).to_string());
    }

    async fn read(&self) -> Result<Candidate, &'static str> {
        self.intake.read().await.map_err(|error| error.label())
    }

    async fn restore(&self) -> Result<Option<Candidate>, &'static str> {
        self.intake.restore().await.map_err(|error| error.label())
    }
}

fn hostset(name: &str, scheme: &str) -> String {
    format!(
        "[[hostset]]\nname = \"{name}\"\n[[hostset.host]]\nmatch = \"{name}.example.com\"\n\
         schemes = [\"{scheme}\"]\n"
    )
}

#[tokio::test]
async fn a_policy_without_a_trusted_signature_is_refused() {
    let desk = Desk::new();
    assert_eq!(desk.read().await.err(), Some("unsigned"));
    desk.sign(&PrivateKey::generate().unwrap());
    assert_eq!(desk.read().await.err(), Some("bad-signature"));
    desk.sign(&desk.key);
    assert_eq!(desk.read().await.map(|found| found.compiled.policy.serial()), Ok(7));
    desk.write("policy.toml.sig", "nonsense");
    assert_eq!(desk.read().await.err(), Some("bad-signature"));
    let open = Intake { keys: Vec::new(), ..desk.intake.clone() };
    assert_eq!(open.read().await.ok().map(|found| found.trust), Some(Trust::NotAsked));
}

#[tokio::test]
async fn a_class_by_iccid_needs_a_mapping() {
    let desk = Desk::new();
    let class = "match = [{ iccid = [\"8988247000100000000-8988247000199999999\"] }]\n";
    desk.write("policy.toml", &format!("{POLICY}{class}"));
    let unsigned = Intake { keys: Vec::new(), ..desk.intake.clone() };
    let label = |error: ReloadError| error.label();
    assert_eq!(unsigned.read().await.err().map(label), Some("no-mapping"));
    let mapped = Intake { maps_iccid: true, ..unsigned };
    assert!(mapped.read().await.is_ok());
}

#[tokio::test]
async fn every_included_file_is_signed_too() {
    let desk = Desk::new();
    desk.sign(&desk.key);
    desk.write("two.toml", &hostset("two", "http"));
    assert_eq!(desk.read().await.err(), Some("bad-signature"));
    desk.write("two.toml", &hostset("two", "https"));
    assert!(desk.read().await.is_ok());
    desk.write("one.toml", &hostset("two", "https"));
    desk.write("two.toml", &hostset("one", "http"));
    assert_eq!(desk.read().await.err(), Some("bad-signature"));
}

#[tokio::test]
async fn the_kept_copy_is_verified_and_compiled_again() {
    let desk = Desk::new();
    assert!(matches!(desk.restore().await, Ok(None)));
    desk.sign(&desk.key);
    desk.intake.keep(desk.read().await.ok().unwrap().bundle).await;
    for name in ["policy.toml", "one.toml", "two.toml", "policy.toml.sig"] {
        std::fs::remove_file(desk.folder.path().join(name)).unwrap();
    }
    assert_eq!(desk.read().await.err(), Some("unreadable"));
    let restored = desk.restore().await.unwrap().unwrap().compiled.policy;
    assert_eq!((restored.serial(), restored.rules().len()), (7, 2));

    let path = desk.folder.path().join("last-good.json");
    let kept = std::fs::read_to_string(&path).unwrap();
    let forged = kept.replace("one.example.com", "any.example.com");
    assert_ne!(forged, kept);
    desk.write("last-good.json", &forged);
    assert_eq!(desk.restore().await.err(), Some("bad-signature"));
    // The texts are the signed ones, in their order, but the names they are found by are not.
    let swapped = kept.replace("/one.toml", "/x.toml").replace("/two.toml", "/one.toml");
    desk.write("last-good.json", &swapped.replace("/x.toml", "/two.toml"));
    assert_eq!(desk.restore().await.err(), Some("bad-signature"));
    desk.write("last-good.json", "{");
    assert_eq!(desk.restore().await.err(), Some("unreadable"));

    desk.write("last-good.json", &kept);
    let other = vec![PrivateKey::generate().unwrap().public()];
    let rotated = Intake { keys: other, ..desk.intake.clone() };
    assert_eq!(rotated.restore().await.err().map(|error| error.label()), Some("bad-signature"));
    let elsewhere = Intake { environment: Environment::Production, ..desk.intake.clone() };
    assert_eq!(
        elsewhere.restore().await.err().map(|error| error.label()),
        Some("wrong-environment")
    );
}

#[tokio::test]
async fn a_start_needs_the_file_or_the_copy() {
    let desk = Desk::new();
    let check = async |desk: &Desk| desk.intake.check().await.map_err(|error| error.label());
    assert_eq!(check(&desk).await, Err("unsigned"));
    desk.sign(&desk.key);
    assert_eq!(check(&desk).await, Ok(()));
    desk.intake.keep(desk.read().await.ok().unwrap().bundle).await;
    desk.write("policy.toml", "schema = 1");
    assert_eq!(check(&desk).await, Ok(()));
    desk.write("last-good.json", "{");
    assert_eq!(check(&desk).await, Err("bad-signature"));
}
