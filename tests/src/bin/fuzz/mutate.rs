//! Changes to bytes, such as break decoders.

use crate::rng::Rng;

/// A few changes; sometimes none. `other` is something of the same kind, of which pieces are taken.
pub(crate) fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..rng.below(6) {
        change(bytes, other, rng);
    }
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    let at = rng.place(bytes.len());
    let end = at + rng.place((bytes.len() - at).min(16)) + 1;
    match rng.below(11) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.next() as u8,
        2 => bytes[at] = rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        3 => bytes[at] = bytes[at].wrapping_add(rng.pick(&[1, 0xff])),
        4 => bytes.insert(at, rng.next() as u8),
        5 => drop(bytes.drain(at..end)),
        6 => {
            let piece = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        // The beginning of this and the end of the other.
        7 if !other.is_empty() => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.place(other.len())..]);
        }
        8 => bytes.truncate(at),
        // Great numbers: as postcard writes them, and as they are.
        9 => {
            let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
            drop(bytes.splice(at..end, longest[rng.place(longest.len())..].iter().copied()));
        }
        _ => bytes[at..end].fill(0xff),
    }
}
