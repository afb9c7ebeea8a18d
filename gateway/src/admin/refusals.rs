//! Why a request about a SIM or a binding is refused; each is counted, none names the SIM.

use axum::http::StatusCode;
use prometheus::{IntCounterVec, Opts, Registry};

use super::{Desk, problem::Problem};
use crate::{clock, gate::NotNew, grants::GrantRefused, sims::InvalidSimId};

/// A refused request.
#[derive(Debug)]
pub(super) enum Refusal {
    AlreadyOpen,
    BadAddress(String),
    BadBody(String),
    BadIdentity(String),
    BadSignature,
    Barred,
    Full(String),
    Grant(GrantRefused),
    Kernel(String),
    NoSteering,
    NotNew(NotNew),
    NotStored,
    TooLarge(String),
    UnknownBinding,
    UnknownSim,
}

pub(super) fn bad_identity(error: &InvalidSimId) -> Refusal {
    Refusal::BadIdentity(error.to_string())
}

impl Refusal {
    /// The refusal's name in metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::AlreadyOpen => "already-open",
            Self::BadAddress(_) => "bad-address",
            Self::BadBody(_) => "bad-body",
            Self::BadIdentity(_) => "bad-identity",
            Self::BadSignature => "bad-signature",
            Self::Barred => "barred",
            Self::Full(_) => "full",
            Self::Grant(refused) => refused.label(),
            Self::Kernel(_) => "kernel",
            Self::NoSteering => "no-steering",
            Self::NotNew(not_new) => not_new.label(),
            Self::NotStored => "not-stored",
            Self::TooLarge(_) => "too-large",
            Self::UnknownBinding => "unknown-binding",
            Self::UnknownSim => "unknown-sim",
        }
    }

    fn problem(self) -> Problem {
        use StatusCode as Status;
        let (status, title, detail) = match self {
            Self::AlreadyOpen => {
                let detail = "the SIM's class is open: it has no use for a grant";
                (Status::CONFLICT, "no grant", detail.to_owned())
            }
            Self::Barred => {
                let detail = "the SIM's class shuts it out, and no grant opens that";
                (Status::CONFLICT, "no grant", detail.to_owned())
            }
            Self::NoSteering => {
                let detail = "this node installs no steering, and only the kernel can hold a grant to its bytes";
                (Status::CONFLICT, "no grant", detail.to_owned())
            }
            Self::Grant(refused) => return grant_problem(&refused),
            Self::BadAddress(detail) | Self::BadBody(detail) | Self::BadIdentity(detail) => {
                (Status::BAD_REQUEST, "cannot be understood", detail)
            }
            Self::BadSignature => {
                let detail = "webhook-signature holds no signature of this message by a known key";
                (Status::UNAUTHORIZED, "no valid signature", detail.to_owned())
            }
            Self::Full(detail) => (Status::INSUFFICIENT_STORAGE, "no room", detail),
            Self::Kernel(detail) => {
                let detail = format!(
                    "{detail}; the change holds for listeners, and is told to the kernel again"
                );
                (Status::INTERNAL_SERVER_ERROR, "the kernel refused", detail)
            }
            Self::NotNew(not_new) => {
                let status = match not_new {
                    NotNew::Stale { .. } => Status::BAD_REQUEST,
                    NotNew::Replayed | NotNew::IdTaken => Status::CONFLICT,
                    NotNew::Full { .. } => Status::SERVICE_UNAVAILABLE,
                };
                (status, "not a new message", not_new.to_string())
            }
            Self::NotStored => {
                let detail = "the change holds on this node, and its store did not take it in time: send it again";
                (Status::SERVICE_UNAVAILABLE, "not stored", detail.to_owned())
            }
            Self::TooLarge(detail) => {
                (Status::PAYLOAD_TOO_LARGE, "the body cannot be read", detail)
            }
            Self::UnknownBinding => {
                (Status::NOT_FOUND, "no such binding", "nobody is bound to that address".to_owned())
            }
            Self::UnknownSim => {
                let detail = "neither accounting nor a mapping ever named this SIM; \"create\": true makes it known";
                (Status::NOT_FOUND, "no such SIM", detail.to_owned())
            }
        };
        Problem::new(status, title, detail)
    }
}

/// A bound of grants: 429 with a time to come back where time will help.
fn grant_problem(refused: &GrantRefused) -> Problem {
    let (status, next) = match refused {
        GrantRefused::Seconds { .. } | GrantRefused::Bytes { .. } => {
            (StatusCode::BAD_REQUEST, None)
        }
        GrantRefused::Active { ends } => (StatusCode::CONFLICT, Some(ends)),
        GrantRefused::Hour { next, .. } | GrantRefused::Day { next, .. } => {
            (StatusCode::TOO_MANY_REQUESTS, Some(next))
        }
        GrantRefused::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, None),
        GrantRefused::Nameless => (StatusCode::CONFLICT, None),
        GrantRefused::Random | GrantRefused::Unwritten => (StatusCode::INTERNAL_SERVER_ERROR, None),
    };
    let problem = Problem::new(status, "no grant", refused.to_string());
    match next {
        Some(next) => {
            let seconds = next.duration_since(clock::now()).as_secs().max(0);
            problem.with_retry_after(u64::try_from(seconds).unwrap_or_default() + 1)
        }
        None => problem,
    }
}

/// Counts refused requests by their reason.
#[derive(Clone, Debug)]
pub(crate) struct RefusalCount(IntCounterVec);

impl RefusalCount {
    /// Registers the counter.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let options = Opts::new(REFUSED, "Requests about SIMs and bindings that were refused.");
        let counter = IntCounterVec::new(options, &["reason"])?;
        for reason in LABELS.iter().chain(&GrantRefused::LABELS) {
            counter.with_label_values(&[reason]);
        }
        registry.register(Box::new(counter.clone()))?;
        Ok(Self(counter))
    }
}

impl Desk {
    /// Counts a refusal and makes its answer.
    pub(super) fn refuse(&self, refusal: Refusal) -> Problem {
        self.refusals.0.with_label_values(&[refusal.label()]).inc();
        refusal.problem()
    }
}

/// Every name that [`Refusal::label`] gives, but those of grants.
const LABELS: [&str; 17] = [
    "already-open",
    "bad-address",
    "bad-body",
    "bad-identity",
    "bad-signature",
    "barred",
    "full",
    "no-steering",
    "stale",
    "replayed",
    "id-taken",
    "too-large",
    "unknown-binding",
    "unknown-sim",
    "memory-full",
    "not-stored",
    "kernel",
];
const REFUSED: &str = "postern_sim_requests_refused_total";
