use super::*;

#[test]
fn subscriber_is_one_ipv4_address_or_one_ipv6_64() {
    for (one, other, same) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
    ] {
        let key = |text: &str| subscriber_key(text.parse().unwrap());
        assert_eq!(key(one) == key(other), same, "{one} {other}");
    }
}

fn sessions(limits: Limits) -> Arc<Sessions> {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    Arc::new(Sessions::new(limits, metrics))
}

fn admit(
    sessions: &Arc<Sessions>,
    last: u8,
    class_limits: policy::Limits,
) -> Result<Session, SessionLimit> {
    let subscriber = IpAddr::from([192, 0, 2, last]);
    let now = Timestamp::UNIX_EPOCH;
    sessions.admit(subscriber, Protocol::Https, 443, None, class_limits, now)
}

#[test]
fn limits_trip_and_give_back() {
    let limits = Limits { sessions: 3, sessions_per_subscriber: 2, ..Limits::default() };
    let sessions = sessions(limits);
    let admit = |last: u8, limit| {
        admit(&sessions, last, policy::Limits { sessions: limit, ..policy::Limits::default() })
    };
    let first = admit(1, None).unwrap();
    let _second = admit(1, None).unwrap();
    assert_eq!(admit(1, None).err(), Some(SessionLimit::Subscriber { limit: 2 }));
    assert_eq!(admit(2, Some(0)).err(), Some(SessionLimit::Subscriber { limit: 0 }));
    let _third = admit(2, None).unwrap();
    assert_eq!(admit(3, None).err(), Some(SessionLimit::Total { open: 3, limit: 3 }));
    drop(first);
    let _fourth = admit(1, Some(7)).unwrap();
    assert_eq!(sessions.count(), 3);
    assert_eq!(sessions.live().len(), 3);
    assert_eq!(sessions.open.holders.load(Ordering::Relaxed), 2);
}

#[test]
fn pace_of_a_class_or_of_the_node_holds() {
    let sessions = sessions(Limits { sessions_per_second: 2, ..Limits::default() });
    let none = policy::Limits::default();
    let own = policy::Limits { sessions_per_second: Some(3), ..none };
    for (last, class_limits, pace) in [(1, none, 2), (2, own, 3)] {
        for _ in 0..pace {
            drop(admit(&sessions, last, class_limits).unwrap());
        }
        let refused = admit(&sessions, last, class_limits).err();
        let expected = SessionLimit::Quota(QuotaLimit::Pace { limit: pace });
        assert_eq!(refused, Some(expected));
    }
}

#[test]
fn hellos_that_do_not_come_leave_room_for_other_subscribers() {
    let sessions = sessions(Limits { hellos: 16, ..Limits::default() });
    let none = policy::Limits::default();
    let slow: Vec<_> = std::iter::from_fn(|| admit(&sessions, 1, none).ok()).collect();
    assert_eq!(slow.len(), 16, "alone, it may have all");
    drop(slow);
    let _light = admit(&sessions, 2, none).unwrap();
    let slow: Vec<_> = std::iter::from_fn(|| admit(&sessions, 1, none).ok()).collect();
    assert_eq!(slow.len(), 13, "up to the reserve");
    let refused = admit(&sessions, 1, none).err();
    assert_eq!(refused, Some(SessionLimit::Hellos { open: 14, limit: 16 }));
    let second = admit(&sessions, 2, none).unwrap();
    // With its verdict a session gives its place to the next hello.
    let host = HostName::parse("listed.example").unwrap();
    second.name(&host, 1);
    for session in &slow {
        session.name(&host, 1);
    }
    assert_eq!(sessions.unjudged.total.load(Ordering::Relaxed), 1);
    admit(&sessions, 1, none).unwrap();
    drop((slow, second));
    assert_eq!(sessions.unjudged.total.load(Ordering::Relaxed), 1);
    assert_eq!(sessions.unjudged.holders.load(Ordering::Relaxed), 1);
}
