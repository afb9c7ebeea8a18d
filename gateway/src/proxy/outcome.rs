//! How a session ended: a closed list, first by whose doing it was.

use policy::Reason;

/// How a session ended; each session has exactly one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Both sides were done.
    Finished,
    /// The policy ended it.
    Policy(PolicyEnd),
    /// The subscriber ended it, or gave cause to.
    Subscriber(SubscriberEnd),
    /// The origin ended it, or could not be reached.
    Origin(OriginEnd),
    /// The gateway ended it for reasons of its own.
    Us(OurEnd),
}

/// How the policy ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyEnd {
    /// The verdict was deny.
    Denied(Reason),
    /// It was live when a new policy, or a new state of the SIM, denied it.
    Revoked,
    /// The subscriber moved as many bytes as its class allows for the day.
    Exhausted,
}

/// How a subscriber ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscriberEnd {
    /// Closed before a request was complete.
    Gone,
    /// Reset the connection while it was relayed.
    Reset,
    /// Sent what cannot be read, or not in time.
    Malformed(Reason),
    /// Sent an HTTP head that breaks a rule of framing or size.
    BadRequest,
    /// Said nothing between two requests for longer than the limit.
    Idle,
}

/// How an origin ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginEnd {
    /// The name could not be resolved.
    Unresolved,
    /// No address of the name took the connection.
    Unreachable,
    /// Reset the connection, or broke its protocol.
    Reset,
}

/// How the gateway ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OurEnd {
    /// The gateway answered in place of the origin.
    Answered,
    /// A session limit was reached.
    Limit,
    /// Nothing moved in either direction for longer than the limit.
    Idle,
    /// The name leads only to addresses that must not be dialled.
    AddressRefused,
    /// The name leads back to the gateway.
    Loop,
    /// The gateway stops.
    Stopped,
    /// The session's task broke off: a fault of the program.
    Broken,
}

impl Outcome {
    /// One outcome of each label.
    pub(super) const EACH: [Self; 19] = [
        Self::Finished,
        Self::Policy(PolicyEnd::Denied(Reason::NotListed)),
        Self::Policy(PolicyEnd::Revoked),
        Self::Policy(PolicyEnd::Exhausted),
        Self::Subscriber(SubscriberEnd::Gone),
        Self::Subscriber(SubscriberEnd::Reset),
        Self::Subscriber(SubscriberEnd::Malformed(Reason::NotTls)),
        Self::Subscriber(SubscriberEnd::BadRequest),
        Self::Subscriber(SubscriberEnd::Idle),
        Self::Origin(OriginEnd::Unresolved),
        Self::Origin(OriginEnd::Unreachable),
        Self::Origin(OriginEnd::Reset),
        Self::Us(OurEnd::Answered),
        Self::Us(OurEnd::Limit),
        Self::Us(OurEnd::Idle),
        Self::Us(OurEnd::AddressRefused),
        Self::Us(OurEnd::Loop),
        Self::Us(OurEnd::Stopped),
        Self::Us(OurEnd::Broken),
    ];

    /// The outcome's name in metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Policy(PolicyEnd::Denied(_)) => "policy-denied",
            Self::Policy(PolicyEnd::Revoked) => "policy-revoked",
            Self::Policy(PolicyEnd::Exhausted) => "policy-exhausted",
            Self::Subscriber(SubscriberEnd::Gone) => "subscriber-gone",
            Self::Subscriber(SubscriberEnd::Reset) => "subscriber-reset",
            Self::Subscriber(SubscriberEnd::Malformed(_)) => "subscriber-malformed",
            Self::Subscriber(SubscriberEnd::BadRequest) => "subscriber-bad-request",
            Self::Subscriber(SubscriberEnd::Idle) => "subscriber-idle",
            Self::Origin(OriginEnd::Unresolved) => "origin-unresolved",
            Self::Origin(OriginEnd::Unreachable) => "origin-unreachable",
            Self::Origin(OriginEnd::Reset) => "origin-reset",
            Self::Us(OurEnd::Answered) => "us-answered",
            Self::Us(OurEnd::Limit) => "us-limit",
            Self::Us(OurEnd::Idle) => "us-idle",
            Self::Us(OurEnd::AddressRefused) => "us-address-refused",
            Self::Us(OurEnd::Loop) => "us-loop",
            Self::Us(OurEnd::Stopped) => "us-stopped",
            Self::Us(OurEnd::Broken) => "us-broken",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Outcome;

    #[test]
    fn labels_are_distinct() {
        let labels: BTreeSet<&str> = Outcome::EACH.map(Outcome::label).into();
        assert_eq!(labels.len(), Outcome::EACH.len());
    }
}
