//! A Redis server of the lab's own, on loopback; it keeps nothing on disk.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::clock;

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Redis {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// When it is not installed, or does not answer.
    pub fn start() -> io::Result<Self> {
        Self::start_at(free_address()?)
    }

    /// Starts a server at this address.
    ///
    /// # Errors
    /// When it is not installed, or does not answer.
    pub fn start_at(address: SocketAddr) -> io::Result<Self> {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no"]);
        Self::run(tempfile::tempdir()?, command, address)
    }

    /// Starts a Sentinel that watches `server` under the name `master`, alone.
    ///
    /// # Errors
    /// When it is not installed, or does not answer.
    pub fn start_sentinel(server: &Self, master: &str) -> io::Result<Self> {
        let address = free_address()?;
        let watched = server.address;
        let settings = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor {master} {} {} 1\n\
             sentinel down-after-milliseconds {master} 500\n\
             sentinel failover-timeout {master} 2000\n",
            address.port(),
            watched.ip(),
            watched.port()
        );
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, settings)?;
        let mut command = Command::new("redis-server");
        command.arg(file).arg("--sentinel");
        Self::run(folder, command, address)
    }

    fn run(folder: TempDir, mut command: Command, address: SocketAddr) -> io::Result<Self> {
        let child = command.current_dir(folder.path()).stdout(Stdio::null()).spawn()?;
        let server = Self { child, address, _folder: folder };
        let deadline = clock::now() + START_LIMIT;
        while server.ask("PING").is_err() {
            if clock::now() >= deadline {
                return Err(io::Error::other("the Redis server does not answer"));
            }
            clock::pause();
        }
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives one command in a line, and returns what is answered, as Redis writes it.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error.
    pub fn ask(&self, command: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.is_empty() || answer.starts_with('-') {
            return Err(io::Error::other(answer));
        }
        Ok(answer)
    }

    /// Stops it as a crash would; its address is free.
    pub fn stop(self) -> SocketAddr {
        self.address
    }

    /// Freezes it: connections stay, nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id fits"));
        // One that has ended is frozen enough.
        let _ = signal::kill(pid, signal);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of the loopback interface that nobody uses.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

const START_LIMIT: Duration = Duration::from_secs(10);
