//! Raft consensus as a pure state machine: events in, actions out.
//!
//! [`Raft`] is one member of one group. It has no clock, no socket, no file, no thread and no source of
//! entropy: a host tells it what happened, as an [`Event`], and carries out what it decides, as a list of
//! [`Action`]s. The same events give the same actions, bit for bit, on every platform, which is what
//! makes whole clusters of it run from a seed in `kontiki-sim`.
//!
//! # What a host does
//!
//! | the kernel says | the host does | and reports |
//! |---|---|---|
//! | [`Send`](action::Action::Send) | sends the message, at once; it may get lost | nothing |
//! | [`Persist`](action::Action::Persist) | writes it, atomically, in the order of the writes | [`Persisted`](event::Event::Persisted), once it is durable |
//! | [`Apply`](action::Action::Apply) | applies these entries of [`Raft::log`](raft::Raft::log), in order | [`Applied`](event::Event::Applied) |
//! | [`Restore`](action::Action::Restore) | puts the state machine into the state of a snapshot that it has | [`Applied`](event::Event::Applied) |
//! | [`FetchSnapshot`](action::Action::FetchSnapshot) | gets a snapshot's bytes from another member, by its own means | [`SnapshotFetched`](event::Event::SnapshotFetched) or [`SnapshotFailed`](event::Event::SnapshotFailed) |
//! | [`LoadEntries`](action::Action::LoadEntries) | reads entries back from its own log | [`EntriesLoaded`](event::Event::EntriesLoaded) |
//! | [`TakeSnapshot`](action::Action::TakeSnapshot) | takes a snapshot soon, for a member that has lost its own | [`SnapshotTaken`](event::Event::SnapshotTaken) |
//! | [`Respond`](action::Action::Respond) | answers the client: each request has exactly one outcome | nothing |
//! | [`Halt`](action::Action::Halt) | stops the member, and calls a human with the reason | nothing |
//! | [`Raft::deadline`](raft::Raft::deadline) | sends [`Wake`](event::Event::Wake) no later than then | |
//!
//! There are no other rules of order: the kernel withholds what must wait for the disk until the host reports
//! the write. A slow disk is an event that comes late; a crash is events that never come. A host that waits
//! for its disk or its state machine anyway carries out actions in their order, and reports nothing
//! ([`Options::synchronous_writes`](config::Options::synchronous_writes)). After a crash,
//! apply the durable writes in order ([`Durable::write`](durable::Durable::write) does) and
//! [`restore`](raft::Raft::restore) the member.
//!
//! # What clients and operators ask
//!
//! | request | answer | what the host then knows |
//! |---|---|---|
//! | [`Propose`](event::Event::Propose) | [`Committed`](action::Outcome::Committed) | the payload is in the log at this place for ever, and will be applied everywhere |
//! | [`Read`](event::Event::Read), on any member, [by quorum or by lease](event::ReadVia) | [`Ready`](action::Outcome::Ready) | the state machine here holds all that was acknowledged before the read: read it now |
//! | [`Reconfigure`](event::Event::Reconfigure) | [`Committed`](action::Outcome::Committed) | the group has the new [members](membership::Membership), and no old majority decides any more |
//! | [`Transfer`](event::Event::Transfer) | [`Transferred`](action::Outcome::Transferred) | this member no longer leads |
//! | any | [`Refused`](action::Outcome::Refused) | nothing was done, and nothing will be: the [reason](action::Refusal) says what to do |
//! | any | [`Unknown`](action::Outcome::Unknown) | leadership was lost: the request may take effect, or not |
//!
//! # Beginning, growing, shrinking
//!
//! A group begins with members that all start from the same
//! [`Durable::bootstrap`](durable::Durable::bootstrap): it lists them with their
//! [incarnations](types::Incarnation), each drawn when its data directory was made. A later member starts
//! from an empty [`Durable`] and waits. [`Change::AddVoter`] adds it as a learner, and makes it a voter once
//! it has caught up. Several changes in one request take effect together. A member whose disk was lost halts
//! with `Violation::StaleIncarnation`: remove it, start it under a new incarnation, and add it again. Where a
//! majority is lost for good, see [`recover`].
//!
//! # Snapshots
//!
//! The host decides when to take one. It asks [`Raft::snapshot_at`](raft::Raft::snapshot_at) for the
//! metadata, stores it with the bytes, and then reports [`SnapshotTaken`](event::Event::SnapshotTaken); the
//! kernel forgets what is no longer needed, but for [a tail](config::Options::retained_entries), and says so
//! in its next write. Of the entries that are applied, only
//! [`max_cached_bytes`](config::Options::max_cached_bytes) stay in memory.
//!
//! # A cluster of three, by hand
//!
//! ```
//! use kontiki_core::{Action, ClusterId, Config, Durable, Event, Identity, Instant, Membership, NodeId, Options};
//! use kontiki_core::{Payload, Proposal, Raft, RequestId, RoleKind};
//! use std::collections::VecDeque;
//!
//! let ids = [1, 2, 3].map(|id| NodeId::new(id).expect("not zero"));
//! let group = Durable::bootstrap(Membership::of(ids)?);
//! let mut members = Vec::new();
//! for id in ids {
//!     let options = Options { seed: 42, ..Options::default() };
//!     let config = Config::new(Identity::new(ClusterId(7), id), options)?;
//!     members.push(Raft::restore(config, group.clone(), Instant::ZERO)?);
//! }
//!
//! // The member with the earliest deadline campaigns. Carry out every action that follows.
//! let now = members.iter().map(Raft::deadline).min().expect("three members");
//! let mut answers = Vec::new();
//! let mut run = |members: &mut Vec<Raft>, first: (NodeId, Event)| {
//!     let mut events = VecDeque::from([first]);
//!     while let Some((id, event)) = events.pop_front() {
//!         for action in members[id.get() as usize - 1].step(now, event) {
//!             match action {
//!                 Action::Send(message) => events.push_back((message.to.id, Event::Receive(message))),
//!                 Action::Persist(write) => events.push_back((id, Event::Persisted(write.seq))),
//!                 Action::Apply { through } => events.push_back((id, Event::Applied(through))),
//!                 Action::Respond { outcome, .. } => answers.push(outcome.to_string()),
//!                 Action::Halt(violation) => panic!("{violation}"),
//!                 _ => unreachable!("no snapshots here"),
//!             }
//!         }
//!     }
//! };
//! for id in ids {
//!     run(&mut members, (id, Event::Wake));
//! }
//! let leader = members.iter().find(|member| member.status().role == RoleKind::Leader).expect("a leader");
//! let leader = leader.status().id;
//! let proposal = Proposal { request: RequestId(1), payload: Payload::from("set x 1") };
//! run(&mut members, (leader, Event::Propose(proposal)));
//! assert_eq!(answers, ["committed as 2:1"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to read on
//!
//! [`event`] and [`action`] are the whole border; [`raft`] is the flow of a step, on one page; the roles
//! behind it hold only what they alone need. With the feature `replica` there is what is replicated: the
//! `machine` module, its trait `StateMachine` and the sessions that make a client's command count once, and
//! `kv`, a map to look at or to use. With the feature `serde` all public data can be serialized; with `wire`,
//! messages travel as checksummed frames (the `wire` module); with `record`, all that happens to a kernel can
//! be kept and happen again (the `record` module); with `hardware-crc`, which needs the standard library, all
//! checksums are the processor's own work. With `replica` there is all of the above in one piece, with its
//! log, its clients and its snapshots (the `replica` module): a host then only moves bytes.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod action;
#[cfg(feature = "wal")]
mod bytes;
mod common;
pub mod config;
#[cfg(any(feature = "wal", feature = "wire"))]
mod crc32c;
#[cfg(any(feature = "replica", feature = "record"))]
mod digest;
mod durability;
pub mod durable;
pub mod event;
#[cfg(feature = "replica")]
pub mod kv;
pub mod log;
#[cfg(feature = "replica")]
pub mod machine;
pub mod membership;
pub mod message;
mod progress;
pub mod quorum;
pub mod raft;
#[cfg(feature = "record")]
pub mod record;
pub mod recover;
mod repair;
#[cfg(feature = "replica")]
pub mod replica;
mod rng;
mod role;
pub mod status;
pub mod time;
pub mod types;
#[cfg(feature = "wal")]
pub mod wal;
#[cfg(feature = "wire")]
pub mod wire;

pub use action::{Action, Outcome, Refusal};
pub use config::{Config, Options};
pub use durable::Durable;
pub use event::{Event, Proposal};
pub use membership::{Change, Membership};
pub use message::Message;
pub use raft::Raft;
pub use status::{RoleKind, Status};
pub use time::{Instant, Nanos};
pub use types::{ClusterId, Identity, Index, LogId, Member, NodeId, Payload, RequestId, Term};
