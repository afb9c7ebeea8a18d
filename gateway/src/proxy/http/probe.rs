//! Windows' connectivity probes on port 80, where the class has them answered here.
//!
//! Pure. A probe that is only passed or denied is judged like any other request, elsewhere.

use policy::{Action, Class, HostName, Ncsi};

use super::head::{Head, Method};

/// What becomes of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// It gets the content it waits for: Windows takes itself to be online.
    Answer(&'static str),
    /// It is sent to the portal: Windows opens a browser there.
    Redirect,
}

/// What the gateway says to the request in place of the origin, if it is a probe and `class` has it
/// so. An open class is never interfered with.
pub(super) fn probe(class: &Class, head: &Head) -> Option<Probe> {
    match class.action() {
        Action::Garden => {}
        Action::Drop | Action::Observe | Action::Open => return None,
    }
    match class.ncsi() {
        Ncsi::Pass | Ncsi::Deny => None,
        Ncsi::Answer => content(head).map(Probe::Answer),
        // Every request and not the probe's path alone: Windows takes the portal for broken when
        // some requests are redirected and others are not.
        Ncsi::Redirect => is_probe(&head.host).then_some(Probe::Redirect),
    }
}

/// What the probe expects to read (Microsoft, "NCSI frequently asked questions").
fn content(head: &Head) -> Option<&'static str> {
    match head.method {
        Method::Get | Method::Head => {}
        Method::Other => return None,
    }
    match (head.host.as_str(), head.path.as_str()) {
        ("www.msftconnecttest.com" | "ipv6.msftconnecttest.com", "/connecttest.txt") => {
            Some("Microsoft Connect Test")
        }
        ("www.msftncsi.com", "/ncsi.txt") => Some("Microsoft NCSI"),
        _ => None,
    }
}

fn is_probe(host: &HostName) -> bool {
    WEB_PROBES.contains(&host.as_str())
}

/// Hosts that Windows asks by HTTP to learn whether it is online.
const WEB_PROBES: [&str; 3] =
    ["www.msftconnecttest.com", "ipv6.msftconnecttest.com", "www.msftncsi.com"];
