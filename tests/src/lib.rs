//! What Kontiki's own tests share.

pub mod lab;
pub mod memory;
pub mod mutant;
pub mod script;
pub mod workspace;

/// The examples of the READMEs compile and run as they stand there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../sim/README.md")]
#[doc = include_str!("../../net-tokio/README.md")]
pub struct Readme;
