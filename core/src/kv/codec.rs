//! What is said to a [`Kv`](super::Kv) and by it, as bytes.

use crate::bytes::Reader;
use crate::machine::bytes::put_string;
use alloc::vec::Vec;
use core::fmt;

/// A change of the map. As bytes, which [`encode`](Self::encode) makes:
///
/// ```text
///   1 byte    what it is
///               1  Put:             key, value
///               2  Delete:          key
///               3  CompareAndSwap:  key, value, expected
/// ```
///
/// A byte string stands behind its length (4, little-endian); one that may be missing behind a byte that is 1
/// where it is there, or else is a byte 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command<'a> {
    /// Gives a key a value, whatever it had.
    Put {
        /// Of at most [`MAX_KEY`](super::MAX_KEY) bytes.
        key: &'a [u8],
        /// Of at most [`MAX_VALUE`](super::MAX_VALUE) bytes.
        value: &'a [u8],
    },
    /// Takes a key out of the map.
    Delete {
        /// Which.
        key: &'a [u8],
    },
    /// Gives a key a value if it has this one.
    CompareAndSwap {
        /// Which key.
        key: &'a [u8],
        /// The value that it must have; `None`: it must have none.
        expected: Option<&'a [u8]>,
        /// The value that it gets.
        value: &'a [u8],
    },
}

/// A question about the map. As bytes, put together as a [`Command`] is:
///
/// ```text
///   1 byte    what it is
///               1  Get:   key
///               2  Scan:  from, to (may be missing), limit (4, little-endian)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Query<'a> {
    /// The value of a key.
    Get {
        /// Which.
        key: &'a [u8],
    },
    /// Keys and values, by rising key.
    Scan {
        /// From this key on.
        from: &'a [u8],
        /// Up to this key, which is not among them; `None`: to the end.
        to: Option<&'a [u8]>,
        /// How many at most.
        limit: u32,
    },
}

/// What a [`Command`] or a [`Query`] is answered. As bytes, put together as a [`Command`] is:
///
/// ```text
///   1 byte    what it is
///               0  Malformed
///               1  TooLong
///               2  Written
///               3  Deleted:  a byte, 1 if it existed, or else 0
///               4  Differs:  actual (may be missing)
///               5  Value:    value (may be missing)
///               6  Found:    a byte, 1 if there is more, or else 0; then each key and its value, to the end
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reply {
    /// Nothing was done: the bytes are no command and no query.
    Malformed,
    /// Nothing was done: the key or the value is too long, see [`MAX_KEY`](super::MAX_KEY) and
    /// [`MAX_VALUE`](super::MAX_VALUE).
    TooLong,
    /// The key has the value.
    Written,
    /// The key has no value.
    Deleted {
        /// Whether it had one before.
        existed: bool,
    },
    /// The key does not have the value that was expected, and keeps what it has.
    Differs {
        /// What that is; `None`: it has no value.
        actual: Option<Vec<u8>>,
    },
    /// The value of the key; `None`: it has none.
    Value(Option<Vec<u8>>),
    /// What lies in the range, by rising key.
    Found {
        /// Keys and values.
        entries: Vec<(Vec<u8>, Vec<u8>)>,
        /// Whether the limit, or [`MAX_SCAN`](super::MAX_SCAN), left out some: go on behind the last of
        /// these.
        more: bool,
    },
}

/// The bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the bytes are no command, query or reply of the key-value store: make them with `encode`",
        )
    }
}

impl core::error::Error for Malformed {}

impl<'a> Command<'a> {
    /// The key that it is about.
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::Put { key, .. } | Self::Delete { key } | Self::CompareAndSwap { key, .. } => key,
        }
    }

    /// The value that it would give the key.
    pub fn value(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Put { value, .. } | Self::CompareAndSwap { value, .. } => Some(value),
            Self::Delete { .. } => None,
        }
    }

    /// Its bytes. Panics on strings of four gigabytes and more.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match *self {
            Self::Put { key, value } => {
                out.push(1);
                put_entry(key, value, &mut out);
            }
            Self::Delete { key } => {
                out.push(2);
                put_string(&mut out, key);
            }
            Self::CompareAndSwap { key, expected, value } => {
                out.push(3);
                put_entry(key, value, &mut out);
                put_option(expected, &mut out);
            }
        }
        out
    }

    /// The reverse of [`encode`](Self::encode). Copies nothing.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        whole(bytes, |reader| {
            Some(match reader.u8()? {
                1 => Self::Put { key: reader.string()?, value: reader.string()? },
                2 => Self::Delete { key: reader.string()? },
                3 => {
                    let (key, value) = (reader.string()?, reader.string()?);
                    Self::CompareAndSwap { key, value, expected: read_option(reader)? }
                }
                _ => return None,
            })
        })
    }
}

impl<'a> Query<'a> {
    /// Its bytes. Panics on strings of four gigabytes and more.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match *self {
            Self::Get { key } => {
                out.push(1);
                put_string(&mut out, key);
            }
            Self::Scan { from, to, limit } => {
                out.push(2);
                put_string(&mut out, from);
                put_option(to, &mut out);
                out.extend_from_slice(&limit.to_le_bytes());
            }
        }
        out
    }

    /// The reverse of [`encode`](Self::encode). Copies nothing.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        whole(bytes, |reader| {
            Some(match reader.u8()? {
                1 => Self::Get { key: reader.string()? },
                2 => Self::Scan { from: reader.string()?, to: read_option(reader)?, limit: reader.u32()? },
                _ => return None,
            })
        })
    }
}

impl Reply {
    /// Its bytes. Panics on strings of four gigabytes and more.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Malformed => out.push(0),
            Self::TooLong => out.push(1),
            Self::Written => out.push(2),
            Self::Deleted { existed } => out.extend_from_slice(&[3, u8::from(*existed)]),
            Self::Differs { actual } => {
                out.push(4);
                put_option(actual.as_deref(), &mut out);
            }
            Self::Value(value) => {
                out.push(5);
                put_option(value.as_deref(), &mut out);
            }
            Self::Found { entries, more } => {
                out.extend_from_slice(&[6, u8::from(*more)]);
                entries.iter().for_each(|(key, value)| put_entry(key, value, &mut out));
            }
        }
        out
    }

    /// The reverse of [`encode`](Self::encode). Takes no more memory than a small multiple of the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        whole(bytes, |reader| {
            Some(match reader.u8()? {
                0 => Self::Malformed,
                1 => Self::TooLong,
                2 => Self::Written,
                3 => Self::Deleted { existed: read_bool(reader)? },
                4 => Self::Differs { actual: read_option(reader)?.map(Vec::from) },
                5 => Self::Value(read_option(reader)?.map(Vec::from)),
                6 => {
                    let (more, mut entries) = (read_bool(reader)?, Vec::new());
                    while reader.end().is_none() {
                        entries.push((reader.string()?.to_vec(), reader.string()?.to_vec()));
                    }
                    Self::Found { entries, more }
                }
                _ => return None,
            })
        })
    }
}

/// Reads something that takes all of the bytes.
fn whole<'a, T>(bytes: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Option<T>) -> Result<T, Malformed> {
    let mut reader = Reader(bytes);
    let value = read(&mut reader).ok_or(Malformed)?;
    reader.end().map(|()| value).ok_or(Malformed)
}

pub(super) fn put_entry(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    put_string(out, key);
    put_string(out, value);
}

fn put_option(string: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(u8::from(string.is_some()));
    if let Some(string) = string {
        put_string(out, string);
    }
}

fn read_option<'a>(reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    match read_bool(reader)? {
        true => reader.string().map(Some),
        false => Some(None),
    }
}

/// Only 0 and 1, so that nothing has two spellings.
fn read_bool(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_is_encoded_is_decoded_and_no_cut_or_longer_one_is() {
        let commands = [
            Command::Put { key: b"k", value: b"v" },
            Command::Delete { key: b"" },
            Command::CompareAndSwap { key: b"k", expected: None, value: b"" },
            Command::CompareAndSwap { key: b"k", expected: Some(b"x"), value: b"y" },
        ];
        let queries = [
            Query::Get { key: b"k" },
            Query::Scan { from: b"a", to: None, limit: 0 },
            Query::Scan { from: b"a", to: Some(b"b"), limit: u32::MAX },
        ];
        let replies = [
            Reply::Malformed,
            Reply::TooLong,
            Reply::Written,
            Reply::Deleted { existed: true },
            Reply::Differs { actual: None },
            Reply::Value(Some(vec![1, 2])),
            Reply::Found { entries: vec![], more: false },
            Reply::Found { entries: vec![(vec![1], vec![]), (vec![2], vec![3])], more: true },
        ];
        for command in commands {
            let bytes = command.encode();
            assert_eq!(Command::decode(&bytes), Ok(command));
            assert!(
                (0..bytes.len()).all(|cut| Command::decode(&bytes[..cut]) == Err(Malformed)),
                "{command:?}"
            );
            assert_eq!(Command::decode(&[&bytes[..], &[0]].concat()), Err(Malformed), "{command:?}");
        }
        for query in queries {
            let bytes = query.encode();
            assert_eq!(Query::decode(&bytes), Ok(query));
            assert!((0..bytes.len()).all(|cut| Query::decode(&bytes[..cut]) == Err(Malformed)), "{query:?}");
            assert_eq!(Query::decode(&[&bytes[..], &[0]].concat()), Err(Malformed), "{query:?}");
        }
        for reply in replies {
            let bytes = reply.encode();
            assert_eq!(Reply::decode(&bytes), Ok(reply.clone()));
            assert_eq!(Reply::decode(&[&bytes[..], &[0]].concat()), Err(Malformed), "{reply:?}");
        }
    }

    /// Commands of this format lie in logs.
    #[test]
    fn the_format_stays() {
        assert_eq!(Command::Put { key: b"k", value: b"vw" }.encode(), *b"\x01\x01\0\0\0k\x02\0\0\0vw");
        assert_eq!(Command::Delete { key: b"k" }.encode(), *b"\x02\x01\0\0\0k");
        let swap = Command::CompareAndSwap { key: b"k", expected: Some(b"a"), value: b"b" };
        assert_eq!(swap.encode(), *b"\x03\x01\0\0\0k\x01\0\0\0b\x01\x01\0\0\0a");
        let scan = Query::Scan { from: b"a", to: None, limit: 5 };
        assert_eq!(scan.encode(), *b"\x02\x01\0\0\0a\0\x05\0\0\0");
        let found = Reply::Found { entries: vec![(b"k".to_vec(), b"v".to_vec())], more: true };
        assert_eq!(found.encode(), *b"\x06\x01\x01\0\0\0k\x01\0\0\0v");
    }
}
