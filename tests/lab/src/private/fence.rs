//! Which namespaces this machine lets us have, tried before they are relied on.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::Uid;

/// What stands between the inner process and the machine.
pub(super) struct Fence {
    pub(super) flags: Option<&'static [&'static str]>,
    pub(super) refusal: Option<String>,
}

impl Fence {
    /// The strongest fence this machine allows.
    pub(super) fn find() -> Self {
        let choices: &[&[&str]] =
            if Uid::effective().is_root() { &[&AS_ROOT, &AS_USER] } else { &[&AS_USER] };
        let mut refusal = String::new();
        for flags in choices {
            let tried = Command::new("unshare")
                .args(*flags)
                .args(["mount", "-t", "tmpfs", "tmpfs", "/run"])
                .stdin(Stdio::null())
                .output();
            match tried {
                Ok(output) if output.status.success() => {
                    return Self { flags: Some(flags), refusal: None };
                }
                Ok(output) => {
                    refusal = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
                }
                Err(error) => refusal = format!("unshare (package util-linux): {error}"),
            }
        }
        Self { flags: None, refusal: Some(refusal) }
    }

    /// No fence at all.
    pub(super) fn none(refusal: &str) -> Self {
        Self { flags: None, refusal: Some(refusal.to_owned()) }
    }

    /// A program behind the fence.
    pub(super) fn command(&self, program: &Path) -> tokio::process::Command {
        match self.flags {
            Some(flags) => {
                let mut command = tokio::process::Command::new("unshare");
                command.args(flags).arg("--").arg(program);
                command
            }
            None => tokio::process::Command::new(program),
        }
    }

    /// Whether the fence has a user namespace of its own.
    pub(super) fn has_own_user(&self) -> bool {
        self.flags.is_some_and(|flags| flags.contains(&OWN_USER))
    }
}

const AS_ROOT: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const AS_USER: [&str; 8] = [
    OWN_USER,
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];
const OWN_USER: &str = "--user";
