//! The durable log: what survives a crash.
//!
//! [`Wal`] turns the kernel's [`Write`](crate::action::Write)s into operations on files and, after a crash,
//! files into what the member [had written](crate::durable::Durable). It does nothing to a disk itself but
//! read it in [`Wal::recover`]: what is to be done is handed out as [`Operation`]s, which a host carries out
//! in order on its [`Disk`], and reports.
//!
//! ```text
//!   submit(write)…  next_job() ─► [Write, Sync, …] ─► completed() = everything through this write is durable
//!                   mark()     ─► names the last batch, where nothing follows for a while; until there is no more
//!                   upkeep()   ─► [Create, …] or [Remove, …], beside the above ─► upkeep_done()
//!                   locate()   ─► Extent ─► [Read] ─► entries()
//! ```
//!
//! One job is in flight at a time; all writes that are submitted meanwhile go into the next, and one sync
//! (group commit). An operation that fails ends the member's life, but for a full disk in [`Wal::upkeep`]:
//! what the disk holds then is only known to a new [`Wal::recover`]. But for the copies of the vote nothing
//! is ever written over what was written before, and nothing is repaired by removing it.
//!
//! # What recovery makes of damage
//!
//! The end of what was being written when the power failed is no damage: it was never acknowledged, and is
//! cut. All else that cannot be read was once acknowledged. [`Wal::recover`] tells the two apart by what is
//! written later: each batch says which were durable before. The entries that are lost to damage are still in
//! the log, as [`EntryBody::Lost`](crate::log::EntryBody::Lost), to be had from others again. Where not even
//! their ids can be known, recovery says so, and the member must not start.
//!
//! The format is described byte by byte in `docs/log-format.md`.
//!
//! ```
//! use kontiki_core::membership::Membership;
//! use kontiki_core::durable::Durable;
//! use kontiki_core::types::{ClusterId, Identity, NodeId};
//! use kontiki_core::wal::{MemoryDisk, WalOptions, Wal};
//!
//! let me = NodeId::new(1).expect("not zero");
//! let identity = Identity::new(ClusterId(7), me);
//! let group = Durable::bootstrap(Membership::of([me])?);
//! let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
//!
//! let mut disk = MemoryDisk::default();
//! let recovery = Wal::open(&mut disk, identity, options, &group)?;
//! assert_eq!(recovery.durable, group);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod codec;
mod disk;
mod header;
mod log;
mod memory;
#[cfg(test)]
mod model;
mod operation;
mod patient;
mod places;
mod recovery;
mod sector;
mod snapshot_file;
#[cfg(test)]
mod tests;

pub use disk::{Damage, Disk, DiskError, FileName, Slot};
pub use header::VERSION;
pub use log::{Extent, Wal, WalOptions};
pub use memory::MemoryDisk;
pub use operation::Operation;
pub use recovery::{Found, Missing, RecoverError, Recovery, WalOpenError};
#[cfg(feature = "replica")]
pub(crate) use snapshot_file::SnapshotDigest;
pub use snapshot_file::{SnapshotHeader, SnapshotWriter};
