//! Kontiki over real sockets and files: the thin tokio adapter.
//!
//! It holds no protocol decision: all of those are in `kontiki-core`, where they are simulated. What it adds to a
//! [`Replica`](kontiki_core::replica::Replica) is bytes, files, time and tasks:
//!
//! - [`node`]: a member, from start to stop, and the handle with which an application uses it;
//! - [`transport`]: sockets between members, and to clients, with or without [`tls`];
//! - [`disk`]: a member's directory as real files;
//! - [`host`]: what several groups in one process share;
//! - [`client`]: finds the leader by itself, and tries again until it has an answer;
//! - [`protocol`]: what clients say;
//! - [`metrics`]: what is counted and timed; with the feature `admin`, a port for operators shows it;
//! - [`record`]: the flight recorder.
//!
//! The binary `kontiki` is made of these: `docs/kontiki.md`.
//!
//! Begin with [`node`], which opens with an example.
#![forbid(unsafe_code)]
#![cfg(unix)]

mod address_book;
#[cfg(feature = "admin")]
pub mod admin;
pub mod client;
mod clock;
pub mod disk;
pub mod host;
pub mod identity;
pub mod metrics;
pub mod node;
mod places;
pub mod protocol;
pub mod record;
mod storage;
pub mod tls;
pub mod transport;

/// A random number of the system's.
fn entropy() -> std::io::Result<u64> {
    getrandom::u64().map_err(std::io::Error::from)
}
