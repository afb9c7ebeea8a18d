//! The real gateway as a child process, handled as an operator handles it: signals, files, the
//! admin interface.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::{clock, family::Family, namespace::Namespace, world::files::GATEWAY};

mod admin;
mod bound;
mod error;
mod successor;

pub use admin::AdminReply;
pub use error::GatewayError;
pub use successor::Successor;

use bound::Bound;

/// The gateway of a world.
#[derive(Debug)]
pub struct Gateway {
    binary: PathBuf,
    directory: PathBuf,
    namespace: Arc<Namespace>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    bound: Bound,
    lines: mpsc::Receiver<String>,
}

impl Gateway {
    pub(crate) fn new(binary: PathBuf, directory: PathBuf, namespace: Arc<Namespace>) -> Self {
        Self { binary, directory, namespace, running: Mutex::default() }
    }

    /// The gateway of a directory with its two files, without a world around it: it runs where this
    /// process does.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn at(binary: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> io::Result<Self> {
        let here = Arc::new(Namespace::here("gw")?);
        Ok(Self::new(binary.into(), directory.into(), here))
    }

    /// Starts the gateway and waits until it says `READY`. Its log is appended to
    /// [`log_file`](Self::log_file).
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready within [`READY_LIMIT`](Self::READY_LIMIT).
    pub fn start(&self) -> Result<(), GatewayError> {
        let mut running = self.running.lock().unwrap();
        if running.is_some() {
            return Err(GatewayError::Up);
        }
        let mut child = self.spawn()?;
        let stdout = child.stdout.take().expect("standard output is piped");
        let lines = lines(stdout);
        let deadline = clock::now() + Self::READY_LIMIT;
        let mut bound = Bound::default();
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            match lines.recv_timeout(left) {
                Ok(line) if line == "READY" => break,
                Ok(line) => {
                    if let Some(parsed) = Bound::parse(&line) {
                        bound = parsed;
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = end(&mut child);
                    return Err(GatewayError::Ended { status, log: self.log_tail() });
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    end(&mut child);
                    return Err(GatewayError::NotReady {
                        limit: Self::READY_LIMIT,
                        log: self.log_tail(),
                    });
                }
            }
        }
        *running = Some(Running { child, bound, lines });
        Ok(())
    }

    /// Asks the gateway to stop (`SIGTERM`), waits, and returns how it ended.
    ///
    /// # Errors
    /// When it is not running, or had to be killed after [`STOP_LIMIT`](Self::STOP_LIMIT).
    pub fn stop(&self) -> Result<ExitStatus, GatewayError> {
        self.signal(Signal::SIGTERM)?;
        let mut running = self.running.lock().unwrap().take().ok_or(GatewayError::Down)?;
        let deadline = clock::now() + Self::STOP_LIMIT;
        loop {
            match running.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if clock::now() < deadline => pause(&self.namespace),
                Ok(None) | Err(_) => {
                    end(&mut running.child);
                    return Err(GatewayError::NotStopped {
                        limit: Self::STOP_LIMIT,
                        log: self.log_tail(),
                    });
                }
            }
        }
    }

    /// Kills the gateway (`SIGKILL`) as a crash would; nothing of it gets a chance to clean up.
    pub fn kill(&self) {
        if let Some(mut running) = self.running.lock().unwrap().take() {
            end(&mut running.child);
        }
    }

    /// Tells the gateway to read its policy again (`SIGHUP`). It does so in its own time.
    ///
    /// # Errors
    /// When it is not running.
    pub fn hang_up(&self) -> Result<(), GatewayError> {
        self.signal(Signal::SIGHUP)
    }

    /// Waits until the policy with this serial is in force.
    ///
    /// # Errors
    /// When it is not after [`RELOAD_LIMIT`](Self::RELOAD_LIMIT).
    pub fn wait_for_serial(&self, serial: u64) -> Result<(), GatewayError> {
        let deadline = clock::now() + Self::RELOAD_LIMIT;
        while self.serial()? != Some(serial) {
            if clock::now() >= deadline {
                return Err(GatewayError::NotInForce {
                    serial,
                    limit: Self::RELOAD_LIMIT,
                    log: self.log_tail(),
                });
            }
            pause(&self.namespace);
        }
        Ok(())
    }

    /// Whether the gateway was started and neither stopped nor ended by itself.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let mut running = self.running.lock().unwrap();
        running.as_mut().is_some_and(|running| matches!(running.child.try_wait(), Ok(None)))
    }

    /// Process id of the running gateway, as seen in this environment.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.lock().unwrap().as_ref().map(|running| running.child.id())
    }

    /// The addresses it said it listens on under one key: `dns`, `http`, `https`, `admin`.
    #[must_use]
    pub fn listening(&self, key: &str) -> Vec<SocketAddr> {
        let running = self.running.lock().unwrap();
        running.as_ref().map_or_else(Vec::new, |running| running.bound.of(key).to_vec())
    }

    /// The first address of one key and family.
    pub(crate) fn listening_in(&self, key: &str, family: Family) -> Option<SocketAddr> {
        self.listening(key).into_iter().find(|address| address.is_ipv6() == (family == Family::V6))
    }

    /// Where the admin interface listens.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.listening("admin").first().copied()
    }

    /// The namespace it runs in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The file its log goes to.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join(LOG)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log_file())
    }

    fn spawn(&self) -> Result<Child, GatewayError> {
        let failed = |source| GatewayError::Spawn { binary: self.binary.clone(), source };
        let log =
            File::options().create(true).append(true).open(self.log_file()).map_err(failed)?;
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "--config"])
            .arg(self.directory.join(GATEWAY))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        self.namespace.call(move || command.spawn()).map_err(failed)
    }

    fn signal(&self, signal: Signal) -> Result<(), GatewayError> {
        let pid = self.pid().ok_or(GatewayError::Down)?;
        let pid = Pid::from_raw(i32::try_from(pid).expect("a process id fits"));
        signal::kill(pid, signal).map_err(|_| GatewayError::Down)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Gateway {
    /// The time a start may take, with a million bindings to read.
    pub const READY_LIMIT: Duration = Duration::from_secs(60);
    /// The time another process may take to take over.
    pub const UPGRADE_LIMIT: Duration = Duration::from_secs(15);
    /// The time a stop may take, draining included.
    pub const STOP_LIMIT: Duration = Duration::from_secs(15);
    /// The time a changed policy file may take to be noticed and put in force.
    pub const RELOAD_LIMIT: Duration = Duration::from_secs(5);
}

/// The lines of a stream as they come; the stream is read to its end even when nobody listens any
/// more.
fn lines(stream: impl io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Kills and reaps; returns how the process ended.
fn end(child: &mut Child) -> ExitStatus {
    let _ = child.kill();
    child.wait().expect("a child can be waited for")
}

fn tail(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    // A backtrace would push the panic itself out of sight.
    let panicked = lines.iter().rposition(|line| line.contains("panicked at"));
    let start = panicked.unwrap_or_else(|| lines.len().saturating_sub(LOG_LINES));
    lines.iter().skip(start).take(LOG_LINES).copied().collect::<Vec<_>>().join("\n")
}

fn pause(namespace: &Namespace) {
    namespace.run(async { tokio::time::sleep(POLL).await });
}

/// How often a condition of the gateway is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);
const LOG: &str = "gateway.log";
const LOG_LINES: usize = 30;
