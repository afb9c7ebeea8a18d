//! The kernel's limits on ICMP errors, lifted for refusals while the steering is in force.
//!
//! The kernel bounds ICMP errors, for each destination and (bursts of 50) for all together; past a
//! bound "refused at once" becomes silence, and an application waits for seconds. Refusals are taken
//! out of both bounds, every other ICMP message stays within them.

/// The limits as they were before the first steering of this boot.
///
/// They are noted in the nftables table, which outlives a killed process: the next one would take
/// the lifted limits for the system's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusalLimits {
    v4: Option<String>,
    v6: Option<String>,
}

impl RefusalLimits {
    /// The limits noted in `table`, else those in force.
    pub(super) fn before(table: &str) -> Self {
        Self::noted(table).unwrap_or_else(|| {
            let read = |path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
            Self { v4: read(V4), v6: read(V6) }
        })
    }

    /// The note for the table.
    pub(super) fn note(&self) -> String {
        let text = |limit: &Option<String>| limit.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        format!("{NOTE} {} {}", text(&self.v4), text(&self.v6))
    }

    fn noted(table: &str) -> Option<Self> {
        let (_, rest) = table.split_once(&format!("comment \"{NOTE} "))?;
        let (v4, rest) = rest.split_once(' ')?;
        let (v6, _) = rest.split_once('"')?;
        let known = |text: &str| (text != UNKNOWN).then(|| text.to_owned());
        Some(Self { v4: known(v4), v6: known(v6) })
    }

    /// Takes refusals out of the limits.
    pub(super) fn lift(&self) {
        let v4 = self.v4.as_deref().and_then(without_unreachable4);
        let v6 = self.v6.as_deref().and_then(without_unreachable6);
        for (path, lifted) in [(V4, v4), (V6, v6)] {
            let written = lifted.map(|lifted| std::fs::write(path, lifted));
            if !matches!(written, Some(Ok(()))) {
                let error = written.and_then(Result::err).map(|error| error.to_string());
                tracing::warn!(
                    path,
                    error,
                    "ICMP refusals stay limited: a burst of refused datagrams will meet silence"
                );
            }
        }
    }

    /// Puts the limits back as they were.
    pub(super) fn put_back(&self) {
        for (path, limit) in [(V4, &self.v4), (V6, &self.v6)] {
            if let Some(limit) = limit
                && let Err(error) = std::fs::write(path, limit)
            {
                tracing::warn!(path, %error, "kernel setting not put back");
            }
        }
    }
}

/// The mask of limited ICMP types, a number, without "destination unreachable" (RFC 792).
fn without_unreachable4(mask: &str) -> Option<String> {
    let mask: u32 = mask.parse().ok()?;
    Some((mask & !(1 << 3)).to_string())
}

/// The list of limited ICMPv6 types, as in `0-1,3-127`, without "destination unreachable" (RFC 4443
/// section 3.1).
fn without_unreachable6(types: &str) -> Option<String> {
    let mut left = Vec::new();
    for range in types.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u8, u8) = (first.parse().ok()?, last.parse().ok()?);
        for (first, last) in [(first, 0), (first.max(2), last)] {
            if first <= last {
                left.push(format!("{first}-{last}"));
            }
        }
    }
    Some(left.join(","))
}

const V4: &str = "/proc/sys/net/ipv4/icmp_ratemask";
const V6: &str = "/proc/sys/net/ipv6/icmp/ratemask";
/// What the note begins with.
const NOTE: &str = "icmp limits before:";
/// In place of a limit that could not be read.
const UNKNOWN: &str = "?";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_alone_are_taken_out_of_the_limits() {
        for (mask, left) in
            [("6168", Some("6160")), ("8", Some("0")), ("0", Some("0")), ("x", None)]
        {
            assert_eq!(without_unreachable4(mask).as_deref(), left, "{mask}");
        }
        for (types, left) in [
            ("0-1,3-127", Some("0-0,3-127")),
            ("1", Some("")),
            ("0-127", Some("0-0,2-127")),
            ("2,4-5", Some("2-2,4-5")),
            ("0", Some("0-0")),
            ("", Some("")),
            ("x-y", None),
        ] {
            assert_eq!(without_unreachable6(types).as_deref(), left, "{types}");
        }
    }

    #[test]
    fn a_killed_process_does_not_hide_the_limits() {
        let limits = RefusalLimits { v4: Some("6168".into()), v6: None };
        let table = format!("table inet postern {{\n\tcomment \"{}\"\n", limits.note());
        assert_eq!(RefusalLimits::before(&table), limits);
        assert_eq!(RefusalLimits::noted("table inet postern {\n}\n"), None);
    }
}
