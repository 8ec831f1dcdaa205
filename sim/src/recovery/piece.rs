//! What stands on the disk instead of what should.

use super::disk::Names;

/// Bytes that the disk holds instead of what it should.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) file: usize,
    pub(super) at: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) unreadable: Vec<usize>,
}

/// One of the things that the disk can have made of a place.
#[derive(Clone, Default, Debug)]
pub(super) struct Choice {
    pub(super) pieces: Vec<Piece>,
    /// The names that are left.
    pub(super) names: Option<Names>,
    /// A file of which not even the length is left.
    pub(super) empty: Option<usize>,
    /// The damaged blocks, a bit each.
    pub(super) damages: u64,
    pub(super) words: String,
}
