//! The codes of findings: one table, stable numbers. A number is never used again for another
//! meaning; errors stand below `PN0100`, warnings from there on.

use crate::diagnostic::Severity;

macro_rules! codes {
    ($($name:ident = $id:literal $severity:ident $meaning:literal)+) => {
        /// What kind of finding a diagnostic is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $id, "`: ", $meaning, ".")] $name,)+
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable identifier, such as `PN0012`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// What the code means in general, in one clause.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }

            /// How grave a finding with this code is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)+ }
            }
        }
    };
}

codes! {
    Syntax = "PN0001" Error "the text is not TOML"
    DuplicateKey = "PN0002" Error "a key or table is written twice"
    UnknownKey = "PN0003" Error "the key has no meaning here"
    MissingKey = "PN0004" Error "a required key is absent"
    WrongType = "PN0005" Error "the value has the wrong TOML type"
    UnknownValue = "PN0006" Error "the value is not one of the closed list"
    DocumentTooLarge = "PN0007" Error "the document is longer than the limit"
    TooMany = "PN0008" Error "more items than the limit"
    UnknownSchema = "PN0009" Error "the document is written in an unknown schema"
    InvalidDuration = "PN0010" Error "the text is not a duration"
    InvalidSize = "PN0011" Error "the text is not a number of bytes"
    OutOfRange = "PN0012" Error "the number is outside its bounds"
    InvalidName = "PN0013" Error "the text cannot name a policy, a host set or a class"
    InvalidPattern = "PN0014" Error "the text is not a host pattern"
    AddressPattern = "PN0015" Error "an address stands where a host name belongs"
    PublicSuffix = "PN0016" Error "the pattern reaches every name of a public suffix"
    EmptyList = "PN0017" Error "a list that must not be empty is"
    PortsOfTwoSchemes = "PN0018" Error "`ports` stands beside more than one scheme"
    InvalidNetwork = "PN0019" Error "the text is not an address range"
    InvalidAddress = "PN0020" Error "the text is not an address"
    InvalidIdentity = "PN0021" Error "the text is not a SIM identity or a range of them"
    InvalidHost = "PN0022" Error "the text is not a host name"
    InvalidDate = "PN0023" Error "the value is not a calendar date"
    MissingPortal = "PN0024" Error "something leads to the portal, but no portal is named"
    InvalidPortal = "PN0025" Error "the portal is not an http or https URL"
    LongDenial = "PN0026" Error "a denial could outlive a purchase"
    DuplicateHostSet = "PN0027" Error "two host sets have one name"
    DuplicateClass = "PN0028" Error "two classes have one name"
    UnknownHostSet = "PN0029" Error "no host set has this name"
    UnknownBuiltin = "PN0030" Error "no built-in host set has this name"
    UnreachableClass = "PN0031" Error "no subscriber can fall in the class"
    AmbiguousClasses = "PN0032" Error "two classes of equal priority can hold the same subscriber"
    UnknownClass = "PN0033" Error "no class has this name"
    OpenDefault = "PN0034" Error "subscribers nobody knows would get open access"
    LabOutsideLab = "PN0035" Error "`[lab]` stands in a policy for another environment"
    InvalidTarget = "PN0036" Error "the text is not a target"
    BrokenPromise = "PN0037" Error "an assert does not hold"

    StaleReview = "PN0101" Warning "the host set was not reviewed for a long time"
    ExpiredEntry = "PN0102" Warning "the host entry is past its last day"
    ExpiringEntry = "PN0103" Warning "the host entry is near its last day"
    UnusedHostSet = "PN0104" Warning "no class uses the host set"
    DuplicateEntry = "PN0105" Warning "the host entry says what another one says already"
    NcsiConflict = "PN0106" Warning "connectivity probes are listed and denied at once"
    EmptyGarden = "PN0107" Warning "the class lists no host, so it denies everything"
    IdleHostSets = "PN0108" Warning "the class names host sets that its action never asks"
    PortalNotListed = "PN0109" Warning "denied requests lead to a portal that is denied too"
    ObservingDefault = "PN0110" Warning "subscribers nobody knows pass, under observation"
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_their_numbers_tell_the_severity() {
        let ids: BTreeSet<&str> = Code::ALL.iter().map(|code| code.id()).collect();
        let meanings: BTreeSet<&str> = Code::ALL.iter().map(|code| code.meaning()).collect();
        assert_eq!((ids.len(), meanings.len()), (Code::ALL.len(), Code::ALL.len()));
        for code in Code::ALL {
            let number: u32 = code.id().strip_prefix("PN").unwrap().parse().unwrap();
            assert_eq!((number < 100, code.id().len()), (code.severity() == Severity::Error, 6));
        }
        assert!(Code::ALL.is_sorted());
    }
}
