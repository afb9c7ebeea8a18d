//! Exit codes, and what is printed.
