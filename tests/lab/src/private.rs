//! The private environment: own network, mounts and processes, so that whatever a world makes is
//! gone with its process, even after `kill -9`.
//!
//! A program that wants one calls [`enter`] first. The outer call starts the same program again
//! with the same arguments inside, watches over it and tells how it ended; the inner call returns.
//! Where the kernel refuses namespaces the program is started again all the same, watched over in
//! the same way, for the loopback form.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sys::signal::{Signal, killpg},
    unistd::getpgrp,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, ChildStdin},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

mod fence;

use fence::Fence;

/// What [`enter`] found or did.
#[derive(Debug)]
#[must_use]
pub enum Entry {
    /// This process is the inner one; go on.
    Inside(Inside),
    /// This process was the outer one and is done; the inner one ended like this.
    Done(ExitCode),
    /// Nothing could be started.
    Failed(io::Error),
}

/// The inner process's side of the environment.
#[derive(Debug)]
pub struct Inside {
    directory: PathBuf,
    refusal: Option<String>,
}

/// The inner process as the outer one knows it.
#[derive(Debug, Clone)]
pub struct Started {
    /// A process whose namespaces are those of the environment.
    pub pid: u32,
    /// The world's directory.
    pub directory: PathBuf,
    /// Whether the environment has a user namespace of its own.
    pub own_user: bool,
    /// Whether there are namespaces at all.
    pub own_network: bool,
}

/// Whether this process runs inside a private environment with namespaces of its own.
#[must_use]
pub fn is_inside() -> bool {
    // The first process of a namespace only: the variable alone must not make a stranger mount over
    // /run.
    std::process::id() == 1 && env::var_os(MARK).is_some_and(|mark| mark == MARK_NAMESPACES)
}

/// Whether this process was started by an outer one, in whatever form.
#[must_use]
pub fn is_started() -> bool {
    env::var_os(MARK).is_some()
}

/// Enters a private environment, in the way the module describes. `started` is called in the outer
/// process once the inner one runs.
pub fn enter(loopback_only: bool, started: impl FnOnce(&Started)) -> Entry {
    let mark = env::var_os(MARK);
    let directory = env::var_os(DIRECTORY).map(PathBuf::from);
    if let (Some(_), Some(directory)) = (mark, directory) {
        if is_inside()
            && let Err(error) = prepare()
        {
            return Entry::Failed(error);
        }
        return Entry::Inside(Inside {
            directory,
            refusal: env::var_os(REFUSAL).map(|refusal| refusal.to_string_lossy().into_owned()),
        });
    }
    match watch(loopback_only, started) {
        Ok(code) => Entry::Done(code),
        Err(error) => Entry::Failed(error),
    }
}

/// Runs a test inside a private environment of its own: the test's process starts itself again for
/// this one test. Call it as the whole body of a `#[test]` function.
///
/// # Panics
/// When the inner test fails or cannot be started.
pub fn test(body: impl FnOnce()) {
    let thread = thread::current();
    let name = thread.name().unwrap_or_default().to_owned();
    // The mark alone says that the whole test binary runs in namespaces; this test still gets its own.
    if env::var_os(DIRECTORY).is_some() {
        match enter(false, |_| {}) {
            Entry::Inside(inside) => inside.end_when_released(),
            Entry::Done(_) | Entry::Failed(_) => {
                panic!("the private environment could not be made")
            }
        }
        body();
        return;
    }
    let arguments = [&name, "--exact", "--nocapture", "--test-threads=1"].map(OsString::from);
    let output = runtime().and_then(|runtime| {
        runtime.block_on(async {
            let inner = Inner::start(false, arguments.to_vec(), Voice::Captured, |_| {})?;
            inner.listen().await
        })
    });
    match output {
        Ok(output) => assert!(
            output.status.success(),
            "{name} failed in its private environment ({})\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        ),
        Err(error) => panic!("{name}: the private environment could not be started: {error}"),
    }
}

impl Inside {
    /// The directory for the world's files; the outer process removes it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Why there are no namespaces, if there are none.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Removes the directory, for the case that the outer process was killed and cannot.
    pub fn remove_directory(&self) {
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// Waits until the outer process ends or is told to end.
    pub fn wait_for_release(&self) {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
    }

    /// Ends this process and all it started as soon as the outer process ends or is told to end.
    pub fn end_when_released(self) {
        thread::spawn(move || {
            self.wait_for_release();
            self.remove_directory();
            if is_inside() {
                end_namespace();
            }
            let _ = killpg(getpgrp(), Signal::SIGKILL);
        });
    }
}

/// The first process of a namespace is immune to signals from inside; its exit ends all others.
#[expect(
    clippy::exit,
    reason = "called from a watcher while the main thread is in the middle of a journey"
)]
fn end_namespace() {
    std::process::exit(i32::from(INTERRUPTED));
}

fn watch(loopback_only: bool, started: impl FnOnce(&Started)) -> io::Result<ExitCode> {
    let arguments = env::args_os().skip(1).collect();
    let status = runtime()?.block_on(async {
        Inner::start(loopback_only, arguments, Voice::Open, started)?.watch().await
    })?;
    let code = status.code().map(u8::try_from).and_then(Result::ok);
    Ok(ExitCode::from(code.unwrap_or(INTERRUPTED)))
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Where the inner process's words go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// Where the outer one's go.
    Open,
    /// Kept until it ends.
    Captured,
}

/// The inner process in the hands of the outer one.
struct Inner {
    child: Child,
    /// The inner process ends when this does.
    leash: Option<ChildStdin>,
    _directory: TempDir,
}

impl Inner {
    fn start(
        loopback_only: bool,
        arguments: Vec<OsString>,
        voice: Voice,
        started: impl FnOnce(&Started),
    ) -> io::Result<Self> {
        let fence = if loopback_only { Fence::none("asked for") } else { Fence::find() };
        let directory = tempfile::Builder::new().prefix("postern-lab-").tempdir()?;
        let mut command = fence.command(&env::current_exe()?);
        command
            .args(arguments)
            .env(MARK, if fence.flags.is_some() { MARK_NAMESPACES } else { MARK_LOOPBACK })
            .env(DIRECTORY, directory.path())
            .env(REFUSAL, fence.refusal.as_deref().unwrap_or_default())
            .stdin(Stdio::piped())
            // The terminal's interrupt comes to the outer process alone, which lets the inner one
            // end in order.
            .process_group(0)
            .kill_on_drop(true);
        if voice == Voice::Captured {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let leash = child.stdin.take();
        started(&Started {
            pid: child.id().unwrap_or_default(),
            directory: directory.path().to_owned(),
            own_user: fence.has_own_user(),
            own_network: fence.flags.is_some(),
        });
        Ok(Self { child, leash, _directory: directory })
    }

    /// Waits for the end; a signal to the outer process lets the inner one end in order.
    async fn watch(mut self) -> io::Result<ExitStatus> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            status = self.child.wait() => return status,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        drop(self.leash.take());
        match timeout(END_LIMIT, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.child.start_kill()?;
                self.child.wait().await
            }
        }
    }

    /// Waits for the end and what was said until then.
    async fn listen(self) -> io::Result<Output> {
        let Self { child, leash, _directory } = self;
        let output = child.wait_with_output().await;
        drop(leash);
        output
    }
}

/// Makes what `ip netns` and the C library expect, visible to this environment only.
fn prepare() -> io::Result<()> {
    let resolver = fs::canonicalize(RESOLVER_FILE);
    let none: Option<&str> = None;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
    fs::create_dir_all("/run/netns")?;
    let Ok(resolver) = resolver else {
        return Ok(());
    };
    if resolver.starts_with("/run") || resolver.starts_with("/var/run") {
        if let Some(parent) = resolver.parent() {
            fs::create_dir_all(parent)?;
        }
        return fs::write(resolver, RESOLVER);
    }
    fs::write(OUR_RESOLVER, RESOLVER)?;
    mount(Some(OUR_RESOLVER), &resolver, none, MsFlags::MS_BIND, none)?;
    Ok(())
}

const MARK: &str = "POSTERN_LAB_PRIVATE";
const MARK_NAMESPACES: &str = "namespaces";
const MARK_LOOPBACK: &str = "loopback";
const DIRECTORY: &str = "POSTERN_LAB_DIRECTORY";
const REFUSAL: &str = "POSTERN_LAB_REFUSAL";

const RESOLVER_FILE: &str = "/etc/resolv.conf";
const OUR_RESOLVER: &str = "/run/postern-lab-resolv.conf";
/// Any address does: steering takes every question.
const RESOLVER: &str = "nameserver 192.0.2.53\nnameserver 2001:db8:ffff::53\n";

/// The time an inner process has to end in order.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Exit code after an interrupt, as shells count it.
const INTERRUPTED: u8 = 130;
