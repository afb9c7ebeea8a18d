//! The words nearest to a misspelt one.

/// The best of `known` for `written`: fewest edits, then alphabetical; `None` if all are far away.
pub(crate) fn nearest<'k>(
    written: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let limit = (written.chars().count() / 3).clamp(1, MAX_EDITS);
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|word| (edits(&written, &word.to_lowercase()), word))
        .filter(|(edits, _)| *edits <= limit)
        .min()
        .map(|(_, word)| word)
}

/// Edits, adjacent swaps counted as one, that lead from `a` to `b`.
pub(crate) fn edits(a: &str, b: &str) -> usize {
    strsim::osa_distance(a, b)
}

/// "did you mean …", or the whole list if nothing is near.
pub(crate) fn suggest<'k>(
    written: &str,
    known: impl IntoIterator<Item = &'k str, IntoIter: Clone>,
) -> Option<String> {
    let known = known.into_iter();
    if let Some(word) = nearest(written, known.clone()) {
        return Some(format!("did you mean `{word}`?"));
    }
    let mut words: Vec<&str> = known.collect();
    if words.is_empty() {
        return None;
    }
    words.sort_unstable();
    let more = words.len().saturating_sub(MAX_LISTED);
    words.truncate(MAX_LISTED);
    let list: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("known here: {}{tail}", list.join(", ")))
}

/// Edits beyond which two words are not the same word misspelt.
const MAX_EDITS: usize = 3;
/// Words listed when none is near.
const MAX_LISTED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_word_or_lists_all() {
        let known = ["match", "schemes", "ports"];
        assert_eq!(nearest("scheme", known), Some("schemes"));
        assert_eq!(nearest("mathc", known), Some("match"));
        assert_eq!(nearest("PORTS", known), Some("ports"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(
            suggest("zzz", known).as_deref(),
            Some("known here: `match`, `ports`, `schemes`")
        );
        assert_eq!(suggest("zzz", []), None);
    }
}
