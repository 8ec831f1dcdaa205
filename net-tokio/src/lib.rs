//! Kontiki over real sockets and files: the thin tokio adapter.
//!
//! What works so far is the member's directory: [`disk::FileDisk`], on systems where a directory can be synced. The rest of this page says
//! what the crate will be, so that it can be held against it:
//!
//! - a driver task per host, which moves events into the kernel of `kontiki-core` and carries out its actions;
//! - a transport: TCP, length-prefixed and checksummed postcard frames, a version handshake, mutual TLS, bounded
//!   queues that drop and count;
//! - a disk thread that writes the durable log with one sync for all that waits;
//! - an HTTP port for operators, and the binary `kontiki`: serve, dev, put, get, status, members, bench.
//!
//! It will hold no protocol decision: all of those are in `kontiki-core`, where they are simulated.
#![forbid(unsafe_code)]

#[cfg(feature = "admin")]
pub mod admin;
#[cfg(unix)]
pub mod disk;
pub mod metrics;
pub mod protocol;
