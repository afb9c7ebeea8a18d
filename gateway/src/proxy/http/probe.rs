//! Windows' connectivity probes on port 80, where the class has them answered here.
//!
//! Pure. Whether a probe is answered, redirected or passed is decided like everything else.

use policy::Probe;

use super::head::{Head, Method};

/// What the probe expects to read, if the request is one.
pub(super) fn content(head: &Head) -> Option<&'static str> {
    match head.method {
        Method::Get | Method::Head => {}
        Method::Other => return None,
    }
    match Probe::of(&head.host)? {
        Probe::Web { path, body } => (head.path == path).then_some(body),
        Probe::Dns { .. } | Probe::Former => None,
    }
}
