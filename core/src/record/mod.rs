//! Recordings: every event that a kernel handled, kept for a replay.
//!
//! A kernel is deterministic ([`Raft`](crate::raft::Raft)): the same state and the same events give the same
//! actions. So a copy of a kernel and every event since then can be replayed elsewhere, step by step. An
//! incident in production becomes a test.
//!
//! A recording begins with a *checkpoint*, the whole kernel as it was before the first step, and goes on with
//! the steps: the time, the event, and a [`Footprint`] of what came of it. It is a string of bytes, to which
//! bytes are appended and nothing else:
//!
//! ```text
//!   8 bytes   "kontrec\n"
//!   frame     About: what the recording is of
//!   frame     the kernel
//!   frame...  a step each: (time, event, footprint, if the step ended)
//! ```
//!
//! A frame is that of [`wire`](crate::wire): length, CRC-32C, format, and here postcard. Recordings may
//! follow one another, in one file or in several that are joined. They are read by the version of the library
//! that wrote them: what a kernel keeps between steps is its own affair, and [`FORMAT`] rises whenever that
//! changes.
//!
//! What is in it is what the kernel was told: **every payload** of the time, and those of the log that were
//! in memory. Guard a recording as the data itself.
//!
//! ```
//! use kontiki_core::config::{Config, Options};
//! use kontiki_core::event::Event;
//! use kontiki_core::membership::Membership;
//! use kontiki_core::durable::Durable;
//! use kontiki_core::raft::Raft;
//! use kontiki_core::record::{self, Recorder};
//! use kontiki_core::time::Instant;
//! use kontiki_core::types::{ClusterId, Identity, NodeId};
//!
//! let id = NodeId::new(1).expect("not zero");
//! let config = Config::new(Identity::new(ClusterId(7), id), Options::default())?;
//! let group = Durable::bootstrap(Membership::of([id])?);
//! let mut raft = Raft::restore(config, group, Instant::ZERO).expect("a whole disk");
//!
//! // A host of a bare kernel calls the recorder before and after each step; a replica does so by itself.
//! let mut recorder = Recorder::default();
//! for now in [Instant::ZERO, raft.deadline()] {
//!     recorder.begins(now, &Event::Wake, &raft);
//!     let actions = raft.step(now, Event::Wake);
//!     recorder.ends(&actions, &raft);
//! }
//!
//! let bytes = recorder.take();
//! let recordings = record::recordings(&bytes)?;
//! let mut player = recordings[0].play()?;
//! for step in &mut player {
//!     assert_eq!(step?.difference(), None);
//! }
//! assert_eq!(player.raft(), &raft);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod play;
mod recorder;
#[cfg(test)]
mod tests;

pub use crate::digest::fingerprint;
pub use play::{
    Difference, End, NotARecording, PlayError, Player, RecordedStep, Recording, Step, is_recording,
    recordings,
};
pub use recorder::{About, FORMAT, Footprint, LIBRARY, MAGIC, Recorder, Steps, TooLarge, begin};
