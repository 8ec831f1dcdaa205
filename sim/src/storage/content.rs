//! The bytes of a file.

use std::ops::Range;
use std::sync::Arc;

/// The bytes of a file. Shared between clones of a disk until one of them writes.
#[derive(Clone, Default, Debug)]
pub(super) struct Content {
    /// The first bytes. Those behind them, up to the length, are zeros: a new segment costs nothing.
    bytes: Arc<Vec<u8>>,
    length: usize,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Fills `into` with the bytes from `at` on, as far as there are any. The rest becomes zeros.
    pub(super) fn read(&self, at: usize, into: &mut [u8]) {
        let kept = self.kept(at, into.len());
        into[..kept.len()].copy_from_slice(kept);
        into[kept.len()..].fill(0);
    }

    /// So many bytes from `at` on; zeros where there are none.
    pub(super) fn copy(&self, at: usize, length: usize) -> Self {
        Self { bytes: Arc::new(self.kept(at, length).to_vec()), length }
    }

    pub(super) fn write(&mut self, at: usize, written: &[u8]) {
        self.grow(at + written.len());
        if at < self.bytes.len() {
            self.kept_mut(at..at + written.len()).copy_from_slice(written);
        } else if !written.is_empty() {
            let bytes = self.room(at + written.len());
            bytes.resize(at, 0);
            bytes.extend_from_slice(written);
        }
    }

    /// Exchanges the bytes from `at` on for others.
    pub(super) fn swap(&mut self, at: usize, other: &mut Self) {
        let length = other.length;
        self.kept_mut(at..at + length).swap_with_slice(other.kept_mut(0..length));
    }

    pub(super) fn change(&mut self, at: usize, change: impl FnOnce(u8) -> u8) {
        let byte = &mut self.kept_mut(at..at + 1)[0];
        *byte = change(*byte);
    }

    /// It is at least so long.
    pub(super) fn grow(&mut self, length: usize) {
        self.length = self.length.max(length);
    }

    /// It is at most so long.
    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        if length < self.bytes.len() {
            Arc::make_mut(&mut self.bytes).truncate(length);
        }
    }

    /// Of so many bytes from `at` on those that are kept.
    fn kept(&self, at: usize, length: usize) -> &[u8] {
        let kept = self.bytes.get(at..).unwrap_or_default();
        &kept[..kept.len().min(length)]
    }

    /// The bytes of this range. From now on all of them are kept.
    pub(super) fn kept_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        debug_assert!(range.end <= self.length, "{range:?} of {} bytes", self.length);
        if range.is_empty() {
            return &mut [];
        }
        let bytes = self.room(range.end);
        if bytes.len() < range.end {
            bytes.resize(range.end, 0);
        }
        &mut bytes[range]
    }

    /// The bytes that are kept, with room for those before `end`. It is made once for the whole file, which
    /// is most often written from its beginning to its end.
    fn room(&mut self, end: usize) -> &mut Vec<u8> {
        let bytes = Arc::make_mut(&mut self.bytes);
        if bytes.capacity() < end {
            bytes.reserve(self.length.min(end + AHEAD) - bytes.len());
        }
        bytes
    }
}

/// How much room is made at most for what is not written yet.
const AHEAD: usize = 1 << 20;

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        let common = self.bytes.len().min(other.bytes.len());
        let zeros = |content: &Self| content.bytes[common..].iter().all(|byte| *byte == 0);
        self.length == other.length
            && self.bytes[..common] == other.bytes[..common]
            && zeros(self)
            && zeros(other)
    }
}

impl Eq for Content {}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0xff; content.len()];
        content.read(0, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_never_written_is_zeros() {
        let mut content = Content::default();
        content.grow(6);
        content.write(2, b"ab");
        assert_eq!(all(&content), b"\0\0ab\0\0");
        content.truncate(3);
        content.grow(5);
        assert_eq!(all(&content), b"\0\0a\0\0", "what was cut off does not come back");
    }

    #[test]
    fn bytes_are_exchanged_and_changed_behind_what_was_written_too() {
        let mut content = Content::default();
        content.grow(4);
        let mut other = Content::default();
        other.write(0, b"xy");
        content.swap(1, &mut other);
        assert_eq!((all(&content), all(&other)), (b"\0xy\0".to_vec(), b"\0\0".to_vec()));
        content.change(3, |byte| byte | 1);
        assert_eq!(all(&content), b"\0xy\x01");
    }

    #[test]
    fn equal_ones_have_the_same_bytes_however_they_came_to_be() {
        let mut zeros = Content::default();
        zeros.grow(3);
        let mut written = Content::default();
        written.write(0, &[0; 2]);
        assert_ne!(written, zeros, "one is longer");
        written.grow(3);
        assert_eq!(written, zeros);
        written.write(1, &[1]);
        assert_ne!(written, zeros);
        assert_ne!(zeros, written);
    }
}
