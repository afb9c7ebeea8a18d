//! One thread with one socket: takes what has arrived, answers it, looks whether it should stop.

use std::{io, time::Duration};

use tokio::sync::mpsc::{Sender, error::TrySendError};
use tokio_util::sync::CancellationToken;

use super::{
    backlog::Backlog,
    batch::{Arrival, BATCH, Inbox, Outbox, Wait},
    late::Late,
    socket::Socket,
};
use crate::{
    metrics::{Tally, Transport},
    respond::{Asker, Begun, Moment, Responder, Slate},
    wire::Dropped,
};

/// What the thread needs for one batch, kept from one to the next.
struct Worker<'w> {
    responder: &'w Responder,
    late: &'w Sender<Late>,
    slate: Slate,
    outbox: Outbox,
    backlog: Backlog,
    tally: Tally,
}

/// Answers what arrives on `socket` until `stop`; what must wait goes to `late`.
pub(super) fn serve(
    socket: &Socket,
    responder: &Responder,
    late: &Sender<Late>,
    stop: &CancellationToken,
) {
    let mut inbox = Inbox::new(socket);
    let mut worker = Worker {
        responder,
        late,
        slate: Slate::with_packets(),
        outbox: Outbox::new(socket),
        backlog: Backlog::new(),
        tally: responder.metrics().tally(Transport::Udp),
    };
    while !stop.is_cancelled() {
        match inbox.receive(socket, Wait::ForOne, |arrivals| worker.answer(socket, arrivals)) {
            Ok(count) => {
                worker.backlog.answered(count);
                if count == BATCH {
                    // More may wait.
                    worker.catch_up(socket, &mut inbox, stop);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot receive questions");
                rest();
            }
        }
    }
}

impl Worker<'_> {
    /// Answers what has piled up, and what arrives meanwhile, until nothing waits.
    fn catch_up(&mut self, socket: &Socket, inbox: &mut Inbox, stop: &CancellationToken) {
        loop {
            // What is not taken yet is the successor's.
            while !stop.is_cancelled() && self.backlog.has_room() {
                let backlog = &mut self.backlog;
                match inbox.receive(socket, Wait::ForNone, |arrivals| backlog.keep(arrivals)) {
                    Ok(BATCH) => {}
                    // Whatever is wrong is found again by the next call that waits.
                    Ok(_) | Err(_) => break,
                }
            }
            let Some(bundle) = self.backlog.next() else { return };
            self.answer(socket, &mut bundle.arrivals());
            self.backlog.done(bundle);
        }
    }

    /// Answers one batch, all of it under the policy that is in force once it has arrived.
    fn answer(&mut self, socket: &Socket, arrivals: &mut dyn Iterator<Item = Arrival<'_>>) {
        let moment = self.responder.moment();
        for arrival in arrivals {
            self.answer_one(arrival, &moment);
        }
        // Counted first: whoever has an answer finds it counted.
        self.responder.metrics().add(&mut self.tally, moment.started().elapsed());
        for _ in 0..self.outbox.send(socket) {
            self.responder.metrics().dropped(Dropped::Unsent);
        }
    }

    fn answer_one(&mut self, Arrival { message, path }: Arrival<'_>, moment: &Moment) {
        let Some(message) = message else {
            self.responder.metrics().dropped(Dropped::Long);
            return;
        };
        let Some(blank) = self.outbox.blank() else { return };
        let asker = Asker { from: path.from, to: Some(path.door.to), transport: Transport::Udp };
        match self.responder.begin(message, asker, moment, &mut self.slate, blank) {
            Begun::Silence => return,
            Begun::Said(said) => self.tally.answered(said),
            Begun::Later(question) => match self.late.try_send(Late { question, path }) {
                Ok(()) => return,
                Err(TrySendError::Full(late) | TrySendError::Closed(late)) => {
                    self.tally.answered(self.responder.turn_away(&late.question, blank));
                }
            },
        }
        self.outbox.seal(path);
    }
}

/// Rests after the kernel failed to hand datagrams over.
#[expect(clippy::disallowed_methods, reason = "no event says that the kernel has recovered")]
fn rest() {
    std::thread::sleep(Duration::from_millis(10));
}
