//! What comes into force without a new policy: the windows of schedules, the last days of entries,
//! emergencies that an operator opens and that end.
//!
//! Each time the policy in force is published once more: what the kernel was told, what caches hold
//! and what live sessions were allowed follows a publication, and nothing else.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use policy::Snapshot;
use tokio_util::sync::CancellationToken;

use super::Reloader;
use crate::{
    clock,
    emergency::{Opening, OpeningError},
    log::Event,
};

impl Reloader {
    /// Follows the clock until `stop`.
    pub(crate) async fn follow_clock(self: Arc<Self>, stop: CancellationToken) {
        let mut published = self.published.subscribe();
        let mut since = clock::now();
        loop {
            let wait = self.wait(since, clock::now());
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender lives as long as this reloader.
                Ok(()) = published.changed() => continue,
                () = tokio::time::sleep(wait) => {}
            }
            let now = clock::now();
            let due = self.next_change(since).is_some_and(|moment| moment <= now);
            // What fails is due again.
            if !due || self.change_with_time(now).await {
                since = now;
            } else {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// How long to sleep at `now`, if everything up to `since` is done.
    fn wait(&self, since: Timestamp, now: Timestamp) -> Duration {
        let next = self.next_change(since);
        let left = next.map(|moment| Duration::try_from(moment.duration_since(now)));
        match left {
            Some(Ok(left)) => left.min(LOOK),
            Some(Err(_)) => Duration::ZERO,
            None => LOOK,
        }
    }

    fn next_change(&self, since: Timestamp) -> Option<Timestamp> {
        self.court.store().current()?.policy().next_change(since)
    }

    /// Publishes once more what decides otherwise from `now` on; whether that is done.
    async fn change_with_time(&self, now: Timestamp) -> bool {
        let _turn = self.turn.lock().await;
        let ended = match self.openings.remove(|opening| opening.until <= now) {
            Ok(ended) => ended,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "an emergency has ended and is still kept");
                return false;
            }
        };
        for Opening { class, .. } in &ended {
            tracing::warn!(class, "emergency ended");
            self.audit.write(&Event::EmergencyClosed { class, trigger: "time" }, now);
        }
        match self.publish_again().await {
            Ok((generation, closed)) => {
                tracing::info!(generation, closed, "the policy decides otherwise from now on");
                true
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "what has ended cannot be shut yet");
                false
            }
        }
    }

    /// The classes that are open in an emergency.
    pub(crate) fn openings(&self) -> Vec<Opening> {
        self.openings.list()
    }

    /// Opens a class.
    ///
    /// # Errors
    ///
    /// Says why it cannot be opened; everything stays as it was.
    pub(crate) async fn open(&self, opening: Opening) -> Result<(), OpeningError> {
        let _turn = self.turn.lock().await;
        let class = opening.class.clone();
        may_be_opened(self.court.store().current().as_deref(), &class)?;
        let before = self.openings.add(opening.clone())?;
        if let Err(error) = self.publish_again().await {
            // Nothing half-applied: what is in force is what was.
            self.openings.remove(|known| known.class == class)?;
            if let Some(before) = before {
                self.openings.add(before)?;
            }
            return Err(error);
        }
        let Opening { class, until, reason, .. } = &opening;
        tracing::warn!(class, %until, reason, "emergency: class opened");
        self.audit.write(&Event::EmergencyOpened { class, until: *until, reason }, clock::now());
        Ok(())
    }

    /// Closes the class of this name, or all that are open; says which were.
    ///
    /// # Errors
    ///
    /// They cannot be closed; they stay listed, and end by themselves.
    pub(crate) async fn close(&self, class: Option<&str>) -> Result<Vec<Opening>, OpeningError> {
        let _turn = self.turn.lock().await;
        let picked = |opening: &Opening| class.is_none_or(|class| opening.class == class);
        let closed = self.openings.remove(picked)?;
        if closed.is_empty() {
            return Ok(closed);
        }
        if let Err(error) = self.publish_again().await {
            for opening in closed {
                self.openings.add(opening)?;
            }
            return Err(error);
        }
        for Opening { class, .. } in &closed {
            tracing::warn!(class, "emergency: class closed");
            let event = Event::EmergencyClosed { class, trigger: "admin" };
            self.audit.write(&event, clock::now());
        }
        Ok(closed)
    }

    async fn publish_again(&self) -> Result<(u64, usize), OpeningError> {
        let running = self.court.store().current().ok_or(OpeningError::NoPolicy)?;
        let (snapshot, closed) =
            self.put_in_force(running.policy().clone()).await.map_err(OpeningError::Kernel)?;
        Ok((snapshot.generation(), closed))
    }
}

fn may_be_opened(running: Option<&Snapshot>, name: &str) -> Result<(), OpeningError> {
    let class = running.ok_or(OpeningError::NoPolicy)?.policy().class(name);
    match class {
        Some(class) if class.may_be_opened() => Ok(()),
        Some(class) => {
            let action = class.action().label();
            Err(OpeningError::Action { class: name.to_owned(), action })
        }
        None => Err(OpeningError::NoClass { class: name.to_owned() }),
    }
}

/// The longest sleep: the wall clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(20);
/// After what failed.
const RETRY: Duration = Duration::from_secs(2);
