//! What was met and not judged, counted by kind: a closed list.

/// Why something was not judged, or not wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Note {
    /// The interface's link type is not one that is read.
    OtherLink,
    /// Neither IPv4 nor IPv6: ARP, for one.
    NotIp,
    /// Headers that break their own lengths.
    Malformed,
    /// Neither TCP nor UDP: ICMP, for one.
    OtherTransport,
    /// To a multicast, broadcast or link-local address: it never reaches a gateway.
    Local,
    /// From an address outside the networks asked for.
    Outside,
    /// A fragment whose packet never became whole.
    FragmentLost,
    /// Cut by the capture's snap length.
    Cut,
    /// An answer of a DNS server.
    DnsAnswer,
    /// A DNS message that is not one plain question.
    DnsUnreadable,
    /// A flow that began before the capture.
    Midstream,
    /// A flow given up to stay within memory.
    Evicted,
    /// A flow of which octets are missing.
    Gap,
    /// Octets that came twice and differed; the first copy counts.
    Conflict,
    /// A flow that ended inside its first message.
    Unfinished,
    /// A connection to a port of names that never carried an octet.
    Idle,
    /// A QUIC packet that does not open.
    QuicUnopened,
    /// Rows beyond the bound; they are judged and counted, without their names.
    RowFolded,
    /// Subscribers beyond the bound; they are judged, and counted as one.
    SubscriberFolded,
    /// A line of a log that is no decision.
    BadLine,
    /// Decisions that the log itself says are missing.
    MissingLine,
}

/// How often each kind was met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes([u64; Note::ALL.len()]);

impl Notes {
    /// Counts one.
    pub(crate) fn add(&mut self, note: Note) {
        self.add_many(note, 1);
    }

    /// Counts some.
    pub(crate) fn add_many(&mut self, note: Note, many: u64) {
        for (known, count) in Note::ALL.iter().zip(&mut self.0) {
            if *known == note {
                *count = count.saturating_add(many);
            }
        }
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }

    /// How often `note` was met.
    #[cfg(test)]
    pub(crate) fn of(&self, note: Note) -> u64 {
        self.met().find(|(met, _)| *met == note).map_or(0, |(_, count)| count)
    }

    /// Those that were met, in the order of the type.
    pub(crate) fn met(&self) -> impl Iterator<Item = (Note, u64)> + '_ {
        Note::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

impl Note {
    /// Every kind.
    const ALL: [Self; 21] = [
        Self::OtherLink,
        Self::NotIp,
        Self::Malformed,
        Self::OtherTransport,
        Self::Local,
        Self::Outside,
        Self::FragmentLost,
        Self::Cut,
        Self::DnsAnswer,
        Self::DnsUnreadable,
        Self::Midstream,
        Self::Evicted,
        Self::Gap,
        Self::Conflict,
        Self::Unfinished,
        Self::Idle,
        Self::QuicUnopened,
        Self::RowFolded,
        Self::SubscriberFolded,
        Self::BadLine,
        Self::MissingLine,
    ];

    /// The kind's name in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::OtherLink => "other-link",
            Self::NotIp => "not-ip",
            Self::Malformed => "malformed",
            Self::OtherTransport => "other-transport",
            Self::Local => "local",
            Self::Outside => "outside",
            Self::FragmentLost => "fragment-lost",
            Self::Cut => "cut",
            Self::DnsAnswer => "dns-answer",
            Self::DnsUnreadable => "dns-unreadable",
            Self::Midstream => "midstream",
            Self::Evicted => "evicted",
            Self::Gap => "gap",
            Self::Conflict => "conflict",
            Self::Unfinished => "unfinished",
            Self::Idle => "idle",
            Self::QuicUnopened => "quic-unopened",
            Self::RowFolded => "row-folded",
            Self::SubscriberFolded => "subscriber-folded",
            Self::BadLine => "bad-line",
            Self::MissingLine => "missing-line",
        }
    }
}
