//! Kontiki's tests across crates: the paper, scripts, properties and house rules.

mod contract;
mod golden;
mod house;
mod paper;
mod properties;
mod regressions;
mod scripts;
mod sweep;
