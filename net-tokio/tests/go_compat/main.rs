//! The scenarios of the Go library that this one descends from, over real sockets and files, and its other
//! promises, each with a test. `docs/from-go-raft.md` maps them.
//!
//! Where the original asserted more than Raft promises, the test asserts what Raft promises: see the
//! comments.

mod commits;
mod crashes;
mod diary;
mod elections;
mod harness;
mod life;
mod table;
