use std::collections::BTreeMap;

use jiff::civil::date;

use super::*;
use crate::{Compiled, Diagnostic, compile_parts};

const MAIN: &str =
    "schema = 1\nname = \"x\"\nserial = 1\nenvironment = \"lab\"\ndefault_class = \"c\"\n";
const MORE: &str = "[[class]]\nname = \"c\"\npriority = 9\naction = \"drop\"\n";

/// Compiles the first file; the others are found by their names.
fn compiled(files: &[(&str, &str)]) -> Result<Compiled, Vec<Diagnostic>> {
    let known: BTreeMap<&str, &str> = files.iter().copied().collect();
    let source = Source { name: files[0].0, text: files[0].1 };
    let parts = Parts::gather(&source, &mut |wanted| {
        let text = known.get(wanted.path).ok_or(Unreadable::Absent)?;
        Ok(File { name: wanted.path.to_owned(), text: (*text).to_owned() })
    });
    compile_parts(&parts, date(2026, 11, 23))
}

fn found(files: &[(&str, &str)]) -> Vec<(&'static str, String, String)> {
    let found = compiled(files).unwrap_err();
    found.into_iter().map(|it| (it.code, it.file.to_string(), it.message)).collect()
}

#[test]
fn included_files_are_parts_of_the_document() {
    let main = format!("{MAIN}include = [\"b\", \"c\"]\n");
    let set = "[[hostset]]\nname = \"s\"\n[[hostset.host]]\nmatch = \"a.example\"\nschemes = [\"https\"]\n";
    let class = "[[class]]\nname = \"c\"\npriority = 9\naction = \"garden\"\nhostsets = [\"s\"]\n";
    let policy = compiled(&[("a", &main), ("b", set), ("c", class)]).unwrap().policy;
    assert_eq!(policy.rules()[0].place().to_string(), "b:4");
    assert_eq!(policy.class("c").unwrap().place().to_string(), "c:2");
    assert_eq!(&set[policy.rules()[0].place().span.clone()], "\"a.example\"");
    let other = compiled(&[("a", &main), ("b", &format!("{set} ")), ("c", class)]).unwrap().policy;
    assert_ne!(policy.sha256(), other.sha256());
}

#[test]
fn findings_name_the_file_they_are_in() {
    let main = format!("{MAIN}include = [\"b\"]\nodd = 1\n");
    let more = format!("name = \"y\"\n{MORE}colour = 1\n{MORE}");
    assert_eq!(
        found(&[("a", &main), ("b", &more)]),
        [
            ("PN0003", "a".into(), "unknown key `odd` in the document".into()),
            ("PN0003", "b".into(), "unknown key `name` in an included file".into()),
            ("PN0003", "b".into(), "unknown key `colour` in [[class]]".into()),
            ("PN0028", "b".into(), "class `c` is declared in line 3 already".into()),
        ]
    );
    let damaged = format!("{MORE}broken\n");
    let all = found(&[("a", &format!("{MAIN}include = [\"b\"]\n")), ("b", &damaged)]);
    assert_eq!(
        all.iter().map(|(code, file, _)| (*code, &**file)).collect::<Vec<_>>(),
        [("PN0001", "b")]
    );
}

#[test]
fn files_that_cannot_be_parts_are_errors() {
    let main = |names: &str| format!("{MAIN}include = [{names}]\n{MORE}");
    for (files, message) in [
        (vec![("a", main("\"b\""))], "cannot read `b`: there is no such file"),
        (vec![("a", main("\"a\""))], "`a` is a part of this document already"),
        (
            vec![("a", main("\"b\"")), ("b", "include = [\"a\"]".into())],
            "`a` is a part of this document already",
        ),
        (
            vec![("a", main("\"b\", \"b\"")), ("b", String::new())],
            "`b` is a part of this document already",
        ),
        (
            vec![("a", main("\"b\"")), ("b", " ".repeat(MAX_DOCUMENT))],
            "cannot read `b`: with it, the document has more than 16777216 bytes",
        ),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
        let found = found(&files);
        assert_eq!((found[0].0, &*found[0].2), ("PN0038", message));
    }
    let alone = crate::compile(&Source { name: "a", text: &main("\"b\"") }, date(2026, 11, 23));
    assert!(alone.unwrap_err()[0].message.ends_with("other files cannot be read here"));
}

#[test]
fn depth_and_number_of_files_are_bounded() {
    let next = |number: usize| format!("include = [\"f{}\"]\n", number + 1);
    let mut chain = vec![("f0".to_owned(), format!("{MAIN}{}{MORE}", next(0)))];
    chain.extend((1..=MAX_DEPTH + 1).map(|number| (format!("f{number}"), next(number))));
    let files: Vec<(&str, &str)> = chain.iter().map(|(name, text)| (&**name, &**text)).collect();
    let found_deep = found(&files);
    assert_eq!(
        found_deep[0].2,
        format!("files include files {} deep; at most {MAX_DEPTH}", MAX_DEPTH + 1)
    );

    let names: Vec<String> = (0..MAX_FILES).map(|number| format!("f{number}")).collect();
    let list = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let main = format!("{MAIN}include = [{list}]\n{MORE}");
    let mut files: Vec<(&str, &str)> = vec![("main", &main)];
    files.extend(names.iter().map(|name| (&**name, "")));
    let found_many = found(&files);
    assert!(
        found_many[0].2.ends_with("is one file more than the 64 of a document"),
        "{found_many:?}"
    );
}

#[test]
fn lists_of_sims_are_read_and_may_be_shared() {
    let class = |name: &str, priority: u8, rest: &str| {
        format!(
            "[[class]]\nname = \"{name}\"\npriority = {priority}\naction = \"drop\"\nmatch = [{{ {rest} }}]\n"
        )
    };
    let text = format!(
        "{MAIN}{MORE}{}{}",
        class("one", 1, "iccid_file = \"sims\", state = [\"active\"]"),
        class("two", 2, "iccid = [\"8988247000100000500\"], iccid_file = \"sims\"")
    );
    let sims =
        "8988247000100000001\n8988247000100000100-8988247000100000199; 8988247000100000300F\n";
    let policy = compiled(&[("a", &text), ("sims", sims)]).unwrap().policy;
    let of = |digits: &str| {
        use crate::sim::{Iccid, Identity};
        let subscriber = crate::Subscriber::default().with_iccid(Iccid::parse(digits).unwrap());
        policy.class_of(crate::Subject::Subscriber(&subscriber)).unwrap().name().to_owned()
    };
    assert_eq!(
        (of("8988247000100000001"), of("8988247000100000150")),
        ("two".into(), "two".into())
    );
    assert_eq!((of("8988247000100000500"), of("8988247000100000200")), ("two".into(), "c".into()));

    let broken = found(&[("a", &text), ("sims", "8988247000100000001\nnobody\n")]);
    assert_eq!(broken, [("PN0021", "sims".into(), "ICCID may hold digits only".into())]);
    let empty = found(&[("a", &text), ("sims", "# none\n")]);
    assert_eq!(empty[0].0, "PN0017");
    let many: String = (0..=crate::limits::MAX_LISTED_SIMS)
        .map(|at| format!("{}\n", 8_988_247_000_100_000_000_u64 + at as u64))
        .collect();
    assert_eq!(found(&[("a", &text), ("sims", &many)])[0].0, "PN0008");
}

#[test]
fn a_list_beats_a_range_at_equal_priority() {
    let class = |name: &str, rest: &str| {
        format!(
            "[[class]]\nname = \"{name}\"\npriority = 5\naction = \"drop\"\nmatch = [{{ {rest} }}]\n"
        )
    };
    let range = class("range", "iccid = [\"8988247000100000000-8988247000100000099\"]");
    let list = class("list", "iccid = [\"8988247000100000007\"]");
    for text in [format!("{MAIN}{MORE}{range}{list}"), format!("{MAIN}{MORE}{list}{range}")] {
        let policy = compiled(&[("a", &text)]).unwrap().policy;
        for (last, expected) in [("07", "list"), ("08", "range")] {
            use crate::sim::{Iccid, Identity};
            let iccid = Iccid::parse(&format!("89882470001000000{last}")).unwrap();
            let subscriber = crate::Subscriber::default().with_iccid(iccid);
            let class = policy.class_of(crate::Subject::Subscriber(&subscriber)).unwrap();
            assert_eq!(class.name(), expected);
        }
    }
    for other in [
        "iccid = [\"8988247000100000007\", \"8988247000100000090-8988247000100000110\"]",
        "iccid = [\"8988247000100000007\"], imsi = [\"001010000000001\"]",
    ] {
        let one = class(
            "one",
            "iccid = [\"8988247000100000000-8988247000100000099\"], imsi = [\"001010000000001\"]",
        );
        let text = format!("{MAIN}{MORE}{one}{}", class("other", other));
        assert!(found(&[("a", &text)]).iter().any(|(code, _, _)| *code == "PN0032"), "{other}");
    }
}

#[test]
fn schedules_add_host_sets_while_their_window_is_open() {
    use crate::{HostName, Request, Subject, Verdict, decide};
    let text = format!(
        "{MAIN}[[class]]\nname = \"c\"\npriority = 9\naction = \"garden\"\nhostsets = [\"builtin:gsma-rsp\"]\n\
         [[class]]\nname = \"d\"\npriority = 8\naction = \"garden\"\nhostsets = [\"builtin:gsma-rsp\"]\nmatch = [{{ apn = [\"x\"] }}]\n\
         [[hostset]]\nname = \"status\"\nhost = [{{ match = \"status.example.com\", schemes = [\"https\"] }}]\n\
         [[schedule]]\nname = \"work\"\nfrom = 2026-12-05T01:00:00Z\nuntil = 2026-12-05T05:00:00+02:00\n\
         hostsets = [\"status\"]\nclasses = [\"c\"]\n"
    );
    let compiled = compiled(&[("a", &text)]).unwrap();
    let host = &HostName::parse("status.example.com").unwrap();
    for (class, at, expected) in [
        ("c", "2026-12-05T00:59:59Z", Verdict::Deny),
        ("c", "2026-12-05T01:00:00Z", Verdict::Allow),
        ("c", "2026-12-05T02:59:59Z", Verdict::Allow),
        ("c", "2026-12-05T03:00:00Z", Verdict::Deny),
        ("d", "2026-12-05T02:00:00Z", Verdict::Deny),
    ] {
        let request = Request::Https { host, port: 443 };
        let decision =
            decide(&compiled.policy, Subject::Class(class), request, at.parse().unwrap());
        assert_eq!(decision.verdict(), expected, "{class} {at}");
    }
    let added: Vec<_> = compiled.policy.class("c").unwrap().scheduled().collect();
    assert_eq!((added[0].0, added[0].1.schedule()), ("status", "work"));
}
