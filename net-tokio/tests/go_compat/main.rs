//! The scenarios that the Go library this one descends from was tested with, over real sockets and files; and
//! what it promised beside them, each thing shown once. `docs/from-go-raft.md` says which test is which.
//!
//! Where the original asserted what Raft does not promise, the test asserts what it does: see the comments.

mod commits;
mod crashes;
mod diary;
mod elections;
mod harness;
mod life;
mod table;
