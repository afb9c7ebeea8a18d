//! An answer's records as bytes, for every question that is the same but for its id, its letter
//! case and what stands in its OPT record.

use super::{Answer, Query, Rcode, frame::Frame};

/// What of an answer does not depend on who asks. Never holds an OPT record, nor anything out of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    frame: Frame,
    records: Box<[u8]>,
}

impl Packet {
    /// The packet of `answer` to `query`; `None` if it has a notice, which depends on the asker.
    pub(crate) fn of(answer: &Answer, query: &Query) -> Option<Self> {
        if answer.notice.is_some() {
            return None;
        }
        let frame = answer.frame();
        let (mut message, mut records) = (Vec::new(), 0..0);
        frame.write(query, None, &mut message, |writer| {
            records.start = writer.len();
            answer.write_records(writer);
            records.end = writer.len();
        });
        message.get(records).map(|records| Self { frame, records: records.into() })
    }

    pub(crate) fn rcode(&self) -> Rcode {
        self.frame.rcode
    }

    /// Writes the answer to `query`, in place of what `message` holds; false if it takes more than
    /// `limit` octets.
    pub(crate) fn write(&self, query: &Query, limit: usize, message: &mut Vec<u8>) -> bool {
        self.frame.write(query, None, message, |writer| writer.octets(&self.records));
        message.len() <= limit
    }
}
