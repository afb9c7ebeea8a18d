//! Files on disk: those of a policy, the first, those it includes, its lists of SIMs; and files of
//! our own that are replaced as a whole.
//!
//! Paths are relative to the file that names them, and a file has one name however it is reached.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

use policy::{Parts, Source, Unreadable, Wanted};

/// The document that begins with `source`, which lies at the path it is named by.
pub(crate) fn gather<'a>(source: &Source<'a>) -> Parts<'a> {
    Parts::gather(source, &mut |wanted| {
        let path = resolve(&wanted);
        let text = read(&path, wanted.room)?;
        Ok(policy::File { name: path.display().to_string(), text })
    })
}

/// Replaces what is in `path` as a whole; on disk when it returns.
pub(crate) fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    // In the same folder, so that it can take the other's place in one step.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o640).open(&fresh)?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Where a file lies that another one names; nothing is asked of the disk.
pub(crate) fn resolve(wanted: &Wanted<'_>) -> PathBuf {
    let folder = Path::new(wanted.from).parent().unwrap_or_else(|| Path::new(""));
    let mut plain = PathBuf::new();
    for component in folder.join(wanted.path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(plain.components().next_back(), Some(Component::Normal(_))) =>
            {
                plain.pop();
            }
            Component::ParentDir
            | Component::Normal(_)
            | Component::Prefix(_)
            | Component::RootDir => plain.push(component),
        }
    }
    plain
}

fn read(path: &Path, room: usize) -> Result<String, Unreadable> {
    let refuse = |error: io::Error| {
        if error.kind() == ErrorKind::NotFound { Unreadable::Absent } else { Unreadable::Refused }
    };
    // A pipe would be waited for, a device would never end.
    if !std::fs::metadata(path).map_err(refuse)?.is_file() {
        return Err(Unreadable::Refused);
    }
    let most = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).map_err(refuse)?.take(most).read_to_end(&mut bytes).map_err(refuse)?;
    if bytes.len() > room {
        return Err(Unreadable::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_that_names_them() {
        for (from, path, expected) in [
            ("policy.toml", "more.toml", "more.toml"),
            ("etc/policy.toml", "more.toml", "etc/more.toml"),
            ("etc/policy.toml", "./a/../b.toml", "etc/b.toml"),
            ("etc/a/policy.toml", "../b.toml", "etc/b.toml"),
            ("policy.toml", "../../b.toml", "../../b.toml"),
            ("/etc/policy.toml", "/b.toml", "/b.toml"),
        ] {
            let wanted = Wanted { from, path, room: 0 };
            assert_eq!(resolve(&wanted), Path::new(expected), "{from} {path}");
        }
    }

    #[test]
    fn what_is_no_file_of_fitting_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "123").unwrap();
        assert_eq!((read(&path, 3), read(&path, 2)), (Ok("123".into()), Err(Unreadable::TooLarge)));
        assert_eq!(read(folder.path(), 9), Err(Unreadable::Refused));
        assert_eq!(read(&folder.path().join("b"), 9), Err(Unreadable::Absent));
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read(&path, 3), Err(Unreadable::NotText));
    }
}
