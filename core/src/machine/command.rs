//! What stands in an entry's payload: what a client wants of the [`Machine`](super::Machine).

use crate::bytes::Reader;
use crate::types::{Index, Payload};
use alloc::vec::Vec;
use core::fmt;

/// The name of a client's session: the index of the entry that opened it. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SessionId(pub u64);

impl From<Index> for SessionId {
    fn from(opened_at: Index) -> Self {
        Self(opened_at.get())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// What a client wants. As bytes, which [`encode`](Self::encode) makes and an entry's payload holds, all
/// numbers little-endian:
///
/// ```text
///   1 byte    version of this format: 1
///   1 byte    what it is
///               0  Plain:      the command, to the end
///               1  Register:   nothing more
///               2  InSession:  session (8), sequence (8), acknowledged (8), the command, to the end
///               3  KeepAlive:  session (8), acknowledged (8)
///               4  Close:      session (8)
/// ```
///
/// Every member must decode the same bytes alike, or their states diverge. So propose a later format only
/// once every member knows it: a member that does not answers [`Garbled`](super::Answer::Garbled) and changes
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command<'a> {
    /// Applied each time it is committed: a client that tries again may find it applied twice.
    Plain(&'a [u8]),
    /// Opens a session.
    Register,
    /// Applied once, however often it is committed.
    InSession {
        /// In which session.
        session: SessionId,
        /// Its number: the client gives each command of a session another one, and the same one when it tries
        /// again.
        sequence: u64,
        /// The client has the answers to all lower numbers and will never send those again; they are
        /// forgotten. At most `sequence`.
        acknowledged: u64,
        /// What to apply.
        command: &'a [u8],
    },
    /// Keeps a session from expiring, and lets its answers be forgotten.
    KeepAlive {
        /// Which session.
        session: SessionId,
        /// As in [`InSession`](Self::InSession).
        acknowledged: u64,
    },
    /// Ends a session.
    Close {
        /// Which session.
        session: SessionId,
    },
}

/// The bytes are no [`Command`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Garbled;

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the bytes are no command of a format that this member knows: make them with Command::encode",
        )
    }
}

impl core::error::Error for Garbled {}

impl<'a> Command<'a> {
    /// The format that [`encode`](Self::encode) writes.
    pub const VERSION: u8 = 1;

    /// The bytes of this command that are not the client's own, at most: what to leave of
    /// [`max_payload_bytes`](crate::config::Options::max_payload_bytes).
    pub const OVERHEAD: usize = 2 + 3 * 8;

    /// The payload to propose.
    pub fn encode(&self) -> Payload {
        let (kind, numbers, command): (u8, &[u64], &[u8]) = match *self {
            Self::Plain(command) => (0, &[], command),
            Self::Register => (1, &[], &[]),
            Self::InSession { session, sequence, acknowledged, command } => {
                (2, &[session.0, sequence, acknowledged], command)
            }
            Self::KeepAlive { session, acknowledged } => (3, &[session.0, acknowledged], &[]),
            Self::Close { session } => (4, &[session.0], &[]),
        };
        let mut out = Vec::with_capacity(Self::OVERHEAD + command.len());
        out.extend_from_slice(&[Self::VERSION, kind]);
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        out.extend_from_slice(command);
        Payload::from_shared(out.into())
    }

    /// The reverse of [`encode`](Self::encode). Copies nothing.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Garbled> {
        let mut reader = Reader(payload);
        let command = Self::read(&mut reader).ok_or(Garbled)?;
        match (reader.end(), command) {
            (None, _) => Err(Garbled),
            // Its answer would be forgotten before it is applied: the client has mixed up its numbers.
            (_, Self::InSession { sequence, acknowledged, .. }) if acknowledged > sequence => Err(Garbled),
            _ => Ok(command),
        }
    }

    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        if reader.u8()? != Self::VERSION {
            return None;
        }
        Some(match reader.u8()? {
            0 => Self::Plain(reader.rest()),
            1 => Self::Register,
            2 => Self::InSession {
                session: SessionId(reader.u64()?),
                sequence: reader.u64()?,
                acknowledged: reader.u64()?,
                command: reader.rest(),
            },
            3 => Self::KeepAlive { session: SessionId(reader.u64()?), acknowledged: reader.u64()? },
            4 => Self::Close { session: SessionId(reader.u64()?) },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(7);
    const ALL: [Command<'_>; 5] = [
        Command::Plain(b"hello"),
        Command::Register,
        Command::InSession { session: SESSION, sequence: 3, acknowledged: 2, command: b"x" },
        Command::KeepAlive { session: SESSION, acknowledged: 2 },
        Command::Close { session: SESSION },
    ];

    #[test]
    fn what_is_encoded_is_decoded() {
        for command in ALL {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    /// Entries of this format lie in logs: an older and a newer member must read the same in them.
    #[test]
    fn the_format_stays() {
        assert_eq!(*ALL[0].encode(), *b"\x01\x00hello");
        assert_eq!(*ALL[1].encode(), *b"\x01\x01");
        let numbers = b"\x01\x02\x07\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0x";
        assert_eq!(*ALL[2].encode(), *numbers);
        assert_eq!(*ALL[3].encode(), *b"\x01\x03\x07\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        assert_eq!(*ALL[4].encode(), *b"\x01\x04\x07\0\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_cut_or_too_long_or_of_another_version_is_garbled() {
        for command in ALL {
            let bytes = command.encode();
            let fixed = bytes.len()
                - match command {
                    Command::Plain(tail) | Command::InSession { command: tail, .. } => tail.len(),
                    _ => 0,
                };
            for cut in 0..fixed {
                assert_eq!(Command::decode(&bytes[..cut]), Err(Garbled), "{command:?} cut at {cut}");
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            let open = matches!(command, Command::Plain(_) | Command::InSession { .. });
            assert_eq!(Command::decode(&longer).is_ok(), open, "{command:?} and a byte");
            longer[0] = 2;
            assert_eq!(Command::decode(&longer), Err(Garbled), "{command:?} of version 2");
        }
        assert_eq!(Command::decode(b"\x01\x05"), Err(Garbled), "an unknown kind");
    }

    #[test]
    fn a_command_that_is_acknowledged_before_it_is_applied_is_garbled() {
        let command = Command::InSession { session: SESSION, sequence: 3, acknowledged: 4, command: b"" };
        assert_eq!(Command::decode(&command.encode()), Err(Garbled));
    }
}
