//! Every bound of a document, in one place. What is beyond one is a finding, never cut silently.

/// Longest document in bytes, all its files together: room for 100,000 host entries written one
/// key a line.
pub const MAX_DOCUMENT: usize = 16 << 20;

/// Longest time in seconds that a denial may be remembered: none may outlive a purchase.
pub const MAX_DENIED_TTL: u32 = 5;

/// Seconds a denial is remembered if the document does not say.
pub const DEFAULT_DENIED_TTL: u32 = 5;

/// Ceiling in seconds on answers if the document does not say.
pub const DEFAULT_MAX_TTL: u32 = 60;

/// Octets in the portal's URL.
pub const MAX_PORTAL: usize = 2_048;

/// Days after which a host set should be looked at again.
pub const REVIEW_DAYS: i32 = 180;

/// Days before the last day of an entry from which it is reported.
pub const EXPIRY_DAYS: i32 = 14;

/// Most findings reported about one document; the rest are counted.
pub const MAX_FINDINGS: usize = 1_000;

/// Most host sets in a document.
pub const MAX_HOSTSETS: usize = 1_000;

/// Most files of a document, its first file and lists of SIMs included.
pub const MAX_FILES: usize = 64;

/// How deep files may include files; the first file includes at depth 1.
pub const MAX_DEPTH: usize = 8;

/// Octets in the path of another file.
pub const MAX_PATH: usize = 1_024;

/// Most SIMs and ranges in all lists of a document together.
pub const MAX_LISTED_SIMS: usize = 250_000;

/// Most schedules in a document.
pub const MAX_SCHEDULES: usize = 256;

/// Most allowed findings in a document.
pub const MAX_SUPPRESSIONS: usize = 1_000;

/// Most host entries in a document.
pub const MAX_HOSTS: usize = 200_000;

/// Most classes in a document.
pub const MAX_CLASSES: usize = 64;

/// Most host sets a class may name.
pub const MAX_CLASS_HOSTSETS: usize = 256;

/// Most asserts in a document.
pub const MAX_ASSERTS: usize = 1_000;

/// Most cases in a case file.
pub const MAX_CASES: usize = 10_000;

/// Most targets in one list of an assert.
pub const MAX_TARGETS: usize = 1_000;

/// Most names in `lab.resolve`, and most ports in `lab.ports`.
pub const MAX_LAB_ENTRIES: usize = 10_000;

/// Most networks in one list.
pub const MAX_NETWORKS: usize = 1_000;

/// Most octets in a name.
pub const MAX_NAME: usize = 64;

/// Most ports of one host entry.
pub const MAX_PORTS: usize = 64;

/// Most octets in `reason` and `source`.
pub const MAX_WORDS: usize = 1_024;

/// Most match entries of one class.
pub const MAX_MATCHES: usize = 64;

/// Most values under one key of a match entry.
pub const MAX_MATCH_VALUES: usize = 4_096;

/// Octets in an access point name (3GPP TS 23.003 section 9.1).
pub const MAX_APN: usize = 100;

/// Longest duration in a policy, in seconds: one day.
pub const MAX_SECONDS: u32 = 86_400;
