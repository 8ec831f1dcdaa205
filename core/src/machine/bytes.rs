//! Reads numbers and byte strings from unchecked bytes. All numbers are little-endian.

use alloc::vec::Vec;

/// The bytes not read yet. Every read returns `None` where the bytes end before it; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A byte string behind its length in four bytes.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.bytes(length)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// Returns `None` where bytes are left over: they are an error of the encoding.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Appends a byte string behind its length in four bytes.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a byte string of less than four gigabytes");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Items that come in pieces, cut anywhere. Between the pieces it holds the item that is not yet whole, and
/// no more.
#[derive(Clone, Default, Debug)]
pub(crate) struct Items {
    begun: Vec<u8>,
}

impl Items {
    /// Takes a piece, and hands out every item that is whole by now. `item` reads one: `Ok(None)` says that
    /// its bytes go on, or that it wants no more of them.
    pub(crate) fn feed<E>(
        &mut self,
        piece: &[u8],
        mut item: impl FnMut(&mut Reader<'_>) -> Result<Option<()>, E>,
    ) -> Result<(), E> {
        let mut begun = core::mem::take(&mut self.begun);
        let bytes = if begun.is_empty() {
            piece
        } else {
            begun.extend_from_slice(piece);
            &begun
        };
        let mut rest = Reader(bytes);
        while !rest.0.is_empty() {
            let mut ahead = rest;
            match item(&mut ahead)? {
                Some(()) => rest = ahead,
                None => break,
            }
        }
        self.begun = if rest.0.len() == begun.len() { begun } else { rest.0.to_vec() };
        Ok(())
    }

    /// What was fed and is part of no whole item.
    pub(crate) fn leftover(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.begun)
    }

    /// Whether all that was fed were whole items.
    pub(crate) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }
}
