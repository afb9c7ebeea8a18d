//! How many may wait who have not said yet what for: QUIC paths without a whole hello, connections
//! without a whole head.
//!
//! Each holds memory for somebody who has said nothing that could be judged. Only the worker that
//! accepts on a socket counts who waits there, so its lock is always free.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::sessions::subscriber_key;

/// Those who wait at one socket of a listener; each worker has one.
#[derive(Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Count>>);

#[derive(Default)]
struct Count {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// The place of one who waits; given back when dropped.
pub(super) struct Place {
    pending: Pending,
    subscriber: IpAddr,
}

impl Pending {
    /// A place for one more of `subscriber`, if there is one.
    pub(super) fn enter(&self, subscriber: IpAddr) -> Option<Place> {
        let subscriber = subscriber_key(subscriber);
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = count.each.get(&subscriber).copied().unwrap_or_default();
        if count.all >= MAX_PENDING || each >= MAX_PENDING_EACH {
            return None;
        }
        count.all += 1;
        count.each.insert(subscriber, each + 1);
        Some(Place { pending: self.clone(), subscriber })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut count = self.pending.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.all = count.all.saturating_sub(1);
        match count.each.get_mut(&self.subscriber) {
            Some(each) if *each > 1 => *each -= 1,
            Some(_) | None => drop(count.each.remove(&self.subscriber)),
        }
    }
}

/// Of all subscribers at one socket; with what each may hold, about 70 MB.
const MAX_PENDING: usize = 1_024;
/// Of one subscriber at one socket.
const MAX_PENDING_EACH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_and_of_all_are_bounded_and_given_back() {
        let pending = Pending::default();
        let subscriber = |number: usize| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
        let one: Vec<Place> =
            (0..MAX_PENDING_EACH).map(|_| pending.enter(subscriber(0)).unwrap()).collect();
        assert!(pending.enter(subscriber(0)).is_none());
        let others: Vec<Place> = (MAX_PENDING_EACH..MAX_PENDING)
            .map(|number| pending.enter(subscriber(number)).unwrap())
            .collect();
        assert!(pending.enter(subscriber(1)).is_none());
        drop(one);
        let again = pending.enter(subscriber(0));
        assert!(again.is_some());
        drop((again, others));
        let count = pending.0.lock().unwrap();
        assert_eq!((count.all, count.each.len()), (0, 0));
    }
}
