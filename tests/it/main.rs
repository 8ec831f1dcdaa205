//! Kontiki's tests across crates: the paper, scripts, properties and house rules.

mod paper;
mod scripts;
