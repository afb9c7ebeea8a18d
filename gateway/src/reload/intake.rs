//! Where policies come in: the file with its signature, or the kept copy of the last good one.

use std::{
    io,
    path::{Path, PathBuf},
};

use policy::{Compiled, Environment, Parts, Policy, Quic, Source, Unreadable};

use super::{
    DOCUMENT_MAX, ReloadError,
    bundle::{Bundle, Distrust, Part, Trust},
};
use crate::{
    aside::aside,
    clock,
    config::Config,
    files,
    signature::{KeyError, PublicKey, signature_path, text_of},
};

/// What a node takes as its policy.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    path: PathBuf,
    environment: Environment,
    /// Whether anything says which SIM an ICCID is.
    maps_iccid: bool,
    quic: Quic,
    /// Empty: signatures are not asked for.
    keys: Vec<PublicKey>,
    last_good: Option<PathBuf>,
}

/// A policy that may come into force, as far as its own texts go.
pub(super) struct Candidate {
    pub(super) compiled: Compiled,
    pub(super) bundle: Bundle,
    pub(super) trust: Trust,
}

impl Intake {
    /// The intake of `config`.
    ///
    /// # Errors
    ///
    /// A key cannot be read.
    pub(crate) fn new(config: &Config) -> Result<Self, KeyError> {
        let keys = config.require_signature.iter().map(|path| PublicKey::load(path));
        Ok(Self {
            path: config.policy.clone(),
            environment: config.environment,
            maps_iccid: config.state.maps_iccid,
            quic: config.proxy.as_ref().map(|proxy| proxy.quic).unwrap_or_default(),
            keys: keys.collect::<Result<_, _>>()?,
            last_good: config.last_good.clone(),
        })
    }

    /// The policy file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the copy of the last good policy is kept, if it is.
    pub(crate) fn last_good(&self) -> Option<&Path> {
        self.last_good.as_deref()
    }

    /// Whether there is something to start with: the policy file, or else the kept copy.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(crate) async fn check(&self) -> Result<(), ReloadError> {
        match self.read().await {
            Ok(_) => Ok(()),
            Err(error) => match self.restore().await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(error),
                Err(copy) => {
                    tracing::warn!(error = %copy, "the kept copy cannot be used either");
                    Err(error)
                }
            },
        }
    }

    /// Reads, verifies and compiles the policy file.
    pub(super) async fn read(&self) -> Result<Candidate, ReloadError> {
        self.aside(|intake| {
            let (parts, signature) = read_files(&intake.path, !intake.keys.is_empty())?;
            let bundle = Bundle::of(&parts, signature);
            intake.admit(bundle, parts, &intake.path)
        })
        .await
    }

    /// Reads, verifies and compiles the kept copy; `None` if none is kept.
    pub(super) async fn restore(&self) -> Result<Option<Candidate>, ReloadError> {
        self.aside(|intake| {
            let Some(path) = &intake.last_good else { return Ok(None) };
            let kept = Bundle::kept(path)
                .map_err(|source| ReloadError::Read { path: path.clone(), source })?;
            let Some(bundle) = kept else { return Ok(None) };
            let parts = kept_files(&bundle);
            intake.admit(bundle, parts, path).map(Some)
        })
        .await
    }

    /// Verifies and compiles `bundle` as if it had been read from the policy file.
    pub(super) async fn weigh(&self, bundle: Bundle) -> Result<Candidate, ReloadError> {
        self.aside(move |intake| {
            let parts = kept_files(&bundle);
            intake.admit(bundle, parts, &intake.path)
        })
        .await
    }

    /// Keeps `bundle` as the last good one, if copies are kept.
    pub(super) async fn keep(&self, bundle: Bundle) {
        let kept = self.aside(move |intake| {
            let Some(path) = &intake.last_good else { return Ok(()) };
            bundle.keep(path).map_err(|source| ReloadError::Read { path: path.clone(), source })
        });
        if let Err(error) = kept.await {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(cause, "the copy of the last good policy cannot be written");
        }
    }

    fn admit(
        &self,
        bundle: Bundle,
        parts: Parts<'static>,
        path: &Path,
    ) -> Result<Candidate, ReloadError> {
        let trust =
            bundle.verify(parts.texts(), &self.keys).map_err(|distrust| match distrust {
                Distrust::Unsigned => ReloadError::Unsigned { path: path.to_owned() },
                Distrust::Invalid(source) => {
                    ReloadError::BadSignature { path: path.to_owned(), source }
                }
            })?;
        let parts = parts.for_node(self.quic);
        let compiled = policy::compile_parts(&parts, clock::today());
        let compiled = compiled.map_err(|diagnostics| ReloadError::Invalid {
            path: path.to_owned(),
            parts: Box::new(parts),
            diagnostics,
        })?;
        fits(&compiled.policy, self.environment)?;
        if !self.maps_iccid {
            maps_nothing(&compiled.policy)?;
        }
        Ok(Candidate { compiled, bundle, trust })
    }

    /// Large policies take a while.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ReloadError> + Send + 'static,
    ) -> Result<T, ReloadError> {
        let intake = self.clone();
        match aside(move || work(&intake)).await {
            Ok(result) => result,
            Err(source) => Err(ReloadError::Read { path: self.path.clone(), source }),
        }
    }
}

/// The policy with every file it names, and the text of its signature.
fn read_files(path: &Path, signed: bool) -> Result<(Parts<'static>, Option<String>), ReloadError> {
    let read = |source| ReloadError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(read)?.len();
    if length > DOCUMENT_MAX {
        return Err(ReloadError::TooLarge { path: path.to_owned(), length });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let signature = if signed {
        let path = signature_path(path);
        match text_of(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(ReloadError::Read { path, source }),
        }
    } else {
        None
    };
    let name = path.display().to_string();
    Ok((files::gather(&Source { name: &name, text: &text }).into_owned(), signature))
}

/// The files of a kept copy, found by the names they were read by.
fn kept_files(bundle: &Bundle) -> Parts<'static> {
    let (name, text) = bundle.parts.first().map_or(("", ""), |first| (&*first.name, &*first.text));
    let parts = Parts::gather(&Source { name, text }, &mut |wanted| {
        let name = files::resolve(&wanted).display().to_string();
        let known = bundle.parts.iter().find(|part| part.name == name);
        let Part { name, text } = known.cloned().ok_or(Unreadable::Absent)?;
        Ok(policy::File { name, text })
    });
    parts.into_owned()
}

/// The network does not tell ICCIDs: a class by them would hold nobody, ever.
fn maps_nothing(policy: &Policy) -> Result<(), ReloadError> {
    let asks = |class: &&policy::Class| {
        class.matches().any(|entry| entry.keys().any(|key| key == "iccid"))
    };
    match policy.classes().iter().find(asks) {
        None => Ok(()),
        Some(class) => Err(ReloadError::NoMapping { class: class.name().to_owned() }),
    }
}

fn fits(policy: &Policy, node: Environment) -> Result<(), ReloadError> {
    let policy = policy.environment();
    if policy == node { Ok(()) } else { Err(ReloadError::Environment { policy, node }) }
}

#[cfg(test)]
mod tests;
