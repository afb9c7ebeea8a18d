//! The mapping file: which ICCID, IMSI and MSISDN are one SIM's. One SIM a line,
//! `iccid,imsi[,msisdn]`; `#` begins a comment. It is taken whole or not at all.

use policy::{Iccid, Identity, Imsi, InvalidIdentity, Msisdn};

use super::identity::Identities;

/// Why a mapping cannot be taken; what it says is never repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidMapping {
    /// Not two or three identities.
    #[error("line {line} has {fields} fields; iccid,imsi or iccid,imsi,msisdn are wanted")]
    Fields {
        /// The line, from 1.
        line: usize,
        /// How many it has.
        fields: usize,
    },
    /// One that is none.
    #[error("line {line}: {error}")]
    Identity {
        /// The line, from 1.
        line: usize,
        /// Why.
        error: InvalidIdentity,
    },
}

/// Reads a mapping.
///
/// # Errors
///
/// The first line that cannot be read.
pub(crate) fn read(text: &str) -> Result<Vec<Identities>, InvalidMapping> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.split('#').next().unwrap_or_default().trim()));
    lines.filter(|(_, line)| !line.is_empty()).map(|(line, text)| read_line(line, text)).collect()
}

fn read_line(line: usize, text: &str) -> Result<Identities, InvalidMapping> {
    let wrong = |error| InvalidMapping::Identity { line, error };
    let mut fields = text.split(',').map(str::trim);
    let (Some(iccid), Some(imsi), msisdn, None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(InvalidMapping::Fields { line, fields: text.split(',').count() });
    };
    let msisdn = msisdn.filter(|text| !text.is_empty()).map(Msisdn::parse).transpose();
    Ok(Identities {
        iccid: Some(Iccid::parse(iccid).map_err(wrong)?),
        imsi: Some(Imsi::parse(imsi).map_err(wrong)?),
        msisdn: msisdn.map_err(wrong)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_two_or_three_identities_a_line() {
        let text = "# shop export\n8988247000100003319F,001010000000001,+4915112345678\r\n\n \
                    8988247000100003320 , 001010000000002 # test SIM\n";
        let read = read(text).unwrap();
        let counts: Vec<usize> = read.iter().map(|sim| sim.all().count()).collect();
        assert_eq!(counts, [3, 2]);
    }

    #[test]
    fn refuses_the_whole_for_one_line_and_never_repeats_it() {
        for (text, line) in [
            ("8988247000100003319,001010000000001\n8988247000100003319", "line 2 has 1 fields"),
            ("8988247000100003319,00101000000000x", "line 1: IMSI may hold digits only"),
            ("1,2,3,4", "line 1 has 4 fields"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(line) && !error.contains("898824"), "{error}");
        }
    }
}
