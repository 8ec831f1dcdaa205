//! Kontiki over real sockets and files: the thin tokio adapter.
//!
//! It holds no protocol decision: all of those are in `kontiki-core`, where they are simulated. What it adds
//! to a [`Replica`](kontiki_core::replica::Replica) is bytes, files, time and tasks:
//!
//! - [`node`]: a member, from start to stop, and the handle with which an application uses it;
//! - [`transport`]: sockets between members, and to clients, with or without [`tls`];
//! - [`disk`]: a member's directory as real files;
//! - [`host`]: what several groups in one process share;
//! - [`client`]: finds the leader by itself, and tries again until it has an answer;
//! - [`protocol`]: what clients say;
//! - [`metrics`]: counters and histograms of a member;
//! - `admin`, with the feature of that name: the admin port, and `view`, its JSON;
//! - [`record`]: the flight recorder.
//!
//! The binary `kontiki` is made of these: `docs/kontiki.md`.
//!
//! Begin with [`node`], which opens with an example.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![cfg(unix)]

pub mod disk;
pub mod record;

cfg_if::cfg_if! {
    if #[cfg(feature = "node")] {
        mod address_book;
        pub mod client;
        mod clock;
        pub mod host;
        pub mod identity;
        pub mod metrics;
        pub mod node;
        mod places;
        pub mod protocol;
        mod storage;
        mod sync;
        pub mod tls;
        pub mod transport;

        /// Returns a random number of the system's.
        fn entropy() -> std::io::Result<u64> {
            getrandom::u64().map_err(std::io::Error::from)
        }
    }
}

cfg_if::cfg_if! {
    if #[cfg(feature = "admin")] {
        pub mod admin;
        pub mod view;
    }
}
