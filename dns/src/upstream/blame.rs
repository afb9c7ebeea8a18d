//! Whose fault a failure is, and so who is asked next.

use super::UpstreamError;
use crate::screen::BadAnswer;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The zone's: nobody would answer better.
    Zone,
    /// The server's: the next one may.
    Server,
    /// Perhaps only that of the way there: this one may as well, at the second try.
    Path,
}

impl UpstreamError {
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::Busy { .. } | Self::Timeout | Self::Unreachable => Blame::Path,
            Self::ResponseCode { .. }
            | Self::Unreadable
            | Self::BadAnswer(BadAnswer::OtherQuestion | BadAnswer::Referral) => Blame::Server,
            Self::BadAnswer(
                BadAnswer::Loop
                | BadAnswer::TooLong
                | BadAnswer::TwoAliases
                | BadAnswer::TooMany
                | BadAnswer::UnwritableName,
            ) => Blame::Zone,
        }
    }
}
