//! The watch over the policy file.
//!
//! Folders are watched, not the file: editors and deployment tools replace a file by renaming
//! another over it, or switch a symbolic link beside it, and a watch on the file would stay with
//! the old one.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{
    mpsc::{Receiver, Sender, channel},
    watch,
};
use tokio_util::sync::CancellationToken;

use super::{Reloader, Trigger};
use crate::signature::signature_path;

/// Why the file cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch the folder of the policy {}", path.display())]
pub(crate) struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// A watch that has begun: no change from now on is missed.
pub(crate) struct Watch {
    reloader: Arc<Reloader>,
    changes: Receiver<()>,
    files: watch::Receiver<Vec<PathBuf>>,
    watcher: RecommendedWatcher,
    names: Arc<ArcSwap<BTreeSet<OsString>>>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// Begins the watch over the file of `reloader`. Changes wait for [`Watch::run`].
    ///
    /// # Errors
    ///
    /// The kernel refuses the watch.
    pub(crate) fn begin(reloader: Arc<Reloader>) -> Result<Self, WatchError> {
        let (changed, changes) = channel(1);
        let names = Arc::new(ArcSwap::from_pointee(BTreeSet::new()));
        let known = Arc::clone(&names);
        let watcher =
            notify::recommended_watcher(move |event| tell(&changed, &known.load(), event));
        let watcher =
            watcher.map_err(|source| WatchError { path: reloader.path().to_owned(), source })?;
        let (files, folders) = (reloader.files(), BTreeSet::new());
        let mut watch = Self { reloader, changes, files, watcher, names, folders };
        watch.arm()?;
        Ok(watch)
    }

    /// Watches the policy file and those that were read with it; whether there are new ones.
    fn arm(&mut self) -> Result<bool, WatchError> {
        let mut files = self.files.borrow_and_update().clone();
        files.push(self.reloader.path().to_owned());
        for path in &files {
            for folder in folders(path) {
                if !self.folders.contains(&folder) {
                    let failed = |source| WatchError { path: path.clone(), source };
                    self.watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(failed)?;
                    self.folders.insert(folder);
                }
            }
        }
        let names: BTreeSet<OsString> = files.iter().flat_map(|path| names(path)).collect();
        let before = self.names.swap(Arc::new(names));
        Ok(!self.names.load().is_subset(&before))
    }

    /// Reloads whenever the policy file changes, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                changed = self.changes.recv() => changed,
                // The sender lives as long as the reloader, which is ours.
                Ok(()) = self.files.changed() => match self.arm() {
                    // One of them may have changed before it was watched.
                    Ok(true) => Some(()),
                    Ok(false) => continue,
                    Err(error) => {
                        tracing::warn!(%error, "an included file is not watched");
                        continue;
                    }
                },
            };
            if changed.is_none() {
                tracing::error!(
                    "the watch over the policy file has ended; reload by signal or admin API"
                );
                return stop.cancelled().await;
            }
            // A writer that is not atomic makes several events; wait until it pauses.
            let quiet = async {
                while let Ok(Some(())) = tokio::time::timeout(PAUSE, self.changes.recv()).await {}
            };
            let _ = tokio::time::timeout(PATIENCE, quiet).await;
            let _ = self.reloader.reload(Trigger::File, false).await;
            // A link may lead elsewhere now.
            if let Err(error) = self.arm() {
                tracing::warn!(%error, "a file of the policy is not watched");
            }
        }
    }
}

fn tell(changed: &Sender<()>, names: &BTreeSet<OsString>, event: notify::Result<notify::Event>) {
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| names.contains(name));
    let matters = match event {
        Ok(event) if event.need_rescan() => true,
        Ok(event) => !event.kind.is_access() && event.paths.iter().any(ours),
        Err(error) => {
            tracing::warn!(%error, "watch over the policy file");
            true
        }
    };
    if matters {
        // A full channel holds a change that will be seen: nothing is lost.
        let _ = changed.try_send(());
    }
}

/// The folder the path names, and the one that holds the file its links lead to.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    let named = parent(path);
    let real = std::fs::canonicalize(path).ok().map(|path| parent(&path));
    [Some(named), real].into_iter().flatten().collect()
}

/// The names whose change matters: other files of the folder, such as logs, change all the time.
fn names(path: &Path) -> BTreeSet<OsString> {
    let real = std::fs::canonicalize(path).ok();
    let files: Vec<PathBuf> =
        [Some(path), real.as_deref()].into_iter().flatten().map(Path::to_owned).collect();
    // The signature may come after the file it is for.
    let signatures = files.iter().map(|path| signature_path(path));
    let all: Vec<PathBuf> = files.iter().cloned().chain(signatures).collect();
    let own = all.iter().filter_map(|path| path.file_name());
    own.map(OsString::from).chain([OsString::from(CONFIG_MAP_LINK)]).collect()
}

/// The link by which Kubernetes switches all files of a mounted ConfigMap at once.
const CONFIG_MAP_LINK: &str = "..data";
/// How long a writer is waited for that never pauses.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the file must be quiet.
const PAUSE: Duration = Duration::from_millis(100);
