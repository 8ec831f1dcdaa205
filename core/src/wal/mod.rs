//! The durable log: what survives a crash.

mod disk;

pub use disk::{Disk, DiskError, FileName, Operation, Slot};
