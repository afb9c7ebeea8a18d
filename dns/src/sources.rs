//! How much each subscriber has under way, so that none can take the room of all.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
};

use tokio::task;

/// Which source each task is for, and how many each has. Never larger than the tasks are many.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    tasks: HashMap<task::Id, IpAddr>,
    counts: HashMap<IpAddr, usize>,
}

impl Sources {
    /// How many tasks the subscriber at `address` has.
    pub(crate) fn count(&self, address: IpAddr) -> usize {
        self.counts.get(&source(address)).copied().unwrap_or_default()
    }

    /// Counts a task that began.
    pub(crate) fn enter(&mut self, task: task::Id, address: IpAddr) {
        let source = source(address);
        self.tasks.insert(task, source);
        *self.counts.entry(source).or_default() += 1;
    }

    /// Forgets a task that ended, however it did.
    pub(crate) fn leave(&mut self, task: task::Id) {
        let Some(source) = self.tasks.remove(&task) else { return };
        if let Entry::Occupied(mut count) = self.counts.entry(source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// One subscriber: an IPv4 address, or an IPv6 /64.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::task::JoinSet;

    use super::Sources;

    #[tokio::test]
    async fn counts_an_ipv6_64_as_one_and_forgets_what_ended() {
        let mut sources = Sources::default();
        let mut tasks = JoinSet::new();
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:192.0.2.1"];
        let addresses = addresses.map(|address| address.parse::<IpAddr>().unwrap());
        for address in addresses {
            sources.enter(tasks.spawn(async {}).id(), address);
        }
        let counts = || addresses.map(|address| sources.count(address));
        assert_eq!(counts(), [2, 2, 1, 1]);
        assert_eq!(sources.count("192.0.2.1".parse().unwrap()), 1);
        while let Some(ended) = tasks.join_next_with_id().await {
            sources.leave(ended.unwrap().0);
        }
        assert!(sources.tasks.is_empty() && sources.counts.is_empty());
    }
}
