//! Where policies come in: the file with its signature, or the kept copy of the last good one.

use std::{
    io,
    path::{Path, PathBuf},
};

use policy::{Compiled, Environment, Policy, Source};

use super::{
    DOCUMENT_MAX, ReloadError,
    bundle::{Bundle, Distrust, Part, Trust},
};
use crate::{
    clock,
    config::Config,
    signature::{KeyError, PublicKey, signature_path, text_of},
};

/// What a node takes as its policy.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    path: PathBuf,
    environment: Environment,
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
            keys: keys.collect::<Result<_, _>>()?,
            last_good: config.last_good.clone(),
        })
    }

    /// The policy file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
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
            let bundle = read_bundle(&intake.path, !intake.keys.is_empty())?;
            intake.admit(bundle, &intake.path)
        })
        .await
    }

    /// Reads, verifies and compiles the kept copy; `None` if none is kept.
    pub(super) async fn restore(&self) -> Result<Option<Candidate>, ReloadError> {
        self.aside(|intake| {
            let Some(path) = &intake.last_good else { return Ok(None) };
            let kept = Bundle::kept(path)
                .map_err(|source| ReloadError::Read { path: path.clone(), source })?;
            kept.map(|bundle| intake.admit(bundle, path)).transpose()
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

    fn admit(&self, bundle: Bundle, path: &Path) -> Result<Candidate, ReloadError> {
        let trust = bundle.verify(&self.keys).map_err(|distrust| match distrust {
            Distrust::Unsigned => ReloadError::Unsigned { path: path.to_owned() },
            Distrust::Invalid(source) => {
                ReloadError::BadSignature { path: path.to_owned(), source }
            }
        })?;
        let compiled = compile(&bundle, path)?;
        fits(&compiled.policy, self.environment)?;
        Ok(Candidate { compiled, bundle, trust })
    }

    /// Large policies take a while, and the runtime's threads have traffic to carry.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ReloadError> + Send + 'static,
    ) -> Result<T, ReloadError> {
        let intake = self.clone();
        match tokio::task::spawn_blocking(move || work(&intake)).await {
            Ok(result) => result,
            Err(error) => {
                let source = io::Error::other(error);
                Err(ReloadError::Read { path: self.path.clone(), source })
            }
        }
    }
}

fn read_bundle(path: &Path, signed: bool) -> Result<Bundle, ReloadError> {
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
    Ok(Bundle::new(vec![Part { name, text }], signature))
}

fn compile(bundle: &Bundle, path: &Path) -> Result<Compiled, ReloadError> {
    let Some(Part { name, text }) = bundle.parts.first() else {
        let source = io::ErrorKind::InvalidData.into();
        return Err(ReloadError::Read { path: path.to_owned(), source });
    };
    policy::compile(&Source { name, text }, clock::today()).map_err(|diagnostics| {
        ReloadError::Invalid { path: path.to_owned(), text: text.clone(), diagnostics }
    })
}

fn fits(policy: &Policy, node: Environment) -> Result<(), ReloadError> {
    let policy = policy.environment();
    if policy == node { Ok(()) } else { Err(ReloadError::Environment { policy, node }) }
}
