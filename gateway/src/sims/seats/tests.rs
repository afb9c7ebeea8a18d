use policy::Identity;

use super::*;

fn place(text: &str) -> Place {
    Place { domain: 0, prefix: Prefix::new(text.parse().unwrap()).unwrap() }
}

fn imsi(number: u32) -> Imsi {
    Imsi::parse(&format!("00101{number:010}")).unwrap()
}

fn facts(number: u32) -> Facts {
    Facts { imsi: Some(imsi(number)), apn: Some(Apn::new("internet")), ..Facts::default() }
}

#[test]
fn longest_prefix_wins_and_leaves_the_wider_one() {
    let seats = Seats::new();
    seats.set(place("2001:db8:1:200::/56"), Some(&facts(1)));
    seats.set(place("2001:db8:1::/48"), Some(&facts(2)));
    seats.set(place("2001:db8:1:203::/64"), Some(&facts(3)));
    let who = |text: &str| {
        let address: IpAddr = text.parse().unwrap();
        let found = seats.subscriber(0, address);
        (1..=3).find(|number| {
            let expected = Subscriber::at(address).with_imsi(imsi(*number));
            found == expected.with_apn(Apn::new("internet"))
        })
    };
    assert_eq!(who("2001:db8:1:203::9"), Some(3));
    assert_eq!(who("2001:db8:1:204::9"), Some(1));
    assert_eq!(who("2001:db8:1:304::9"), Some(2));
    assert_eq!(who("2001:db8:2::9"), None);
    seats.set(place("2001:db8:1:203::/64"), None);
    seats.set(place("2001:db8:1:200::/56"), None);
    assert_eq!(who("2001:db8:1:203::9"), Some(2));
    seats.set(place("2001:db8:1::/48"), None);
    assert_eq!(who("2001:db8:1:203::9"), None);
    assert_eq!(seats.lengths.load(Ordering::Relaxed), 0, "no length is looked for in vain");
}

#[test]
fn an_address_of_another_domain_is_another_one() {
    let seats = Seats::new();
    seats.set(Place { domain: 1, ..place("100.64.0.1/32") }, Some(&facts(1)));
    let address: IpAddr = "100.64.0.1".parse().unwrap();
    assert_eq!(seats.subscriber(0, address), Subscriber::at(address));
    assert_ne!(seats.subscriber(1, address), Subscriber::at(address));
    let mut seen = 0;
    seats.each(0, |_, _| seen += 1);
    assert_eq!(seen, 0);
}

#[test]
fn counts_bindings_by_state() {
    let seats = Seats::new();
    let active = Facts { state: Some(SimState::Active), ..facts(1) };
    seats.set(place("100.64.0.1/32"), Some(&facts(1)));
    seats.set(place("100.64.0.2/32"), Some(&active));
    seats.set(place("100.64.0.1/32"), Some(&active));
    let of = |state| seats.totals().into_iter().find(|(label, _)| *label == state).unwrap().1;
    assert_eq!((of("active"), of("unknown")), (2, 0));
    seats.set(place("100.64.0.1/32"), None);
    assert_eq!((of("active"), of("barred")), (1, 0));
}
