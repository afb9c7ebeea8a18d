use policy::{Iccid, Identity, Imsi, Msisdn};

use super::*;

fn id(text: &str) -> SimId {
    SimId::parse(text).unwrap()
}

fn all(texts: &[&str]) -> Identities {
    texts.iter().fold(Identities::default(), |known, text| known.or(id(text).into()))
}

const ICCID: &str = "iccid:8988247000100003319";
const IMSI: &str = "imsi:001010000000001";
const OTHER: &str = "imsi:001010000000002";
const MSISDN: &str = "msisdn:4915112345678";

#[test]
fn a_sim_is_found_by_each_identity() {
    let mut registry = Registry::new(10);
    let sim = registry.learn(all(&[IMSI, MSISDN])).unwrap().sim;
    assert_eq!(registry.learn(all(&[ICCID, IMSI])).unwrap().sim, sim);
    for text in [ICCID, IMSI, MSISDN] {
        assert_eq!(registry.find(id(text)), Some(sim), "{text}");
    }
    assert_eq!(registry.find(id(OTHER)), None);
    assert!(!registry.learn(all(&[ICCID])).unwrap().changed);
}

#[test]
fn the_shop_s_record_and_the_network_s_become_one() {
    let mut registry = Registry::new(10);
    let shop = registry.learn(all(&[ICCID])).unwrap().sim;
    registry.get_mut(shop).unwrap().state = Some(SimState::Active);
    let network = registry.learn(all(&[IMSI, MSISDN])).unwrap().sim;
    let learned = registry.learn(all(&[ICCID, IMSI])).unwrap();
    assert_eq!((learned.sim, learned.merged, registry.len()), (network, None, 1));
    assert_eq!(registry.get(network).unwrap().state, Some(SimState::Active));
    assert_eq!(registry.find(id(ICCID)), Some(network));
}

#[test]
fn a_number_that_moves_takes_no_state_along() {
    let mut registry = Registry::new(10);
    let old = registry.learn(all(&[IMSI, MSISDN])).unwrap().sim;
    registry.get_mut(old).unwrap().state = Some(SimState::Active);
    let new = registry.learn(all(&[OTHER, MSISDN])).unwrap();
    assert_eq!((new.merged, &new.robbed[..]), (None, &[old][..]));
    assert_ne!(new.sim, old);
    assert_eq!(registry.get(new.sim).unwrap().state, None);
    assert_eq!(registry.find(id(MSISDN)), Some(new.sim));
    assert_eq!(registry.get(old).unwrap().identities, all(&[IMSI]));
}

#[test]
fn refuses_one_sim_too_many_and_forgets_those_without_use() {
    let mut registry = Registry::new(1);
    let sim = registry.learn(all(&[IMSI])).unwrap().sim;
    assert_eq!(registry.learn(all(&[OTHER])), Err(Full { limit: 1 }));
    registry.get_mut(sim).unwrap().claims = 1;
    assert!(registry.forget(sim).is_none());
    registry.get_mut(sim).unwrap().claims = 0;
    assert_eq!(registry.forget(sim).map(|sim| sim.identities), Some(all(&[IMSI])));
    assert_eq!((registry.find(id(IMSI)), registry.len()), (None, 0));
    assert!(registry.learn(all(&[OTHER])).is_ok());
}

#[test]
fn identities_are_of_their_own_kind() {
    let same = "00101000000000";
    let mut registry = Registry::new(10);
    let imsi = registry.learn(SimId::Imsi(Imsi::parse(same).unwrap()).into()).unwrap().sim;
    let msisdn = registry.learn(SimId::Msisdn(Msisdn::parse(same).unwrap()).into()).unwrap().sim;
    assert_ne!(imsi, msisdn);
    assert!(Iccid::parse(same).is_err());
}
