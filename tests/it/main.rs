//! Kontiki's tests across crates: the paper, scripts, properties and house rules.

mod contract;
mod paper;
mod properties;
mod scripts;
