//! Pipes for bytes that pass through the gateway without being copied into it.
//!
//! A direction of a session borrows a pipe only while bytes are in it, so few are needed. The
//! kernel gives an unprivileged user 64 MiB in pipes (`pipe-user-pages-soft`) and makes every
//! further one too small to be of use: what it does not give in full is not taken.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, PoisonError},
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// The pipes of one worker.
#[derive(Debug, Default)]
pub(super) struct Pipes(Mutex<Pool>);

/// A pipe on loan. It goes back when it is empty; with bytes in it, it is closed.
#[derive(Debug)]
pub(super) struct Loan<'p> {
    pipes: &'p Pipes,
    pipe: Option<Pipe>,
    octets: usize,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Pipe>,
    made: usize,
}

impl Pipes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// An empty pipe, if one is to be had.
    pub(super) fn lend(&self) -> Option<Loan<'_>> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = match pool.idle.pop() {
            Some(pipe) => pipe,
            None if pool.made >= MAX_PIPES => return None,
            None => {
                let pipe = Pipe::open().ok()?;
                pool.made += 1;
                pipe
            }
        };
        Some(Loan { pipes: self, pipe: Some(pipe), octets: 0 })
    }
}

impl Loan<'_> {
    /// Octets a pipe holds; a direction that is over its limit may have moved as many.
    pub(super) const OCTETS: usize = 512 * 1024;

    /// Octets in the pipe.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// Moves what has arrived at `source` into the empty pipe; 0 at its end.
    pub(super) fn fill(&mut self, source: impl AsFd) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::NotFound.into()) };
        let filled = splice(source, None, &pipe.write, None, Self::OCTETS, FLAGS)?;
        self.octets += filled;
        Ok(filled)
    }

    /// Moves what is in the pipe to `sink`, or as much of it as there is room for.
    pub(super) fn pour(&mut self, sink: impl AsFd) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::NotFound.into()) };
        let poured = splice(&pipe.read, None, sink, None, self.octets, FLAGS)?;
        self.octets = self.octets.saturating_sub(poured);
        Ok(poured)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let pipe = self.pipe.take().filter(|_| self.octets == 0);
        let mut pool = self.pipes.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pipe {
            Some(pipe) => pool.idle.push(pipe),
            None => pool.made = pool.made.saturating_sub(1),
        }
    }
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if fcntl_setpipe_size(&write, Loan::OCTETS)? < Loan::OCTETS {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(Self { read, write })
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
/// Pipes of one worker; those that wait for a slow reader are the ones in use.
const MAX_PIPES: usize = 64;

#[cfg(test)]
impl Pipes {
    /// A pool that lends nothing.
    pub(super) fn none() -> Self {
        Self(Mutex::new(Pool { idle: Vec::new(), made: MAX_PIPES }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pool_is_bounded_and_lends_the_same_pipes_again() {
        let pipes = Pipes::new();
        let mut lent: Vec<Loan<'_>> = std::iter::from_fn(|| pipes.lend()).collect();
        let count = lent.len();
        // Fewer where the user has pipes elsewhere.
        assert!(count > 0 && count <= MAX_PIPES, "{count}");
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        far.write_all(b"octets").unwrap();
        assert_eq!(lent[0].fill(&near).unwrap(), 6);
        drop(lent);
        assert_eq!(pipes.0.lock().unwrap().idle.len(), count - 1, "one was not empty");
        let again: Vec<Loan<'_>> = std::iter::from_fn(|| pipes.lend()).collect();
        assert_eq!(again.len(), count);
    }
}
