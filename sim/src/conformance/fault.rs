//! What a disk does wrong.

/// What a disk does wrong at one call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The call fails. A sync that fails forgets what it should have covered.
    Fails,
    /// From this call on the disk is full, until a call has failed with that error.
    Full,
    /// The write is acknowledged and lost.
    Loses,
    /// The write is acknowledged and lands elsewhere.
    Misdirects,
}
