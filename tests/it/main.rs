//! Kontiki's tests across crates: the paper, scripts, properties and house rules.

mod contract;
mod house;
mod paper;
mod properties;
mod scripts;
