//! Everything that is known, given to the process that takes this one's place.
//!
//! What a store holds is given by letting go of the store, all else as rows. Until the other process
//! serves, it can be taken back: nothing that changes in between is confirmed to anybody.

use tokio::sync::{mpsc, oneshot};

use super::rows::Row;

/// The way to ask the keeper.
#[derive(Clone, Debug)]
pub(crate) struct Transfer(mpsc::Sender<Order>);

/// What the keeper is asked.
#[derive(Debug)]
pub(super) enum Order {
    /// To let go of the store, and tell what no store holds.
    Give(oneshot::Sender<Vec<Vec<u8>>>),
    /// To go on as before.
    TakeBack,
}

impl Transfer {
    pub(super) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Lets go of everything; returns the rows that no store holds, in packets. Blocks.
    pub(crate) fn give(&self) -> Vec<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        // A keeper that ended has let go already.
        let _ = self.0.blocking_send(Order::Give(answer));
        answered.blocking_recv().unwrap_or_default()
    }

    /// Goes on as before, if anything was given. Blocks.
    pub(crate) fn take_back(&self) {
        let _ = self.0.blocking_send(Order::TakeBack);
    }
}

/// The rows in packets, each a message of the line between two processes.
pub(super) fn pack(rows: impl IntoIterator<Item = Row>) -> Result<Vec<Vec<u8>>, postcard::Error> {
    let rows: Vec<Row> = rows.into_iter().collect();
    rows.chunks(ROWS).map(postcard::to_stdvec).collect()
}

/// The rows of one packet.
pub(super) fn unpack(packet: &[u8]) -> Result<Vec<Row>, postcard::Error> {
    postcard::from_bytes(packet)
}

/// Rows of a packet: with eight claims each, half of what a socket takes at once.
const ROWS: usize = 64;
