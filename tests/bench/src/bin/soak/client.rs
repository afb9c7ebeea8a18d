//! The subscribers: attempts at a pace, whatever becomes of them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bench::{Numbers, garden};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{attempt::Kind, pace::Pace, watch};

/// Makes attempts at this pace, drawn from `seed`, and says every ten seconds how they ended.
pub(crate) async fn attempts(to: SocketAddr, mut pace: Pace, lasting: Duration, seed: u64) {
    let mut numbers = Numbers::new(seed);
    let names = Arc::new((garden::names(), garden::other_names()));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let mut ended: BTreeMap<String, u64> = BTreeMap::new();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    let (mut made, mut due, mut told, mut late) = (0.0, 0.0, 0, 0_u64);
    let mut before = Duration::ZERO;
    while begun.elapsed() < lasting {
        ticks.tick().await;
        let now = begun.elapsed();
        due += pace.due(now.saturating_sub(before), AT_ONCE - places.available_permits());
        before = now;
        while made < due {
            made += 1.0;
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                late += 1;
                continue;
            };
            let (kind, draw) = (Kind::draw(&mut numbers), numbers.draw());
            let names = Arc::clone(&names);
            running.spawn(async move {
                let _place = place;
                kind.make(to, &names.0, &names.1, draw).await
            });
        }
        while let Some(done) = running.try_join_next() {
            *ended.entry(done.unwrap_or_else(|error| error.to_string())).or_default() += 1;
        }
        let tens = begun.elapsed().as_secs() / REPORT;
        if tens > told {
            told = tens;
            println!("{} {pace} late={late}", watch::said(&ended));
        }
    }
    while let Some(done) = running.join_next().await {
        *ended.entry(done.unwrap_or_else(|error| error.to_string())).or_default() += 1;
    }
    println!("{} {pace} late={late}", watch::said(&ended));
}

/// Attempts that may be open at once; those beyond are not made, and counted as late.
const AT_ONCE: usize = 4_000;
const TICK: Duration = Duration::from_millis(5);
/// Seconds from one line to the next.
const REPORT: u64 = 10;
