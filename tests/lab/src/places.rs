//! Who lives in the emulated Internet: every host of the published Mobile Plans table with the
//! schemes it is listed for, the operator's own hosts, and decoys that a SIM in the garden must
//! never reach.
//!
//! The table is the lab's own copy, on purpose: a mistake in the gateway's copy must not agree with
//! itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::family::Family;

/// The schemes a host is listed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schemes {
    /// Plain HTTP on port 80.
    pub http: bool,
    /// TLS on port 443.
    pub https: bool,
}

/// One row of the published table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The host as the page prints it, with its capitals and its star.
    pub printed: &'static str,
    /// A name the row covers; the row itself unless it is a pattern.
    pub name: &'static str,
    /// The schemes the page prints.
    pub schemes: Schemes,
}

/// What a place is in the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A host of the published table.
    Listed,
    /// A host the operator runs and lists itself.
    Operator,
    /// A host the operator runs but lists only after a reload.
    Late,
    /// A host a SIM in the garden must never reach.
    Decoy,
}

/// One host of the emulated Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Host name, lower case.
    pub name: &'static str,
    /// Its part in the story.
    pub role: Role,
    /// The schemes it is listed for; a decoy is listed for none.
    pub schemes: Schemes,
    /// Last part of its addresses. Two places with one number share their addresses.
    number: u8,
}

impl Place {
    /// Its address in the emulated Internet.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(203, 0, 113, self.number).into(),
            Family::V6 => {
                Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, u16::from(self.number)).into()
            }
        }
    }
}

/// Every place of the emulated Internet: the rows in the table's order, then the operator, then the
/// decoys.
pub fn places() -> impl Iterator<Item = Place> {
    let listed = LISTED.iter().zip(FIRST_LISTED..).map(|(row, number)| Place {
        name: row.name,
        role: Role::Listed,
        schemes: row.schemes,
        number,
    });
    listed.chain(OTHERS)
}

/// The place of that name, in any case of letters.
#[must_use]
pub fn place(name: &str) -> Option<Place> {
    places().find(|place| place.name.eq_ignore_ascii_case(name))
}

const HTTP: Schemes = Schemes { http: true, https: false };
const HTTPS: Schemes = Schemes { http: false, https: true };
const BOTH: Schemes = Schemes { http: true, https: true };
const NONE: Schemes = Schemes { http: false, https: false };

const fn row(printed: &'static str, name: &'static str, schemes: Schemes) -> Row {
    Row { printed, name, schemes }
}

/// The table "Mobile Plans walled garden" of the Windows driver documentation, as published since
/// 2023-12-12, in its spelling.
pub const LISTED: [Row; 15] = [
    row("ctldl.windowsupdate.com", "ctldl.windowsupdate.com", HTTP),
    row("www.msftconnecttest.com", "www.msftconnecttest.com", HTTP),
    row("login.live.com", "login.live.com", BOTH),
    row("storagetos.datamart.windows.com", "storagetos.datamart.windows.com", BOTH),
    row("cdp1.public-trust.com", "cdp1.public-trust.com", HTTP),
    row("ocsp.omniroot.com", "ocsp.omniroot.com", HTTP),
    row("vassg142.ocsp.omniroot.com", "vassg142.ocsp.omniroot.com", HTTP),
    row("vassg142.crl.omniroot.com", "vassg142.crl.omniroot.com", HTTP),
    row("mscrl.microsoft.com", "mscrl.microsoft.com", HTTP),
    row("crl.microsoft.com", "crl.microsoft.com", HTTP),
    row("crl3.digicert.com", "crl3.digicert.com", HTTP),
    row("Ocsp.digicert.com", "ocsp.digicert.com", HTTP),
    row("mps.datamart.windows.com", "mps.datamart.windows.com", BOTH),
    row("staging.datamart.windows.com", "staging.datamart.windows.com", BOTH),
    row("*smartscreen.microsoft.com", "nav.smartscreen.microsoft.com", HTTPS),
];

const FIRST_LISTED: u8 = 10;
const LOGIN: u8 = FIRST_LISTED + 2;

const OTHERS: [Place; 6] = [
    other("portal.acme.example", Role::Operator, HTTPS, 100),
    other("smdp.acme.example", Role::Operator, HTTPS, 101),
    other("status.acme.example", Role::Late, HTTPS, 102),
    other("www.bing.com", Role::Decoy, NONE, 200),
    other("twin.example", Role::Decoy, NONE, LOGIN),
    other("forged.example", Role::Decoy, NONE, 201),
];

const fn other(name: &'static str, role: Role, schemes: Schemes, number: u8) -> Place {
    Place { name, role, schemes, number }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_twin_shares_the_addresses_of_the_sign_in_page_and_nobody_else_shares() {
        let twin = place("twin.example").unwrap();
        let login = place("LOGIN.live.com").unwrap();
        let mut seen = BTreeSet::new();
        for family in Family::BOTH {
            assert_eq!(twin.address(family), login.address(family));
            for place in places().filter(|place| place.name != twin.name) {
                assert!(seen.insert(place.address(family)), "{}", place.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_lower_case() {
        let names: BTreeSet<_> = places().map(|place| place.name).collect();
        assert_eq!(names.len(), places().count());
        assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
    }
}
