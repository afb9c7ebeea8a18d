//! Findings that somebody has looked at: taken out, until their last day.

use crate::{
    code::Code,
    compile::Terms,
    diagnostic::{About, Fault, Findings},
    document::{Document, Suppression},
};

/// Takes the allowed findings out; reports what allows nothing, or no longer.
pub(crate) fn suppress(document: &Document<'_>, terms: &Terms, findings: &mut Findings) {
    let today = terms.today;
    let mut used = vec![false; document.suppressions.len()];
    findings.retain(|found| {
        let mut kept = true;
        for (suppression, used) in document.suppressions.iter().zip(&mut used) {
            if covers(suppression, found.fault.code, &found.fault.about) {
                *used = true;
                kept &= suppression.until.as_ref().is_none_or(|last| *last.get_ref() < today);
            }
        }
        kept
    });
    let complete = !findings.has_errors();
    for (suppression, used) in document.suppressions.iter().zip(used) {
        let Some(code) = suppression.code.as_ref() else { continue };
        if let Some(last) = suppression.until.as_ref().filter(|last| *last.get_ref() < today) {
            let message = format!("`{}` was allowed until {}", code.get_ref(), last.get_ref());
            let help = "look at it again: cure it, or move `until`";
            findings.add(last.span(), Fault::new(Code::ExpiredSuppression, message).help(help));
        } else if !used && complete {
            // With errors, not every warning was looked for.
            let message = format!("no finding `{}` is there to be allowed", code.get_ref());
            let fault = Fault::new(Code::UnusedSuppression, message).help("remove the entry");
            findings.add(code.span(), fault);
        }
    }
}

/// Whether every name the entry gives is one the finding speaks of.
fn covers(suppression: &Suppression<'_>, code: Code, about: &About) -> bool {
    let Suppression { hostset, pattern, class, .. } = suppression;
    let same = |written: Option<&toml::Spanned<&str>>, actual: Option<String>| {
        written.is_none_or(|written| {
            actual.is_some_and(|actual| written.get_ref().eq_ignore_ascii_case(&actual))
        })
    };
    suppression.code.as_ref().is_some_and(|known| *known.get_ref() == code)
        && same(hostset.as_ref(), about.hostset.as_deref().map(str::to_owned))
        && same(pattern.as_ref(), about.pattern.as_ref().map(ToString::to_string))
        && same(class.as_ref(), about.class.as_deref().map(str::to_owned))
}
