//! What upstreams said of late.
//!
//! Only findings about listed names come in, before any screening; every answer from here is
//! decided and screened anew, under the policy of its moment. So findings outlive a policy: else each
//! publication would send every question on to the upstreams at once, more than may wait for them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use policy::HostName;
use tokio::time::Instant;

use crate::screen::{Family, Finding};

/// A bounded store of findings, the least used forgotten first.
///
/// Two halves: what is put or got is moved into the young one; once that is full, the old one is
/// forgotten whole and the young one takes its place. What no longer holds is forgotten before that:
/// names that are asked for once take no room for longer than they hold. The hash is seeded, because
/// the names are chosen by subscribers.
#[derive(Debug)]
pub(crate) struct Cache {
    young: HashMap<HostName, Slots>,
    old: HashMap<HostName, Slots>,
    half: usize,
    swept: Option<Instant>,
}

/// One host's findings: by family and by whether unvalidated answers were asked for.
type Slots = [Option<Entry>; 4];

#[derive(Clone, Debug)]
struct Entry {
    finding: Arc<Finding>,
    found: Instant,
}

impl Entry {
    fn holds(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.found);
        age < Duration::from_secs(u64::from(self.finding.ttl))
    }
}

impl Cache {
    /// A cache that holds findings about `hosts` names.
    pub(crate) fn new(hosts: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Self { young, old, half: hosts / 2, swept: None }
    }

    /// What is known about `host`, and for how long already.
    pub(crate) fn get(
        &mut self,
        host: &HostName,
        slot: (Family, bool),
        now: Instant,
    ) -> Option<(Arc<Finding>, Duration)> {
        if !self.young.contains_key(host) {
            let (host, slots) = self.old.remove_entry(host)?;
            self.make_room();
            self.young.insert(host, slots);
        }
        let place = self.young.get_mut(host)?.get_mut(index(slot))?;
        let entry = place.as_ref()?;
        if !entry.holds(now) {
            *place = None;
            return None;
        }
        Some((Arc::clone(&entry.finding), now.saturating_duration_since(entry.found)))
    }

    /// Keeps `finding`, unless its lifetime is 0.
    pub(crate) fn put(
        &mut self,
        host: &HostName,
        slot: (Family, bool),
        finding: Arc<Finding>,
        now: Instant,
    ) {
        if finding.ttl == 0 {
            return;
        }
        self.sweep(now);
        if !self.young.contains_key(host) {
            let slots = self.old.remove(host).unwrap_or_default();
            self.make_room();
            self.young.insert(host.clone(), slots);
        }
        if let Some(place) = self.young.get_mut(host).and_then(|slots| slots.get_mut(index(slot))) {
            *place = Some(Entry { finding, found: now });
        }
    }

    /// Forgets what no longer holds, now and then.
    fn sweep(&mut self, now: Instant) {
        let swept = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(swept) < SWEEP_EVERY {
            return;
        }
        self.swept = Some(now);
        for half in [&mut self.young, &mut self.old] {
            half.retain(|_, slots| {
                for place in slots.iter_mut() {
                    if place.as_ref().is_some_and(|entry| !entry.holds(now)) {
                        *place = None;
                    }
                }
                slots.iter().any(Option::is_some)
            });
        }
    }

    fn make_room(&mut self) {
        if self.young.len() >= self.half {
            // Both keep their room, which would be had anew each time.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

fn index((family, checking_disabled): (Family, bool)) -> usize {
    let family = match family {
        Family::V4 => 0,
        Family::V6 => 1,
    };
    family * 2 + usize::from(checking_disabled)
}

/// How often the cache is looked through; all of it, full, takes less than a millisecond.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Names in the cache of one resolver.
pub(crate) const MAX_HOSTS: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use policy::HostName;
    use tokio::time::Instant;

    use super::Cache;
    use crate::screen::{End, Family, Finding};

    const SLOT: (Family, bool) = (Family::V4, false);

    #[test]
    fn forgets_after_the_lifetime_and_tells_the_age() {
        let (mut cache, start, host) = (Cache::new(8), Instant::now(), host(0));
        cache.put(&host, SLOT, finding(30), start);
        let (_, age) = cache.get(&host, SLOT, start + Duration::from_secs(29)).unwrap();
        assert_eq!(age.as_secs(), 29);
        assert_eq!(cache.get(&host, (Family::V6, false), start), None);
        assert_eq!(cache.get(&host, (Family::V4, true), start), None);
        assert_eq!(cache.get(&host, SLOT, start + Duration::from_secs(30)), None);
    }

    #[test]
    fn keeps_nothing_whose_lifetime_is_zero() {
        let (mut cache, start) = (Cache::new(8), Instant::now());
        cache.put(&host(0), SLOT, finding(0), start);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn never_holds_more_than_its_bound_and_keeps_what_is_used() {
        let (mut cache, start, used) = (Cache::new(8), Instant::now(), host(0));
        cache.put(&used, SLOT, finding(30), start);
        for number in 1..1_000 {
            cache.put(&host(number), SLOT, finding(30), start);
            assert!(cache.get(&used, SLOT, start).is_some(), "after {number}");
            assert!(cache.len() <= 8, "after {number}");
        }
    }

    #[test]
    fn forgets_what_nobody_asks_for_again() {
        let (mut cache, start) = (Cache::new(1_000), Instant::now());
        for number in 0..100 {
            cache.put(&host(number), SLOT, finding(if number < 50 { 30 } else { 5 }), start);
        }
        for (seconds, expected) in [(9, 101), (10, 52), (29, 53), (30, 54), (39, 5)] {
            let now = start + Duration::from_secs(seconds);
            let number = 1_000 + u32::try_from(seconds).unwrap();
            cache.put(&host(number), SLOT, finding(300), now);
            assert_eq!(cache.len(), expected, "after {seconds} s");
        }
    }

    fn host(number: u32) -> HostName {
        HostName::parse(&format!("h{number}.example")).unwrap()
    }

    fn finding(ttl: u32) -> Arc<Finding> {
        Arc::new(Finding { aliases: Vec::new(), end: End::NoData(None), ttl })
    }
}
