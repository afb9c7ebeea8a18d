//! Captures of real clients; how each was made: `tests/data/captures`.

use proptest::prelude::*;

use super::{made::*, *};

/// File, and everything in it that is asked for.
const CAPTURED: [(&[u8], &[&str]); 0] = [];
