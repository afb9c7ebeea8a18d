//! What is proposed.
