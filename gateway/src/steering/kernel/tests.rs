//! Against the kernel, in a network namespace of the test's own.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use jiff::civil::date;
use policy::{SimState, Source, compile};

use super::*;
use crate::{
    config::{SteeringConfig, SteeringMode},
    steering::ruleset::{Ports, ruleset},
};

/// Who lives where, as the test says.
#[derive(Default)]
struct Street(Mutex<BTreeMap<IpNet, Resident>>);

impl Residents for Street {
    fn at(&self, block: IpNet) -> Option<Resident> {
        self.0.lock().unwrap().get(&block).cloned()
    }

    fn each(&self, visit: &mut dyn FnMut(IpNet, &Resident)) {
        self.0.lock().unwrap().iter().for_each(|(block, resident)| visit(*block, resident));
    }
}

impl Street {
    fn put(&self, block: &str, state: Option<SimState>, grant: Option<Pass>) -> IpNet {
        let block: IpNet = block.parse().unwrap();
        let mut street = self.0.lock().unwrap();
        match state {
            Some(state) => {
                let subscriber = Subscriber::at(block.network()).with_state(state);
                street.insert(block, Resident { subscriber, grant })
            }
            None => street.remove(&block),
        };
        block
    }
}

fn snapshot(generation: u64, open: &str) -> Arc<Snapshot> {
    let text = format!(
        "schema = 1\nname = \"t\"\nserial = {generation}\nenvironment = \"lab\"\ndefault_class = \"new\"\n\
         [http]\ndenied = \"close\"\n\
         [[class]]\nname = \"barred\"\npriority = 1\naction = \"drop\"\n[[class.match]]\nstate = [\"barred\"]\n\
         [[class]]\nname = \"paid\"\npriority = 2\naction = \"open\"\n[[class.match]]\nstate = [{open}]\n\
         [[class]]\nname = \"new\"\npriority = 3\naction = \"garden\"\n[[class.match]]\nstate = [\"unprovisioned\", \"exhausted\"]\n\
         [[class]]\nname = \"staff\"\npriority = 4\naction = \"open\"\n[[class.match]]\nnetworks = [\"100.64.9.0/24\"]\n"
    );
    let policy = compile(&Source { name: "t", text: &text }, date(2026, 1, 1)).unwrap().policy;
    Arc::new(Snapshot::new(policy, generation))
}

/// Runs `check` on a filled table.
fn with_kernel(check: impl FnOnce(Kernel, Arc<Street>)) {
    lab::private::test(|| {
        if !lab::private::is_inside() {
            return;
        }
        let config = SteeringConfig {
            brings_back: false,
            mode: SteeringMode::Tproxy,
            interfaces: vec!["lo".into()],
            install: true,
            mark: 7,
            table: 8,
            addresses: Vec::new(),
        };
        let both = |port: u16| {
            ["0.0.0.0", "[::]"].map(|any| format!("{any}:{port}").parse().unwrap()).to_vec()
        };
        let ports = Ports { dns: both(53), http: both(80), https: both(443), ..Ports::default() };
        let text = ruleset(&config, &ports, "note").unwrap();
        let mut child =
            Command::new("/usr/sbin/nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let street = Arc::new(Street::default());
        let residents = Arc::clone(&street) as Arc<dyn Residents>;
        check(Kernel::fill(snapshot(1, "\"active\""), residents).unwrap(), street);
    });
}

fn set(name: &str) -> Vec<String> {
    let listed =
        Command::new("/usr/sbin/nft").args(["list", "set", "inet", TABLE, name]).output().unwrap();
    let listing = String::from_utf8(listed.stdout).unwrap();
    let Some((_, rest)) = listing.split_once("elements = {") else { return Vec::new() };
    let (inside, _) = rest.split_once('}').unwrap();
    let first = |element: &str| element.split_whitespace().next().unwrap_or_default().to_owned();
    inside.split(',').map(first).collect()
}

#[test]
fn a_sim_is_lifted_and_walled_and_a_policy_moves_whole_classes() {
    with_kernel(|mut kernel, street| {
        assert_eq!(set("open4"), ["100.64.9.0/24"]);
        let four = street.put("100.64.0.1/32", Some(SimState::Unprovisioned), None);
        let six = street.put("2001:db8:64:1::/64", Some(SimState::Unprovisioned), None);
        let staff = street.put("100.64.9.1/32", Some(SimState::Unprovisioned), None);
        // In an open network, a SIM without a plan is walled by its class.
        assert_eq!(kernel.refresh(&[four, six, staff, staff]).unwrap(), [staff]);
        assert_eq!((set("sim_walled4"), set("sim_open4").len()), (vec!["100.64.9.1".into()], 0));
        assert_eq!([four, six, staff].map(|block| kernel.passes(block)), [false; 3]);
        for block in ["100.64.0.1/32", "2001:db8:64:1::/64"] {
            street.put(block, Some(SimState::Active), None);
        }
        assert_eq!(kernel.refresh(&[four, six]).unwrap(), []);
        assert_eq!([four, six].map(|block| kernel.passes(block)), [true; 2]);
        assert_eq!(
            (set("sim_open4"), set("sim_open6")),
            (vec!["100.64.0.1".into()], vec!["2001:db8:64:1::".into()])
        );
        // The next policy has it the other way round.
        kernel.follow(snapshot(2, "\"unprovisioned\"")).unwrap();
        assert_eq!((set("sim_open4"), set("sim_open6").len()), (vec![], 0));
        assert_eq!(set("sim_walled4").len(), 0);
        kernel.follow(snapshot(3, "\"active\"")).unwrap();
        street.put("100.64.0.1/32", Some(SimState::Exhausted), None);
        street.put("2001:db8:64:1::/64", None, None);
        assert_eq!(kernel.refresh(&[four, six]).unwrap(), [four, six]);
        assert_eq!((set("sim_open4").len(), set("sim_open6").len()), (0, 0));
    });
}

#[test]
fn sets_that_somebody_changed_are_filled_anew() {
    with_kernel(|mut kernel, street| {
        let block = street.put("100.64.0.1/32", Some(SimState::Active), None);
        kernel.refresh(&[block]).unwrap();
        let flush = ["flush", "set", "inet", TABLE, "sim_open4"];
        assert!(Command::new("/usr/sbin/nft").args(flush).status().unwrap().success());
        let other = street.put("100.64.0.2/32", Some(SimState::Active), None);
        street.put("100.64.0.1/32", Some(SimState::Barred), None);
        kernel.refresh(&[block, other]).unwrap();
        assert_eq!(set("sim_open4"), ["100.64.0.2"]);
    });
}

#[test]
fn a_grant_opens_both_families_by_one_quota_and_ends() {
    with_kernel(|mut kernel, street| {
        let left = Duration::from_secs(300);
        let pass = Pass { number: 7, left, bytes: 5_000_000, used: 100 };
        let state = Some(SimState::Unprovisioned);
        let four = street.put("100.64.0.1/32", state, Some(pass));
        let six = street.put("2001:db8:64:1::/64", state, Some(pass));
        let barred = street.put("100.64.0.2/32", Some(SimState::Barred), Some(pass));
        assert_eq!(kernel.refresh(&[four, six, barred]).unwrap(), []);
        assert_eq!(
            (set("granted4"), set("granted6")),
            (vec!["100.64.0.1".into()], vec!["2001:db8:64:1::".into()])
        );
        assert_eq!([four, six, barred].map(|block| kernel.passes(block)), [true, true, false]);
        assert_eq!(kernel.grants_used().unwrap(), [(7, 100)]);
        // The next process finds the count of a killed one.
        assert_eq!(grants_used_before().unwrap(), [(7, 100)]);
        // A reload keeps the grant and its count.
        kernel.follow(snapshot(2, "\"active\"")).unwrap();
        assert_eq!((set("granted4").len(), kernel.grants_used().unwrap()), (1, vec![(7, 100)]));
        for block in ["100.64.0.1/32", "2001:db8:64:1::/64"] {
            street.put(block, state, None);
        }
        assert_eq!(kernel.refresh(&[four, six]).unwrap(), [four, six]);
        assert_eq!((set("granted4").len(), set("granted6").len()), (0, 0));
        assert_eq!(kernel.grants_used().unwrap(), []);
    });
}
