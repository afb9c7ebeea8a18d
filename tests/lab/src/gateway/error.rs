//! Why the gateway did not do what it was told.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

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
