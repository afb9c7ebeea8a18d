//! Whether a datagram is the reply to what was sent, and what has been seen of one upstream's.
//!
//! hickory draws the id, the port and the letter case of each question and ignores what does not
//! fit them. Here the same is checked first, so that it is counted: many replies that do not fit
//! are somebody guessing, and then the upstream is asked over TCP, where guessing is of no use.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// How a datagram fails to be the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BadReply {
    /// It is from somebody else.
    Source,
    /// It has another id, or is no reply at all.
    Id,
    /// It repeats another question.
    Question,
    /// It repeats the question in other letter case (draft-vixie-dnsext-dns0x20).
    LetterCase,
}

/// What has been seen of one upstream's replies.
#[derive(Debug, Default)]
pub(super) struct Replies {
    bad_in_row: AtomicU32,
    /// Of those, the ones that differ in nothing but letter case.
    folded_in_row: AtomicU32,
    /// Milliseconds since the start until which it is asked over TCP only.
    distrusted_until: AtomicU64,
    /// Milliseconds since the start until which its questions are in small letters.
    folds_until: AtomicU64,
}

impl Replies {
    /// Counts a reply that fits.
    pub(super) fn good(&self) {
        self.bad_in_row.store(0, Ordering::Relaxed);
        self.folded_in_row.store(0, Ordering::Relaxed);
    }

    /// Counts one that does not, at `now` since the start; says whether waiting is still of use.
    ///
    /// An upstream that does not keep letter case is not an attack: after [`FOLDED_IN_ROW`] of
    /// such replies it is asked in small letters for [`FOLDS`].
    pub(super) fn bad(&self, how: BadReply, now: Duration) -> bool {
        let until =
            |length: Duration| u64::try_from((now + length).as_millis()).unwrap_or(u64::MAX);
        match how {
            BadReply::LetterCase => {
                if self.folded_in_row.fetch_add(1, Ordering::Relaxed) + 1 >= FOLDED_IN_ROW {
                    self.folds_until.store(until(FOLDS), Ordering::Relaxed);
                }
                return true;
            }
            BadReply::Source | BadReply::Id | BadReply::Question => {}
        }
        if self.bad_in_row.fetch_add(1, Ordering::Relaxed) + 1 < BAD_IN_ROW {
            return true;
        }
        self.distrusted_until.store(until(DISTRUST), Ordering::Relaxed);
        self.bad_in_row.store(0, Ordering::Relaxed);
        false
    }

    /// Whether it is to be asked over TCP only.
    pub(super) fn is_distrusted(&self, now: Duration) -> bool {
        u128::from(self.distrusted_until.load(Ordering::Relaxed)) > now.as_millis()
    }

    /// Whether letter case may be drawn.
    pub(super) fn keeps_case(&self, now: Duration) -> bool {
        u128::from(self.folds_until.load(Ordering::Relaxed)) <= now.as_millis()
    }
}

/// Whether `reply` answers `question`, both whole messages.
pub(super) fn fits(question: &[u8], reply: &[u8]) -> Result<(), BadReply> {
    let is_reply = reply.get(2).is_some_and(|flags| flags & 0x80 != 0);
    if !is_reply || reply.get(..2) != question.get(..2) {
        return Err(BadReply::Id);
    }
    let asked = question_of(question).ok_or(BadReply::Question)?;
    let repeated = reply.get(HEADER..HEADER + asked.len()).ok_or(BadReply::Question)?;
    if repeated == asked {
        return Ok(());
    }
    // A length octet is never a letter, and type and class of ours are small numbers.
    if repeated.eq_ignore_ascii_case(asked) {
        Err(BadReply::LetterCase)
    } else {
        Err(BadReply::Question)
    }
}

/// The first question of a message: name, type and class.
fn question_of(message: &[u8]) -> Option<&[u8]> {
    let rest = message.get(HEADER..)?;
    let mut at = 0;
    loop {
        let length = usize::from(*rest.get(at)?);
        at += 1 + length;
        if length == 0 {
            return rest.get(..at + TYPE_AND_CLASS);
        }
    }
}

impl BadReply {
    /// Every way.
    pub(crate) const ALL: [Self; 4] = [Self::Source, Self::Id, Self::Question, Self::LetterCase];

    /// Its name as a metric label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Id => "id",
            Self::Question => "question",
            Self::LetterCase => "letter-case",
        }
    }
}

/// Octets of a message before its question.
const HEADER: usize = 12;
const TYPE_AND_CLASS: usize = 4;
/// Replies that do not fit, one after the other, before an upstream is asked over TCP.
pub(super) const BAD_IN_ROW: u32 = 8;
/// How long it is then asked over TCP only.
const DISTRUST: Duration = Duration::from_secs(60);
/// Replies in other letter case, one after the other, before letter case is no longer drawn.
pub(super) const FOLDED_IN_ROW: u32 = 3;
/// How long it is then not drawn.
const FOLDS: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BAD_IN_ROW, BadReply, DISTRUST, FOLDED_IN_ROW, FOLDS, Replies, fits};

    const ASKED: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03wWw\x07eXample\x00\
        \x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

    #[test]
    fn case_63_knows_what_is_not_the_reply() {
        let reply = |at: usize, octet: u8| {
            let mut reply = ASKED.to_vec();
            reply[2] = 0x81;
            reply[at] = octet;
            reply
        };
        assert_eq!(fits(ASKED, &reply(0, 0x12)), Ok(()));
        assert_eq!(fits(ASKED, ASKED), Err(BadReply::Id), "a question");
        assert_eq!(fits(ASKED, &reply(1, 0x35)), Err(BadReply::Id));
        assert_eq!(fits(ASKED, &reply(13, b'v')), Err(BadReply::Question));
        assert_eq!(fits(ASKED, &reply(26, 28)), Err(BadReply::Question), "another type");
        assert_eq!(fits(ASKED, &reply(28, 3)), Err(BadReply::Question), "another class");
        assert_eq!(fits(ASKED, &reply(14, b'w')), Err(BadReply::LetterCase));
        for length in 0..29 {
            assert!(fits(ASKED, &reply(0, 0x12)[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn case_63_goes_over_to_tcp_after_many_bad_replies_in_a_row() {
        let (replies, now) = (Replies::default(), Duration::from_secs(1));
        for _ in 0..10 {
            for _ in 1..BAD_IN_ROW {
                assert!(replies.bad(BadReply::Id, now));
            }
            replies.good();
        }
        assert!(!replies.is_distrusted(now), "they were not in a row");
        for number in 1..=BAD_IN_ROW {
            assert_eq!(replies.bad(BadReply::Source, now), number < BAD_IN_ROW);
        }
        assert!(replies.is_distrusted(now) && !replies.is_distrusted(now + DISTRUST));
    }

    #[test]
    fn case_63_stops_drawing_letter_case_for_an_upstream_that_folds_it() {
        let (replies, now) = (Replies::default(), Duration::from_secs(1));
        for _ in 0..FOLDED_IN_ROW {
            assert!(replies.keeps_case(now));
            assert!(replies.bad(BadReply::LetterCase, now));
        }
        assert!(!replies.keeps_case(now) && replies.keeps_case(now + FOLDS));
        assert!(!replies.is_distrusted(now));
    }
}
