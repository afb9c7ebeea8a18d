//! DNS cookies as they stand in a message (RFC 7873 section 4).

/// The cookie of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// What the asker chose.
    pub client: [u8; 8],
    /// What we gave it before, if it is as long as what we give.
    pub server: Option<[u8; SERVER]>,
}

impl Cookie {
    /// Reads the data of a COOKIE option; `None` if its length is none that such a one has.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk()?;
        let is_whole = server.is_empty() || (8..=32).contains(&server.len());
        is_whole.then(|| Self { client: *client, server: server.try_into().ok() })
    }
}

/// Octets of a server cookie of ours (RFC 9018 section 4).
pub const SERVER: usize = 16;
/// RFC 7873 section 4.
pub(super) const OPTION_COOKIE: u16 = 10;
