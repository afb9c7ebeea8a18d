//! The portal: an absolute URL whose host the garden itself must let through.

use super::Terms;
use crate::{
    class::Action,
    code::Code,
    decide::{Request, Subject, Verdict, decide},
    diagnostic::{Fault, Findings},
    document::Document,
    host::HostName,
    limits::MAX_PORTAL,
    policy::{HttpDenial, Policy},
    rule::Scheme,
    target::split_port,
};

/// The parts of the portal's URL that the garden judges.
#[derive(Debug)]
pub(super) struct Portal {
    scheme: Scheme,
    host: HostName,
    port: u16,
}

pub(super) fn parse(url: &str) -> Result<Portal, Fault> {
    let fault = |message: String| {
        Fault::new(Code::InvalidPortal, message).help("write it as https://host/path")
    };
    if url.len() > MAX_PORTAL {
        return Err(fault(format!("the URL has {} octets; at most {MAX_PORTAL}", url.len())));
    }
    // The URL stands in a Location header: anything else than visible ASCII would break out of it.
    if let Some(odd) = url.chars().find(|letter| !letter.is_ascii_graphic()) {
        return Err(fault(format!("the URL holds {odd:?}; only visible ASCII is allowed")));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = Scheme::ALL
        .into_iter()
        .find(|known| known.label().eq_ignore_ascii_case(scheme))
        .ok_or_else(|| fault("the portal is not an http or https URL".to_owned()))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or(rest);
    let (host, port) = split_port(authority).map_err(|error| fault(error.to_string()))?;
    let host = HostName::parse(host).map_err(|error| fault(error.to_string()))?;
    Ok(Portal { scheme, host, port: port.unwrap_or_else(|| scheme.default_port()) })
}

/// Warns about gardens whose subscribers are sent to a portal that is denied to them.
pub(super) fn review(
    document: &Document<'_>,
    policy: &Policy,
    terms: &Terms,
    findings: &mut Findings,
) {
    let Some(written) = document.http.portal.as_ref() else { return };
    let Ok(Portal { scheme, host, port }) = parse(written.get_ref()) else { return };
    let Some(midnight) = terms.midnight() else { return };
    if scheme == Scheme::Http {
        let message = "the portal is http: what a subscriber enters there can be read on the way";
        let help = "Mobile Plans takes https portals on the default port only";
        findings.add(written.span(), Fault::new(Code::PlainPortal, message).help(help));
    }
    if policy.http.denied != HttpDenial::Redirect {
        return;
    }
    let host = &host;
    let request = match scheme {
        Scheme::Http => Request::Http { host, port },
        Scheme::Https => Request::Https { host, port },
    };
    for class in policy.classes().iter().filter(|class| class.action == Action::Garden) {
        let decision = decide(policy, Subject::Class(class.name()), request, midnight);
        if decision.verdict() != Verdict::Allow {
            let message = format!(
                "class `{}` is redirected to the portal, which is denied to it: {}",
                class.name(),
                decision.reason()
            );
            let help = format!("list `{host}` with scheme `{scheme}` in a host set of the class");
            let fault = Fault::new(Code::PortalNotListed, message).help(help);
            findings.add(written.span(), fault.of_class(class.name()));
        }
    }
}
