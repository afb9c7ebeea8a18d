//! Keeps the servers' core to itself now and then, as a host does with a virtual machine: a program
//! that the kernel prefers to every other.

use std::{hint, process::Child, thread, time::Duration};

use crate::{client::now, servers::preferred};

/// The program; ends with the value.
pub(crate) struct Keeper(Child);

impl Keeper {
    pub(crate) fn start() -> Self {
        // Above the sentinel, which sees it therefore.
        Self(preferred("keeper", "60").spawn().unwrap())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the program does, until it is killed.
pub(crate) fn keep() {
    loop {
        thread::sleep(EVERY - KEPT);
        let until = now() + KEPT;
        while now() < until {
            hint::spin_loop();
        }
    }
}

const EVERY: Duration = Duration::from_secs(1);
/// Half a percent.
const KEPT: Duration = Duration::from_millis(5);
