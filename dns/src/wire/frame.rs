//! What stands around the records of every answer: header and question before them, OPT after.

use super::{
    EDNS_DNSSEC_OK, FLAG_CHECKING_DISABLED, FLAG_RECURSION_AVAILABLE, FLAG_RECURSION_DESIRED,
    FLAG_RESPONSE, FLAG_TRUNCATED, MAX_UDP_ANSWER, Notice, OPCODE_SHIFT, OPTION_EXTENDED_ERROR,
    Query, Rcode, TYPE_OPT, cookie::OPTION_COOKIE, writer::Writer,
};

/// The facts of an answer that do not come from its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) rcode: Rcode,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) is_truncated: bool,
}

impl Frame {
    /// Around no records, with TC set.
    pub(super) fn truncated(rcode: Rcode) -> Self {
        Self { rcode, answers: 0, authorities: 0, is_truncated: true }
    }

    /// Writes the answer to `query` around what `records` writes, in place of what `message` holds.
    pub(super) fn write(
        &self,
        query: &Query,
        notice: Option<(Notice, &str)>,
        message: &mut Vec<u8>,
        records: impl FnOnce(&mut Writer<'_>),
    ) {
        let mut writer = Writer::new(message);
        self.write_head(query, &mut writer);
        records(&mut writer);
        self.write_edns(query, notice, &mut writer);
    }

    fn write_head(&self, query: &Query, writer: &mut Writer<'_>) {
        let mut flags = FLAG_RESPONSE
            | FLAG_RECURSION_AVAILABLE
            | u16::from(query.opcode) << OPCODE_SHIFT
            | self.rcode.code() & HEADER_RCODE_MASK;
        for (is_set, flag) in [
            (query.recursion_desired, FLAG_RECURSION_DESIRED),
            (query.checking_disabled, FLAG_CHECKING_DISABLED),
            (self.is_truncated, FLAG_TRUNCATED),
        ] {
            if is_set {
                flags |= flag;
            }
        }
        let question = query.question();
        let (questions, additionals) = (question.is_some().into(), query.edns.is_some().into());
        let Self { answers, authorities, .. } = *self;
        writer.u16s([query.id, flags, questions, answers, authorities, additionals]);
        if let Some(question) = question {
            writer.octets(question.name.octets());
            writer.u16s([question.record_type, question.class]);
        }
    }

    fn write_edns(&self, query: &Query, notice: Option<(Notice, &str)>, writer: &mut Writer<'_>) {
        let Some(edns) = query.edns else { return };
        writer.octets(&[0]);
        writer.u16s([TYPE_OPT, u16::try_from(MAX_UDP_ANSWER).unwrap_or(u16::MAX)]);
        let [_, extended] = (self.rcode.code() >> HEADER_RCODE_BITS).to_be_bytes();
        let flags = if edns.dnssec_ok { EDNS_DNSSEC_OK } else { 0 };
        writer.octets(&[extended, 0, flags, 0]);
        writer.data(|writer| {
            if let (Some(cookie), Some(given)) = (edns.cookie, edns.given) {
                writer.u16(OPTION_COOKIE);
                writer.data(|writer| {
                    writer.octets(&cookie.client);
                    writer.octets(&given);
                });
            }
            let Some((notice, text)) = notice else { return };
            writer.u16(OPTION_EXTENDED_ERROR);
            writer.data(|writer| {
                writer.u16(notice.code());
                writer.octets(if edns.is_brief { &[] } else { text.as_bytes() });
            });
        });
    }
}

/// Of a response code, the bits that stand in the header (RFC 6891 section 6.1.3).
const HEADER_RCODE_MASK: u16 = 0xf;
const HEADER_RCODE_BITS: u32 = 4;
