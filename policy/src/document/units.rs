//! Durations and sizes: whole numbers with a unit, such as `"5s"` and `"50MB"`.

use toml::de::DeValue;

use super::fields::{short, wrong_type};
use crate::limits::MAX_SECONDS;
use crate::{code::Code, diagnostic::Fault};

/// Reads a duration of whole seconds, at most [`MAX_SECONDS`].
pub(super) fn seconds(value: &DeValue<'_>) -> Result<u32, Fault> {
    let help = "write a whole number and a unit: s, m or h, such as \"5s\"";
    let read = read(value, Code::InvalidDuration, "a duration", help, &SECONDS)?;
    match u32::try_from(read) {
        Ok(seconds) if seconds <= MAX_SECONDS => Ok(seconds),
        Ok(_) | Err(_) => {
            let message = format!("{read} s are too long; at most {MAX_SECONDS} s are allowed");
            Err(Fault::new(Code::OutOfRange, message))
        }
    }
}

/// Reads a number of bytes.
pub(super) fn bytes(value: &DeValue<'_>) -> Result<u64, Fault> {
    let help = "write a whole number and a unit: B, kB, MB, GB, TB or KiB, MiB, GiB, TiB";
    let read = read(value, Code::InvalidSize, "a size", help, &BYTES)?;
    if read == 0 {
        return Err(Fault::new(Code::OutOfRange, "0 bytes allow nothing; at least 1 B is needed"));
    }
    Ok(read)
}

fn read(
    value: &DeValue<'_>,
    code: Code,
    what: &str,
    help: &str,
    units: &[(&str, u64)],
) -> Result<u64, Fault> {
    let text = value
        .as_str()
        .ok_or_else(|| wrong_type(&format!("{what} as a string"), value).help(help))?;
    let fault = || Fault::new(code, format!("`{}` is not {what}", short(text))).help(help);
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(fault)?;
    let (number, unit) = text.split_at_checked(digits).ok_or_else(fault)?;
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(known, _)| *known == unit).ok_or_else(fault)?;
    let number: u64 = number.parse().map_err(|_| fault())?;
    number.checked_mul(*factor).ok_or_else(fault)
}

const SECONDS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3_600)];

const BYTES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn string(text: &str) -> DeValue<'_> {
        DeValue::String(Cow::Borrowed(text))
    }

    #[test]
    fn reads_whole_numbers_with_units() {
        for (text, expected) in [("0s", 0), ("5s", 5), ("2m", 120), ("24h", MAX_SECONDS)] {
            assert_eq!(seconds(&string(text)).unwrap(), expected, "{text}");
        }
        for (text, expected) in [("1B", 1), ("50MB", 50_000_000), ("5 MiB", 5 << 20)] {
            assert_eq!(bytes(&string(text)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_has_no_unit_or_is_too_large() {
        for text in ["", "5", "s", "-5s", "5 sec", "1.5s", "25h", "5S", "99999999999999999999s"] {
            assert!(seconds(&string(text)).is_err(), "{text}");
        }
        for text in ["", "50", "MB", "0MB", "50mb", "99999999999TiB"] {
            assert!(bytes(&string(text)).is_err(), "{text}");
        }
    }
}
