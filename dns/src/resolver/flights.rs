//! Questions that are under way, each of them once, however many wait for the answer.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::watch, task::JoinSet};

/// What is under way. A flight that began goes on when nobody waits any more, and is ended with
/// this.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// The wait for one flight.
#[derive(Debug)]
pub(super) struct Flight<V>(watch::Receiver<Option<V>>);

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { under_way: Arc::default(), tasks: Mutex::default() }
    }

    /// Joins the flight for `key`; if there is none, `begin` is it.
    pub(super) fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = under_way.get(&key) {
            return Flight(flight.clone());
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        drop(under_way);
        let entry = Entry { key, under_way: Arc::clone(&self.under_way) };
        let flight = begin();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let value = flight.await;
            // Whoever comes from here on finds the value stored, or begins anew.
            drop(entry);
            sender.send_replace(Some(value));
        });
        Flight(receiver)
    }
}

impl<V: Clone> Flight<V> {
    /// Waits for the end; `None` if there will be none.
    pub(super) async fn land(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Takes a flight off the list, however it ends.
struct Entry<K: Eq + Hash, V> {
    key: K,
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K: Eq + Hash, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::sync::Notify;

    use super::Flights;

    #[tokio::test]
    async fn begins_once_for_all_who_wait_and_goes_on_for_nobody() {
        let (flights, begun, gate) =
            (Flights::new(), Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let join = |key: u32| {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            flights.join(key, move || async move {
                begun.fetch_add(1, Ordering::Relaxed);
                gate.notified().await;
                key * 10
            })
        };
        let (first, second, other) = (join(1), join(1), join(2));
        drop(first);
        gate.notify_waiters();
        tokio::task::yield_now().await;
        gate.notify_one();
        gate.notify_one();
        assert_eq!((second.land().await, other.land().await), (Some(10), Some(20)));
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        assert!(flights.under_way.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn tells_of_a_flight_that_fell_and_begins_anew() {
        let flights: Flights<u32, u32> = Flights::new();
        let fallen = flights.join(1, || async { panic!("a bug") });
        assert_eq!(fallen.land().await, None);
        assert_eq!(flights.join(1, || async { 7 }).land().await, Some(7));
    }
}
