//! One network namespace with one thread in it: what runs here sees only this namespace's
//! interfaces and sockets.

use std::{
    fs::File,
    future::Future,
    io,
    path::Path,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, setns};
use tokio::{runtime::Handle, sync::oneshot};

/// A network namespace and the thread that lives in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Starts a thread in the named namespace of this private environment.
    ///
    /// # Errors
    /// When the namespace does not exist or may not be entered.
    pub(crate) fn enter(name: &str) -> io::Result<Self> {
        let file = File::open(Path::new("/run/netns").join(name))?;
        Self::start(name, Some(file))
    }

    /// Starts a thread in the namespace the process is already in.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn here(name: &str) -> io::Result<Self> {
        Self::start(name, None)
    }

    fn start(name: &str, file: Option<File>) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("in {name}")).spawn(move || {
            let entered = match &file {
                Some(file) => setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from),
                None => Ok(()),
            };
            // Threads the runtime starts are born in the namespace of this one.
            let built = entered
                .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
            match built {
                Ok(runtime) => {
                    let _ = ready.send(Ok(runtime.handle().clone()));
                    let _ = runtime.block_on(stopped);
                    runtime.shutdown_background();
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        let runtime = is_ready.recv().map_err(io::Error::other)??;
        Ok(Self { name: name.to_owned(), runtime, stop: Some(stop), thread: Some(thread) })
    }

    /// The name `ip netns` knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a future in the namespace and waits for its value. Must not be called from a future of
    /// any namespace.
    ///
    /// # Panics
    /// When the future panics.
    pub fn run<F>(&self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let (done, value) = mpsc::channel();
        self.spawn(async move {
            let _ = done.send(future.await);
        });
        value.recv().expect("what ran in the namespace finished")
    }

    /// Runs blocking code on the namespace's own thread and waits for its value; processes it
    /// starts are born in the namespace.
    ///
    /// # Panics
    /// When the code panics.
    pub fn call<T: Send + 'static>(&self, code: impl FnOnce() -> T + Send + 'static) -> T {
        self.run(async move { code() })
    }

    /// Starts a future in the namespace; it ends with the namespace at the latest.
    pub(crate) fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.runtime.spawn(future));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
