//! What Kontiki's own tests share.

pub mod lab;

/// The README's example compiles and runs as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
