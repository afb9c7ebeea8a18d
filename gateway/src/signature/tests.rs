use super::*;

fn manifest(parts: &[&str]) -> Manifest {
    Manifest::of(parts.iter().map(|part| part.as_bytes()))
}

#[test]
fn a_signature_holds_for_its_files_in_their_order_and_nothing_else() {
    let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let signed = manifest(&["policy", "include"]);
    let signature = Signature::parse(&key.sign(&signed).to_string()).unwrap();
    let id = key.public().id();
    let trusted = [other.public(), key.public()];
    assert_eq!(signature.verify(&signed, &trusted), Ok(id));
    let mismatch = Err(InvalidSignature::Mismatch { key: id });
    for parts in [
        &["policy"][..],
        &["include", "policy"],
        &["policy", "include", ""],
        &["policyinclude"],
        &["policy ", "include"],
    ] {
        assert_eq!(signature.verify(&manifest(parts), &trusted), mismatch, "{parts:?}");
    }
    let unknown = Err(InvalidSignature::UnknownKey { key: id });
    assert_eq!(signature.verify(&signed, &[other.public()]), unknown);
    assert_eq!(signature.verify(&signed, &[]), unknown);
}

#[test]
fn another_key_cannot_borrow_a_trusted_name() {
    let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let signed = manifest(&["policy"]);
    let forged = Signature { key: key.public().id(), ..other.sign(&signed) };
    let mismatch = Err(InvalidSignature::Mismatch { key: key.public().id() });
    assert_eq!(forged.verify(&signed, &[key.public()]), mismatch);
}

#[test]
fn every_changed_octet_breaks_a_signature() {
    let key = PrivateKey::generate().unwrap();
    let signed = manifest(&["policy"]);
    let text = key.sign(&signed).to_string();
    for at in 0..text.len() {
        for swap in [b'0', b'1', b'f', b'F', b'\n', b' '] {
            let mut changed = text.clone().into_bytes();
            if std::mem::replace(&mut changed[at], swap) == swap {
                continue;
            }
            let changed = String::from_utf8(changed).unwrap();
            let verified = Signature::parse(&changed)
                .and_then(|signature| signature.verify(&signed, &[key.public()]));
            // A last line without its end is the same line.
            if at + 1 < text.len() {
                assert!(verified.is_err(), "{changed}");
            }
        }
    }
    for cut in 0..text.len() - 1 {
        assert_eq!(Signature::parse(&text[..cut]), Err(InvalidSignature::Malformed));
    }
    assert_eq!(Signature::parse(&format!("{text}more\n")), Err(InvalidSignature::Malformed));
}

#[test]
fn keys_are_written_once_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (private, public) = (folder.path().join("key"), folder.path().join("key.pub"));
    let key = PrivateKey::generate().unwrap();
    key.write(&private).unwrap();
    key.public().write(&public).unwrap();
    let mode = std::fs::metadata(&private).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(PrivateKey::load(&private).unwrap().public(), key.public());
    assert_eq!(PublicKey::load(&public).unwrap(), key.public());

    let before = std::fs::read(&private).unwrap();
    let again = PrivateKey::generate().unwrap().write(&private).unwrap_err();
    assert!(again.to_string().contains("never overwritten"), "{again}");
    assert_eq!(std::fs::read(&private).unwrap(), before);

    assert!(matches!(PublicKey::load(&private), Err(KeyError::Pem { kind: "public", .. })));
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = PrivateKey::load(&private).unwrap_err();
    assert!(exposed.to_string().contains("mode 640"), "{exposed}");
    assert_eq!(format!("{key:?}"), "PrivateKey(…)");
}

#[test]
fn a_key_of_another_tool_is_read() {
    // The keys of RFC 8410 section 10.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let pem = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    write_new(&path, 0o600, pem.as_bytes()).unwrap();
    let public = folder.path().join("key.pub");
    let spki = "-----BEGIN PUBLIC KEY-----\n\
                MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                -----END PUBLIC KEY-----\n";
    write_new(&public, 0o644, spki.as_bytes()).unwrap();
    assert_eq!(PrivateKey::load(&path).unwrap().public(), PublicKey::load(&public).unwrap());
}

#[test]
fn a_huge_key_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 30).unwrap();
    assert!(matches!(PublicKey::load(file.path()), Err(KeyError::Read { .. })));
}
