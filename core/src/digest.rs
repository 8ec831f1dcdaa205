//! A fingerprint of bytes that is the same on every machine.

/// A 64-bit fingerprint of a list of byte strings, for `StateMachine::digest`. The same strings give the same
/// number on every platform and in every version of this library; `["a", "bc"]` and `["ab", "c"]` give two.
///
/// Sums of fingerprints (wrapping) do not depend on order, so the digest of a map can follow its changes: add
/// the fingerprint of what comes, subtract that of what goes. It finds mistakes, not attacks: two different
/// states with one digest can be constructed on purpose.
///
/// ```
/// use kontiki_core::machine::fingerprint;
///
/// assert_eq!(fingerprint(&[b"key", b"value"]), fingerprint(&[b"key", b"value"]));
/// assert_ne!(fingerprint(&[b"a", b"bc"]), fingerprint(&[b"ab", b"c"]));
/// ```
pub fn fingerprint(strings: &[&[u8]]) -> u64 {
    let mut sum = mix(strings.len() as u64);
    for string in strings {
        let mut words = string.chunks_exact(8);
        for word in &mut words {
            sum = mix(sum ^ u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        sum = mix(mix(sum ^ u64::from_le_bytes(last)) ^ string.len() as u64);
    }
    sum
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014), moved away from its fixed point at zero.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec;

    #[test]
    fn every_length_every_bit_and_every_cut_counts() {
        let bytes = [0x5a; 40];
        let mut seen = BTreeSet::new();
        for length in 0..=bytes.len() {
            assert!(seen.insert(fingerprint(&[&bytes[..length]])), "length {length}");
            assert!(seen.insert(fingerprint(&[&bytes[..length], &bytes[length..]])), "cut at {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = vec![0x5a; 40];
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(fingerprint(&[&changed])), "bit {bit}");
        }
    }

    /// Members of two versions compare their digests.
    #[test]
    fn the_fingerprint_stays() {
        assert_eq!(fingerprint(&[]), 0xe220_a839_7b1d_cdaf);
    }
}
