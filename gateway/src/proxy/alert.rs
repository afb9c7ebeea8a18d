//! The TLS alert that tells a subscriber's client why it is refused.
//!
//! One table from the reason of a denial to the alert (RFC 8446 section 6.2).

use policy::Reason;

use super::dial::DialError;

/// A fatal alert's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alert {
    UnexpectedMessage,
    HandshakeFailure,
    IllegalParameter,
    AccessDenied,
    DecodeError,
    InternalError,
    UnrecognizedName,
}

impl Alert {
    /// The alert for a denial.
    pub(super) fn for_reason(reason: Reason) -> Self {
        match reason {
            Reason::NotListed
            | Reason::SchemeNotListed
            | Reason::PortNotListed
            | Reason::Expired
            | Reason::Ncsi
            | Reason::NoSni
            | Reason::BadSni
            | Reason::IpLiteral
            | Reason::NoHost
            | Reason::BadHost => Self::UnrecognizedName,
            Reason::Barred
            | Reason::UnknownSubscriber
            | Reason::Limit
            | Reason::NoPolicy
            | Reason::Quic
            | Reason::MethodNotAllowed => Self::AccessDenied,
            Reason::DuplicateExtension | Reason::HelloChanged => Self::IllegalParameter,
            Reason::HelloTooLarge => Self::DecodeError,
            Reason::NotTls => Self::UnexpectedMessage,
            Reason::HelloTimeout => Self::HandshakeFailure,
            Reason::Loop | Reason::UpstreamAddressRefused => Self::InternalError,
            // Never the reason of a denial.
            Reason::Listed | Reason::Open => Self::HandshakeFailure,
        }
    }

    /// The alert for an origin that cannot be reached.
    pub(super) fn for_dial(error: &DialError) -> Self {
        match error {
            DialError::TooManyNames => Self::for_reason(Reason::Limit),
            DialError::Unresolved(_)
            | DialError::AddressRefused
            | DialError::Loop
            | DialError::Unreachable { .. }
            | DialError::TimedOut { .. } => Self::InternalError,
        }
    }

    /// The alert as one TLS record.
    pub(super) fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        [ALERT, 3, 3, 0, 2, FATAL, self.description()]
    }

    fn description(self) -> u8 {
        match self {
            Self::UnexpectedMessage => 10,
            Self::HandshakeFailure => 40,
            Self::IllegalParameter => 47,
            Self::AccessDenied => 49,
            Self::DecodeError => 50,
            Self::InternalError => 80,
            Self::UnrecognizedName => 112,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_the_alert_that_says_whose_fault_it_is() {
        for (reason, description) in [
            (Reason::NotListed, 112),
            (Reason::SchemeNotListed, 112),
            (Reason::Expired, 112),
            (Reason::Barred, 49),
            (Reason::UnknownSubscriber, 49),
            (Reason::HelloChanged, 47),
            (Reason::DuplicateExtension, 47),
            (Reason::NotTls, 10),
            (Reason::HelloTooLarge, 50),
            (Reason::UpstreamAddressRefused, 80),
        ] {
            let record = Alert::for_reason(reason).record();
            assert_eq!(record, [21, 3, 3, 0, 2, 2, description], "{reason}");
        }
    }
}
