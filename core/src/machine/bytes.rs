//! Byte strings behind their length, and items that come in pieces.

use crate::bytes::Reader;
use alloc::vec::Vec;

impl<'a> Reader<'a> {
    /// A byte string behind its length in four bytes.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.bytes(length)
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
