//! Work that takes long and may wait, beside threads that have traffic to carry.

use std::{io, thread};

use tokio::sync::oneshot;

/// Does `work` on a thread of its own that gives way to all others, and still gets about a tenth of
/// a core where they would take it whole.
///
/// # Errors
///
/// There is no thread, or the work did not come to its end.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, waiting) = oneshot::channel();
    start(move || {
        // Nobody may wait any more.
        let _ = done.send(work());
    })?;
    waiting.await.map_err(io::Error::other)
}

/// As [`aside`], and nobody waits.
pub(crate) fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("postern-aside".to_owned());
    let working = thread.spawn(move || {
        // On Linux this is the priority of the calling thread alone. Without it the work is done
        // all the same.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "work stays at the priority of traffic");
        }
        work();
    });
    working.map(drop)
}

/// Of 0 to 19; ten weighs a tenth.
const NICE: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_way_and_leaves_others_as_they_are() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        assert!(aside(priority).await.unwrap() >= NICE);
        assert_eq!(priority(), before);
    }

    #[tokio::test]
    async fn says_that_work_did_not_come_to_its_end() {
        assert!(aside(|| panic!("on purpose")).await.is_err());
    }
}
