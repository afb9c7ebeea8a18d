//! The systemd unit: well formed, and closed to what the gateway does not need.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::{
    repository::text,
    tool::{checker, postern, succeed},
};

/// Ten times the exposure that `systemd-analyze security` may find; 20 is "OK".
const EXPOSURE_MAX: &str = "20";

#[test]
fn unit_is_well_formed() {
    let Some(mut analyze) = checker("systemd-analyze") else { return };
    let (_folder, unit) = unit();
    let said = succeed(analyze.args(["verify", "--man=no", "--recursive-errors=no"]).arg(unit));
    assert_eq!(said.trim(), "");
}

#[test]
fn unit_is_hardened() {
    let Some(mut analyze) = checker("systemd-analyze") else { return };
    let (_folder, unit) = unit();
    succeed(
        analyze
            .args(["security", "--no-pager", "--offline=true", "--threshold", EXPOSURE_MAX])
            .arg(unit),
    );
}

#[test]
fn unit_has_the_rights_it_explains_and_no_other() {
    let unit = text("deploy/systemd/postern.service");
    let rights = "CAP_NET_ADMIN CAP_NET_BIND_SERVICE";
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        let line = format!("{key}={rights}");
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    for right in rights.split(' ') {
        assert!(unit.contains(&format!("# {right}: ")), "{right} is not explained");
    }
}

/// The unit with the built binary in place of the installed one, in a folder of its own.
fn unit() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postern.service");
    let binary = postern().get_program().to_str().unwrap().to_owned();
    let unit = text("deploy/systemd/postern.service").replace("/usr/bin/postern", &binary);
    fs::write(&path, unit).unwrap();
    (folder, path)
}
