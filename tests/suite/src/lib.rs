//! The suite has no library: its stories and checks are in `tests/suite`.
