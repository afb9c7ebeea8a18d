//! hellos
