//! The real gateway as a child process, handled as an operator handles it: signals, files, the admin interface.

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

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    clock,
    family::Family,
    metrics::Metrics,
    namespace::Namespace,
    world::files::{GATEWAY, TOKEN},
};

mod bound;

pub(crate) use bound::Bound;

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
}

/// An answer of the admin interface.
#[derive(Debug, Clone)]
pub struct AdminReply {
    /// HTTP status.
    pub status: StatusCode,
    /// Body as text.
    pub body: String,
}

/// Why the gateway did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The binary could not be started.
    #[error("{binary} cannot be started: {source}")]
    Spawn {
        /// The binary.
        binary: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("the gateway ended before it was ready ({status}); the end of its log:\n{log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// It did not become ready in time.
    #[error("the gateway was not ready after {} s; the end of its log:\n{log}", limit.as_secs())]
    NotReady {
        /// The time it had.
        limit: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// It did not stop in time and was killed.
    #[error("the gateway did not stop within {} s and was killed; the end of its log:\n{log}", limit.as_secs())]
    NotStopped {
        /// The time it had.
        limit: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// It is not running.
    #[error("the gateway is not running")]
    Down,
    /// It is running already.
    #[error("the gateway is running already")]
    Up,
    /// The admin interface did not answer.
    #[error("the admin interface did not answer: {0}")]
    Admin(io::Error),
    /// The policy in force did not become the expected one in time.
    #[error("serial {serial} was not in force after {} s; the end of the gateway's log:\n{log}", limit.as_secs())]
    NotInForce {
        /// The serial waited for.
        serial: u64,
        /// The time it had.
        limit: Duration,
        /// The last lines of its log.
        log: String,
    },
}

impl Gateway {
    pub(crate) fn new(binary: PathBuf, directory: PathBuf, namespace: Arc<Namespace>) -> Self {
        Self { binary, directory, namespace, running: Mutex::default() }
    }

    /// Starts the gateway and waits until it says `READY`. Its log is appended to [`log_file`](Self::log_file).
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
        *running = Some(Running { child, bound });
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

    /// Tells the gateway through the admin interface to read its policy again; the answer comes when it has.
    ///
    /// # Errors
    /// When the interface does not answer. A refused policy is an answer.
    pub fn reload(&self) -> Result<AdminReply, GatewayError> {
        self.admin(Method::POST, "/v1/policy/reload", "")
    }

    /// Asks the admin interface, with the token for everything but reads.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn admin(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<AdminReply, GatewayError> {
        let token = if method == Method::GET {
            None
        } else {
            let token = fs::read_to_string(self.directory.join(TOKEN));
            Some(token.map_err(GatewayError::Admin)?)
        };
        self.admin_with(token.as_deref().map(str::trim), method, path, body)
    }

    /// Asks the admin interface with a token of the caller's choice.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn admin_with(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<AdminReply, GatewayError> {
        let address = self.admin_address().ok_or(GatewayError::Down)?;
        let mut request =
            Request::builder().method(method).uri(path).header("host", address.to_string());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request
            .header("content-type", "application/json")
            .body(Full::from(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|error| GatewayError::Admin(io::Error::other(error)))?;
        let asked = self.namespace.run(async move {
            timeout(ADMIN_LIMIT, ask(address, request))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
        asked.map_err(GatewayError::Admin)
    }

    /// Reads the metrics.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn metrics(&self) -> Result<Metrics, GatewayError> {
        let reply = self.admin(Method::GET, "/metrics", "")?;
        Ok(Metrics::parse(&reply.body))
    }

    /// The serial of the policy in force, as the admin interface tells it.
    ///
    /// # Errors
    /// When the gateway is down or the interface does not answer.
    pub fn serial(&self) -> Result<Option<u64>, GatewayError> {
        let reply = self.admin(Method::GET, "/v1/policy", "")?;
        let policy: serde_json::Value = serde_json::from_str(&reply.body).unwrap_or_default();
        Ok(find(&policy, "serial").and_then(serde_json::Value::as_u64))
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

impl Gateway {
    /// The time a start may take.
    pub const READY_LIMIT: Duration = Duration::from_secs(10);
    /// The time a stop may take, draining included.
    pub const STOP_LIMIT: Duration = Duration::from_secs(15);
    /// The time a changed policy file may take to be noticed and put in force.
    pub const RELOAD_LIMIT: Duration = Duration::from_secs(5);
}

async fn ask(address: SocketAddr, request: Request<Full<Bytes>>) -> io::Result<AdminReply> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let asking = async move {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(AdminReply { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    let (reply, _) = tokio::join!(asking, connection);
    reply
}

/// The lines of a stream as they come; the stream is read to its end even when nobody listens any more.
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

/// Finds a key anywhere in a document, nearest to the top first.
fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    let object = value.as_object()?;
    object.get(key).or_else(|| object.values().find_map(|inner| find(inner, key)))
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

const ADMIN_LIMIT: Duration = Duration::from_secs(10);
/// How often a condition of the gateway is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);
const LOG: &str = "gateway.log";
const LOG_LINES: usize = 30;
