//! `postern policy`: keys and signatures.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use policy::Parts;

use super::document::Document;
use crate::{
    clock,
    reload::Bundle,
    report,
    signature::{Manifest, PrivateKey, PublicKey, Signature, signature_path, text_of},
};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern policy keygen release.key                      writes release.key and release.key.pub
  postern policy sign --key release.key policy.toml      writes policy.toml.sig
  postern policy verify --key release.key.pub policy.toml
  postern policy bundle policy.toml > policy.bundle      for nodes that pull it

A node whose gateway.toml says `require_signature = [\"release.key.pub\"]` takes no other policy.
Keys are PEM files with an Ed25519 key, as openssl writes them too.

Exit codes: 0 done, good; 1 the signature does not hold, or the policy has errors; 2 could not run.")]
pub(super) struct PolicyCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a pair of keys. Nothing is overwritten.
    #[command(after_help = "For example:\n  postern policy keygen release.key")]
    Keygen {
        /// The file of the private key; the public one is written beside it, as KEY.pub.
        #[arg(value_name = "KEY")]
        key: PathBuf,
    },
    /// Sign a policy: writes FILE.sig. A policy with errors is not signed.
    #[command(after_help = "For example:\n  postern policy sign --key release.key policy.toml")]
    Sign {
        /// The file of the private key; only its owner may be able to read it.
        #[arg(long, value_name = "KEY")]
        key: PathBuf,
        /// The policy.
        file: PathBuf,
    },
    /// Write a signed policy with all its files as one, for nodes to pull: a file of JSON that any
    /// web server can serve as application/json.
    #[command(after_help = "For example:\n  postern policy bundle policy.toml > policy.bundle")]
    Bundle {
        /// The policy; its signature is FILE.sig.
        file: PathBuf,
    },
    /// Say whether a policy is signed with one of the keys.
    #[command(
        after_help = "For example:\n  postern policy verify --key release.key.pub policy.toml"
    )]
    Verify {
        /// The file of a public key; may be given several times.
        #[arg(long, value_name = "KEY", required = true)]
        key: Vec<PathBuf>,
        /// The signature; FILE.sig, unless given.
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        /// The policy.
        file: PathBuf,
    },
}

/// Why a command does not end well.
enum Failure {
    /// Something was found: exit 1.
    Found(String),
    /// It could not run: exit 2.
    Unable(String),
}

pub(super) fn run(command: PolicyCommand) -> ExitCode {
    let out = &mut io::stdout().lock();
    let done = match command.what {
        What::Keygen { key } => keygen(&key, out),
        What::Sign { key, file } => sign(&key, &file, out),
        What::Bundle { file } => bundle(&file, out),
        What::Verify { key, signature, file } => {
            let signature = signature.unwrap_or_else(|| signature_path(&file));
            verify(&key, &signature, &file, out)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Found(line)) => {
            report::complain(&line);
            ExitCode::from(1)
        }
        Err(Failure::Unable(line)) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

fn keygen(path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let public = PathBuf::from(name);
    // Looked at first, so that no private key is left without its public one.
    if public.exists() {
        let line =
            format!("error: {} is there already; keys are never overwritten", public.display());
        return Err(Failure::Unable(line));
    }
    let key = PrivateKey::generate().map_err(|error| unable(&error))?;
    key.write(path).map_err(|error| unable(&error))?;
    key.public().write(&public).map_err(|error| unable(&error))?;
    let (private, public, id) = (path.display(), public.display(), key.public().id());
    say(out, &format!("key {id}: private in {private}, public in {public}"))
}

fn bundle(file: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let document = Document::read(file).map_err(|error| unable(&error))?;
    let path = signature_path(file);
    let signature = text_of(&path).map_err(|error| {
        let path = path.display();
        Failure::Unable(format!("error: cannot read the signature {path}: {error}"))
    })?;
    let octets = Bundle::of(&document.parts(), Some(signature)).to_json();
    octets.and_then(|octets| out.write_all(&octets)).map_err(|error| unable(&error))
}

fn sign(key: &Path, file: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let key = PrivateKey::load(key).map_err(|error| unable(&error))?;
    let document = Document::read(file).map_err(|error| unable(&error))?;
    let parts = document.parts();
    if let Err(found) = policy::compile_parts(&parts, clock::today()) {
        report::diagnostics_to_stderr(&found, &parts);
        return Err(Failure::Found(format!(
            "error: {} has errors and is not signed",
            document.name
        )));
    }
    let signature = key.sign(&manifest(&parts));
    let path = signature_path(file);
    write_whole(&path, &signature.to_string()).map_err(|error| {
        Failure::Unable(format!("error: cannot write {}: {error}", path.display()))
    })?;
    say(
        out,
        &format!("{} signed with key {}: {}", file.display(), key.public().id(), path.display()),
    )
}

fn verify(
    keys: &[PathBuf],
    signature: &Path,
    file: &Path,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let keys: Result<Vec<_>, _> = keys.iter().map(|path| PublicKey::load(path)).collect();
    let keys = keys.map_err(|error| unable(&error))?;
    let document = Document::read(file).map_err(|error| unable(&error))?;
    let text = match text_of(signature) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (name, signature) = (&document.name, signature.display());
            return Err(Failure::Found(format!("error: {name} is not signed: no {signature}")));
        }
        Err(error) => {
            return Err(Failure::Unable(format!(
                "error: cannot read {}: {error}",
                signature.display()
            )));
        }
    };
    let verified = Signature::parse(&text)
        .and_then(|signature| signature.verify(&manifest(&document.parts()), &keys));
    match verified {
        Ok(key) => say(out, &format!("{}: signed with key {key}", document.name)),
        Err(error) => Err(Failure::Found(format!("error: {}: {error}", document.name))),
    }
}

/// A signature holds for the policy and every file it names, in the order they are read.
fn manifest(parts: &Parts<'_>) -> Manifest {
    Manifest::of(parts.texts().map(str::as_bytes))
}

/// A node that watches the file must never read half of it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = folder.unwrap_or_else(|| Path::new(".")).join(name);
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, path)
}

fn say(out: &mut impl Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}")
        .map_err(|error| Failure::Unable(format!("error: cannot write: {error}")))
}

fn unable(error: &dyn std::error::Error) -> Failure {
    Failure::Unable(format!("error: {}", report::with_causes(error)))
}

#[cfg(test)]
mod tests;
