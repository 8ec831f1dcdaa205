//! Recovery of the log, exhaustively: every disk that a crash or damage can leave at the end of a log, each
//! given to the production code ([`Wal::recover`](kontiki_core::wal::Wal::recover)) and judged by an oracle
//! that knows what had been acknowledged.
//!
//! A *history* is a few writes of a member, with every operation that its log asks for. Between any two
//! operations power may fail: that is a *moment*, at which it is known what is durable, what is under way and
//! what was acknowledged. At each moment four tiers of cases are tried:
//!
//! | tier | what is tried |
//! |---|---|
//! | crash | every mix of sectors that no sync has covered (not written, as written, torn), and of changes of names |
//! | twice | one damaged block or none, and power fails again after each operation of recovery |
//! | two | any two blocks damaged, each in every way: blank, half blank at each sector, torn, older, a flipped bit, unreadable, misdirected |
//! | all | the last three batches, the last segment's header and both copies of the vote damaged at once, each in a few ways |
//!
//! The promises:
//!
//! | property | what holds |
//! |---|---|
//! | Durable Log | what was acknowledged is there, or reported as lost, or the member must not start |
//! | No False Alarm | what a mere crash leaves is never called damage, and never prevents a start |
//! | Restart | one damaged block of which something else tells never prevents a start |
//! | Same Again | what was recovered is recovered again, also where power fails while recovery writes |
//! | No Panic | recovery answers |
//!
//! Each case has a number, so a range of them is a part of the work, and one of them is a failure to replay.
//!
//! ```
//! use kontiki_sim::recovery::{Plan, Tier};
//!
//! let plan = Plan::new(&[Tier::Crash]);
//! let tally = plan.run(0..plan.count(), 10_007);
//! assert!(tally.cases > 0 && tally.failed() == 0);
//! ```

mod disk;
mod frame;
mod history;
mod letter;
mod oracle;
mod piece;
mod plan;
mod shapes;
mod spot;
#[cfg(test)]
mod tests;
mod trial;

pub use frame::Tier;
pub use oracle::{Broken, Held};
pub use plan::{Explanation, Failure, Plan, Tally};
