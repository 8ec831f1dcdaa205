//! CRC-32C (Castagnoli): what frames, sectors and snapshots are checked by.
//!
//! With the feature `hardware-crc` it is the processor's own instruction, where there is one; otherwise, and
//! without `std`, a table. Both give the same numbers.

/// The checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crc32c;

pub(crate) const CRC32: Crc32c = Crc32c;

impl Crc32c {
    /// The checksum of bytes that lie in one piece.
    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        let mut digest = self.digest();
        digest.update(bytes);
        digest.finalize()
    }

    /// The checksum of bytes that come in pieces.
    pub(crate) fn digest(self) -> Digest {
        Digest::new()
    }
}

pub(crate) use implementation::Digest;

#[cfg(not(feature = "hardware-crc"))]
use table as implementation;

#[cfg(feature = "hardware-crc")]
mod implementation {
    /// A checksum that is being computed.
    #[derive(Debug)]
    pub(crate) struct Digest(u32);

    impl Digest {
        pub(super) fn new() -> Self {
            Self(0)
        }

        pub(crate) fn update(&mut self, bytes: &[u8]) {
            self.0 = crc32c::crc32c_append(self.0, bytes);
        }

        pub(crate) fn finalize(self) -> u32 {
            self.0
        }
    }
}

#[cfg(any(test, not(feature = "hardware-crc")))]
mod table {
    use core::fmt;
    use crc::{CRC_32_ISCSI, Crc, Table};

    static TABLE: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

    /// A checksum that is being computed.
    pub(crate) struct Digest(crc::Digest<'static, u32, Table<16>>);

    impl Digest {
        pub(super) fn new() -> Self {
            Self(TABLE.digest())
        }

        pub(crate) fn update(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        pub(crate) fn finalize(self) -> u32 {
            self.0.finalize()
        }
    }

    impl fmt::Debug for Digest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("Digest").field(&self.0.clone().finalize()).finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and rising.
        assert_eq!(CRC32.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(CRC32.checksum(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(CRC32.checksum(&rising), 0x46dd_794e);
    }

    #[test]
    fn pieces_and_the_whole_give_what_the_table_gives() {
        let bytes: Vec<u8> = (0..5000_u32).map(|n| ((n * n) >> 3) as u8).collect();
        for cut in [0, 1, 7, 8, 21, 511, 512, 1024, 4096, 4999, 5000] {
            let (mut pieces, mut table) = (CRC32.digest(), table::Digest::new());
            for piece in [&bytes[..cut], &bytes[cut..]] {
                pieces.update(piece);
                table.update(piece);
            }
            let sum = pieces.finalize();
            assert_eq!((sum, sum), (CRC32.checksum(&bytes), table.finalize()), "cut at {cut}");
        }
    }
}
