//! The codes of findings: one table, stable numbers. A number is never used again for another
//! meaning; errors stand below `PN0100`, warnings from there on.

use crate::diagnostic::Severity;

macro_rules! codes {
    ($($variant:ident = $id:literal $name:literal $severity:ident $meaning:literal)+) => {
        /// What kind of finding a diagnostic is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $id, "` ", $name, ": ", $meaning, ".")] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable identifier, such as `PN0012`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// The stable name, such as `public-suffix`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What the code means in general, in one clause.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// How grave a finding with this code is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }
    };
}

codes! {
    Syntax = "PN0001" "syntax" Error "the text is not TOML"
    DuplicateKey = "PN0002" "duplicate-key" Error "a key or table is written twice"
    UnknownKey = "PN0003" "unknown-key" Error "the key has no meaning here"
    MissingKey = "PN0004" "missing-key" Error "a required key is absent"
    WrongType = "PN0005" "wrong-type" Error "the value has the wrong TOML type"
    UnknownValue = "PN0006" "unknown-value" Error "the value is not one of the closed list"
    DocumentTooLarge = "PN0007" "document-too-large" Error "the document is longer than the limit"
    TooMany = "PN0008" "too-many" Error "more items than the limit"
    UnknownSchema = "PN0009" "unknown-schema" Error "the document is written in an unknown schema"
    InvalidDuration = "PN0010" "invalid-duration" Error "the text is not a duration"
    InvalidSize = "PN0011" "invalid-size" Error "the text is not a number of bytes"
    OutOfRange = "PN0012" "out-of-range" Error "the number is outside its bounds"
    InvalidName = "PN0013" "invalid-name" Error "the text cannot name a policy, a host set or a class"
    InvalidPattern = "PN0014" "invalid-pattern" Error "the text is not a host pattern"
    AddressPattern = "PN0015" "address-pattern" Error "an address stands where a host name belongs"
    PublicSuffix = "PN0016" "public-suffix" Error "the pattern reaches every name of a public suffix"
    EmptyList = "PN0017" "empty-list" Error "a list that must not be empty is"
    PortsOfTwoSchemes = "PN0018" "ports-of-two-schemes" Error "`ports` stands beside more than one scheme"
    InvalidNetwork = "PN0019" "invalid-network" Error "the text is not an address range"
    InvalidAddress = "PN0020" "invalid-address" Error "the text is not an address"
    InvalidIdentity = "PN0021" "invalid-identity" Error "the text is not a SIM identity or a range of them"
    InvalidHost = "PN0022" "invalid-host" Error "the text is not a host name"
    InvalidDate = "PN0023" "invalid-date" Error "the value is not a calendar date"
    MissingPortal = "PN0024" "missing-portal" Error "something leads to the portal, but no portal is named"
    InvalidPortal = "PN0025" "invalid-portal" Error "the portal is not an http or https URL"
    LongDenial = "PN0026" "long-denial" Error "a denial could outlive a purchase"
    DuplicateHostSet = "PN0027" "duplicate-host-set" Error "two host sets have one name"
    DuplicateClass = "PN0028" "duplicate-class" Error "two classes have one name"
    UnknownHostSet = "PN0029" "unknown-host-set" Error "no host set has this name"
    UnknownBuiltin = "PN0030" "unknown-builtin" Error "no built-in host set has this name"
    UnreachableClass = "PN0031" "unreachable-class" Error "no subscriber can fall in the class"
    AmbiguousClasses = "PN0032" "ambiguous-classes" Error "two classes of equal priority can hold the same subscriber"
    UnknownClass = "PN0033" "unknown-class" Error "no class has this name"
    OpenDefault = "PN0034" "open-default" Error "subscribers nobody knows would get open access"
    LabOutsideLab = "PN0035" "lab-outside-lab" Error "`[lab]` stands in a policy for another environment"
    InvalidTarget = "PN0036" "invalid-target" Error "the text is not a target"
    BrokenPromise = "PN0037" "broken-promise" Error "an assert does not hold"
    UnreadableFile = "PN0038" "unreadable-file" Error "a file that the document names cannot be read"
    InvalidTime = "PN0039" "invalid-time" Error "the value is not a moment in time"
    EmptyWindow = "PN0040" "empty-window" Error "a schedule ends before it begins"

    StaleReview = "PN0101" "stale-review" Warning "the host set was not reviewed for a long time"
    ExpiredEntry = "PN0102" "expired-entry" Warning "the host entry is past its last day"
    ExpiringEntry = "PN0103" "expiring-entry" Warning "the host entry is near its last day"
    UnusedHostSet = "PN0104" "unused-host-set" Warning "no class uses the host set"
    DuplicateEntry = "PN0105" "duplicate-entry" Warning "the host entry says what another one says already"
    NcsiConflict = "PN0106" "ncsi-conflict" Warning "connectivity probes are listed and denied at once"
    EmptyGarden = "PN0107" "empty-garden" Warning "the class lists no host, so it denies everything"
    IdleHostSets = "PN0108" "idle-host-sets" Warning "the class names host sets that its action never asks"
    PortalNotListed = "PN0109" "portal-not-listed" Warning "denied requests lead to a portal that is denied too"
    ObservingDefault = "PN0110" "observing-default" Warning "subscribers nobody knows pass, under observation"
    ShadowedEntry = "PN0111" "shadowed-entry" Warning "a wider entry allows all that this one allows"
    NarrowedEntry = "PN0112" "narrowed-entry" Warning "the entry takes away what a wider one allows"
    WideSuffix = "PN0113" "wide-suffix" Warning "the pattern matches inside a label, so also names of other hosts"
    SharedCdn = "PN0114" "shared-cdn" Warning "the name belongs to a network that serves many owners"
    StrangersZone = "PN0115" "strangers-zone" Warning "below the name strangers can register names"
    EchPublicName = "PN0116" "ech-public-name" Warning "the name hides others behind Encrypted Client Hello"
    DohHost = "PN0117" "doh-host" Warning "the name is a public resolver that answers over HTTPS"
    RevocationUnreachable = "PN0118" "revocation-unreachable" Warning "TLS hosts are listed, but no host that says whether their certificates are revoked"
    ShadowedProbe = "PN0119" "shadowed-probe" Warning "a connectivity probe is let through by a wider entry"
    PlainPortal = "PN0120" "plain-portal" Warning "the portal is not https"
    OffBlocks = "PN0121" "off-blocks" Warning "an ICCID range does not lie on blocks of 100"
    OverlappingRanges = "PN0122" "overlapping-ranges" Warning "two ranges of a class overlap"
    ObsoleteVendorHost = "PN0123" "obsolete-vendor-host" Warning "the vendor's newest table does not list the host any more"
    MissingVendorRows = "PN0124" "missing-vendor-rows" Warning "a vendor's table is copied by hand, and not all of it"
    OlderVendorTable = "PN0125" "older-vendor-table" Warning "the vendor has published a newer table"
    MixedScripts = "PN0126" "mixed-scripts" Warning "the name can be mistaken for another one"
    OvershadowedClass = "PN0127" "overshadowed-class" Warning "an earlier class takes every subscriber of the class"
    PastSchedule = "PN0128" "past-schedule" Warning "the window of a schedule is over"
    ExpiredSuppression = "PN0129" "expired-suppression" Warning "an allowed finding is past its last day"
    UnusedSuppression = "PN0130" "unused-suppression" Warning "an allowed finding does not occur"
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
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        let count = Code::ALL.len();
        assert_eq!((ids.len(), names.len(), meanings.len()), (count, count, count));
        for code in Code::ALL {
            let number: u32 = code.id().strip_prefix("PN").unwrap().parse().unwrap();
            assert_eq!((number < 100, code.id().len()), (code.severity() == Severity::Error, 6));
        }
        assert!(Code::ALL.is_sorted());
    }
}
