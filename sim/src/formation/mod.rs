//! Groups that form: a small world of its own around `kontiki_core::replica::formation`.
//!
//! A seed draws one or two groups of first members and newcomers, and what goes wrong while they form:
//! processes crash, move to other addresses, exchange them, cannot reach each other, and lose their
//! directories; names resolve late, and a list names a member of another group. Their kernels are real, their
//! disks take no time. An operator does what the documentation says. Then everything heals. In some seeds, a
//! group loses power after that, and its members come back with their addresses mixed up.
//!
//! | property | what holds |
//! |---|---|
//! | One Group | never are there two groups from one list |
//! | Listed or Added | no member is in a group that neither listed nor added it |
//! | Formation | once everything has healed, all first members and newcomers vote, and each is connected with each |
//! | Bounded Work | no process asks again and again without a pause |
//! | Election Safety | one leader a term |
//!
//! `cargo sim formation --seeds 0..1000` runs a range, and `cargo sim formation --seed 5 --trace` shows one.

mod plan;
mod report;
mod unit;
mod world;

pub use report::{Report, Tracer};

/// Runs a seed until its groups are complete, or a property is violated.
pub fn run(seed: u64) -> Report {
    world::World::new(seed, None).run(seed)
}

/// The same, and shows every line to `tracer`.
pub fn run_traced(seed: u64, tracer: Tracer<'_>) -> Report {
    world::World::new(seed, Some(tracer)).run(seed)
}
