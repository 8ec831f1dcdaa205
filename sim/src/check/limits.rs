//! What the checks of bounded memory and bounded work have in common.

use kontiki_core::config::Options;

/// What a client's command or a membership adds to an entry, at most, for each member.
const OVERHEAD: u64 = 1_024;

/// An amount, what it is of, and its limit.
pub(super) type Limited = (&'static str, u64, u64);

/// The largest append of so many members with these settings: an entry that is larger than an append may be
/// travels alone.
pub(super) fn largest_append(members: u64, options: &Options) -> u64 {
    let largest_entry = options.max_payload_bytes + OVERHEAD * (members + 1);
    options.max_append_bytes.max(largest_entry)
}

/// The first amount that is beyond its limit.
pub(super) fn first_beyond<const N: usize>(all: [Limited; N]) -> Option<Limited> {
    all.into_iter().find(|(_, amount, limit)| amount > limit)
}
