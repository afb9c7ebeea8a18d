//! Lists of SIMs in files of their own, read into the match entries that name them.

use std::{collections::BTreeMap, ops::Range};

use toml::Spanned;

use crate::{
    code::Code,
    diagnostic::{Fault, Findings},
    document::{Document, Identities},
    limits::MAX_LISTED_SIMS,
    parts::Parts,
    sim::{Identity, IdentitySet, read_list},
};

/// Completes the match entries of `document`; `bases` says where each file of it begins.
pub(super) fn fill(
    document: &mut Document<'_>,
    parts: &Parts<'_>,
    bases: &[usize],
    findings: &mut Findings,
) {
    let base = |index: usize| bases.get(index).copied().unwrap_or_default();
    let texts: Vec<&str> = parts.all().map(|part| &*part.text).collect();
    let known = parts.lists.iter().filter_map(|((from, at), list)| {
        Some((base(*from) + at, (*texts.get(*list)?, base(*list))))
    });
    let mut lists = Lists { known: known.collect(), room: MAX_LISTED_SIMS };
    for entry in document.classes.iter_mut().flat_map(|class| &mut class.matches) {
        entry.entry.iccid = lists.complete(&mut entry.iccid, findings);
        entry.entry.imsi = lists.complete(&mut entry.imsi, findings);
    }
}

/// The lists that were read, by the place that names them.
struct Lists<'p> {
    known: BTreeMap<usize, (&'p str, usize)>,
    room: usize,
}

impl Lists<'_> {
    fn complete<I: Identity>(
        &mut self,
        identities: &mut Identities<'_, I>,
        findings: &mut Findings,
    ) -> Option<IdentitySet<I>> {
        if let Some(file) = &identities.file
            && let Some((text, base)) = self.known.get(&file.span().start).copied()
        {
            let before = identities.ranges.len();
            for (span, read) in read_list(text) {
                let span = span.start + base..span.end + base;
                if self.room == 0 {
                    self.report_full(span, findings);
                    break;
                }
                self.room -= 1;
                match read {
                    Ok(range) => identities.ranges.push(Spanned::new(span, range)),
                    Err(error) => {
                        findings.add(span, Fault::new(Code::InvalidIdentity, error.to_string()));
                    }
                }
            }
            if identities.ranges.len() == before && self.room > 0 {
                let message = "the file lists no SIM, so nobody matches by it";
                findings.add(file.span(), Fault::new(Code::EmptyList, message));
            }
        }
        identities
            .written
            .then(|| IdentitySet::new(identities.ranges.iter().map(|range| *range.get_ref())))
    }

    fn report_full(&self, span: Range<usize>, findings: &mut Findings) {
        let message =
            format!("the lists of the document hold more than {MAX_LISTED_SIMS} SIMs and ranges");
        findings.add(span, Fault::new(Code::TooMany, message));
    }
}
