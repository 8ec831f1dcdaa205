//! Mutants of `core` in one build: the environment says which of them is on.

pub mod edit;
/// Compiled here for its test alone: it belongs to the copy.
#[cfg(test)]
#[allow(dead_code, missing_docs, unreachable_pub, unused_extern_crates)]
mod switch;

/// The variable that has the number of the mutant that is on, counted from 1. Without it none is.
pub const CHOSEN: &str = "KONTIKI_MUTANT";

/// The file to which the module of switches is added.
pub const ROOT_OF_CORE: &str = "core/src/lib.rs";

const SWITCH: &str = include_str!("switch.rs");

/// The module of switches, `crate::mutant`, without its test.
pub fn switch() -> &'static str {
    SWITCH.split("#[cfg(test)]").next().unwrap_or(SWITCH)
}

/// What the root of `core` holds in the copy.
pub fn with_switch(root: &[u8]) -> Vec<u8> {
    let (text, switch) = (String::from_utf8_lossy(root), switch());
    format!("{text}\n#[allow(missing_docs)]\npub mod mutant {{\n{switch}}}\n").into_bytes()
}
