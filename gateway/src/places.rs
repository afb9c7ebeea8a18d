//! Places for those who have said nothing yet that could be judged: QUIC paths without a whole
//! hello, connections without a whole head, connections to the gateway's own pages.
//!
//! Each holds memory. So there is a bound on all of them, and one on those of a single subscriber.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::proxy::subscriber_key;

/// Places, and who has them.
#[derive(Clone)]
pub(crate) struct Places {
    limits: Limits,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Clone, Copy)]
struct Limits {
    all: usize,
    each: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// One place; given back when dropped.
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    subscriber: IpAddr,
}

impl Places {
    /// So many for `all` together, and for `each` subscriber.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { limits: Limits { all, each }, taken: Arc::default() }
    }

    /// A place for one more of the subscriber at `address`, if there is one.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let subscriber = subscriber_key(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.each.get(&subscriber).copied().unwrap_or_default();
        if taken.all >= self.limits.all || own >= self.limits.each {
            return None;
        }
        taken.all += 1;
        taken.each.insert(subscriber, own + 1);
        Some(Place { taken: Arc::clone(&self.taken), subscriber })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        match taken.each.get_mut(&self.subscriber) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => drop(taken.each.remove(&self.subscriber)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_one_and_of_all_are_bounded_and_given_back() {
        let places = Places::new(5, 2);
        let enter = |address: &str| places.enter(address.parse().unwrap());
        let one = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(one.iter().all(Option::is_some));
        assert!(enter("2001:db8::3").is_none(), "the same /64");
        let others = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(enter);
        assert!(others.iter().all(Option::is_some));
        assert!(enter("192.0.2.4").is_none());
        drop(one);
        let again = enter("2001:db8::3");
        assert!(again.is_some());
        drop((again, others));
        let taken = places.taken.lock().unwrap();
        assert_eq!((taken.all, taken.each.len()), (0, 0));
    }
}
