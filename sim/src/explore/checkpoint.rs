//! How far an exploration is, as a file keeps it: a long search that is stopped goes on later.
//!
//! What is kept is which states are known and how each was reached first, 20 bytes a state. The states
//! themselves are not: those that were still to be looked at are worked out anew, each from the one before
//! it, and must have fingerprints that are known.

use super::bounds::{Bounds, BoundsError, Transition};
use super::state::{State, Successor};
use super::steps::Steps;
use super::store::Store;
use super::{Exploration, Reductions, Waiting};
use crate::hash::StableHasher;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::hash::Hasher as _;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What a checkpoint begins with.
const MAGIC: &[u8] = b"kontiki exploration 1\n";
/// How long the line after it may be.
const MAX_HEAD: usize = 1 << 16;

/// The line after it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    bounds: Bounds,
    reductions: Reductions,
    states: u32,
    /// How many states are still to be looked at: the last ones.
    waiting: u32,
    at_depth: usize,
    depth: u32,
    transitions: u64,
}

/// Why an exploration cannot go on from a checkpoint.
#[derive(Debug)]
pub enum ResumeError {
    /// It cannot be read.
    Io(io::Error),
    /// It is not one, or is of another version.
    NotACheckpoint,
    /// It is not what was written.
    Damaged,
    /// The bounds are none.
    Bounds(BoundsError),
    /// A state that was reached cannot be reached any more, or is another one: the kernel or the explorer has
    /// changed.
    OtherKernel,
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotACheckpoint => f.write_str("it is no checkpoint of this version of explore"),
            Self::Damaged => f.write_str("the checkpoint is damaged: explore anew"),
            Self::Bounds(error) => error.fmt(f),
            Self::OtherKernel => {
                f.write_str("the checkpoint is of another version of the kernel or of explore: explore anew")
            }
        }
    }
}

impl std::error::Error for ResumeError {}

impl From<io::Error> for ResumeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}

impl Exploration {
    /// Writes how far it is.
    ///
    /// # Errors
    ///
    /// If that cannot be written.
    pub fn save(&self, to: &mut impl Write) -> io::Result<()> {
        let head = Head {
            bounds: self.steps.bounds,
            reductions: self.reductions,
            states: self.store.len() as u32,
            waiting: self.frontier.len() as u32,
            at_depth: self.at_depth,
            depth: self.depth,
            transitions: self.transitions,
        };
        to.write_all(MAGIC)?;
        let line = serde_json::to_string(&head).map_err(io::Error::other)?;
        writeln!(to, "{line}")?;
        let mut hasher = StableHasher::new();
        hasher.write(line.as_bytes());
        for (from, by) in self.store.reached() {
            let number = code(*by);
            hasher.write_u32(*from);
            hasher.write_u64(number);
            to.write_all(&from.to_le_bytes())?;
            to.write_all(&number.to_le_bytes())?;
        }
        for fingerprint in self.store.fingerprints() {
            hasher.write_u64(fingerprint);
            to.write_all(&fingerprint.to_le_bytes())?;
        }
        to.write_all(&hasher.finish().to_le_bytes())
    }

    /// Goes on from what was written.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is not what was written, or the kernel has changed since.
    pub fn resume(from: &mut impl Read) -> Result<Self, ResumeError> {
        let (head, store) = read(from)?;
        let Head { bounds, reductions, at_depth, depth, transitions, .. } = head;
        let mut exploration = Self::reduced(bounds, reductions).map_err(ResumeError::Bounds)?;
        exploration.frontier = waiting(&store, &exploration.steps, head.states - head.waiting)?;
        exploration.store = store;
        let at_next_depth = exploration.frontier.len().checked_sub(at_depth).ok_or(ResumeError::Damaged)?;
        Ok(Self { at_depth, at_next_depth, depth, transitions, ..exploration })
    }

    /// The bounds of the search.
    pub fn bounds(&self) -> &Bounds {
        &self.steps.bounds
    }
}

fn read(from: &mut impl Read) -> Result<(Head, Store), ResumeError> {
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic).map_err(|_| ResumeError::NotACheckpoint)?;
    let line = line(from)?;
    let head: Head = serde_json::from_slice(&line).map_err(|_| ResumeError::NotACheckpoint)?;
    if magic != *MAGIC || head.waiting > head.states || head.states == 0 {
        return Err(ResumeError::NotACheckpoint);
    }
    let mut hasher = StableHasher::new();
    hasher.write(&line);
    let mut reached = Vec::new();
    for number in 0..head.states {
        let (from, code) = (u32::from_le_bytes(bytes(from)?), u64::from_le_bytes(bytes(from)?));
        hasher.write_u32(from);
        hasher.write_u64(code);
        let by = transition(code).filter(|_| from < number || number == 0).ok_or(ResumeError::Damaged)?;
        reached.push((from, by));
    }
    let mut fingerprints = Vec::new();
    for _ in 0..head.states {
        fingerprints.push(u64::from_le_bytes(bytes(from)?));
        hasher.write_u64(fingerprints[fingerprints.len() - 1]);
    }
    if u64::from_le_bytes(bytes(from)?) != hasher.finish() {
        return Err(ResumeError::Damaged);
    }
    Ok((head, Store::of(reached, fingerprints)))
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map(|()| bytes)
}

fn line(from: &mut impl Read) -> Result<Vec<u8>, ResumeError> {
    let mut line = Vec::new();
    loop {
        match bytes::<1>(from)? {
            [b'\n'] => return Ok(line),
            _ if line.len() == MAX_HEAD => return Err(ResumeError::NotACheckpoint),
            [byte] => line.push(byte),
        }
    }
}

/// The states from this number on, each with its number. Each state on the way to them is worked out once:
/// those that were reached from one state follow one another.
fn waiting(store: &Store, steps: &Steps, first: u32) -> Result<VecDeque<(u32, Waiting)>, ResumeError> {
    let mut all = VecDeque::new();
    let begin = State::first(steps).map_err(|_| ResumeError::OtherKernel)?;
    let mut way = vec![(0, Arc::new(begin))];
    if !store.contains(way[0].1.fingerprint()) {
        return Err(ResumeError::OtherKernel);
    }
    for number in first..store.len() as u32 {
        if number == 0 {
            all.push_back((0, Waiting::First(Arc::clone(&way[0].1))));
            continue;
        }
        let (from, by) = store.reached()[number as usize];
        let mut missing = Vec::new();
        let mut ancestor = from;
        let known = loop {
            match way.binary_search_by_key(&ancestor, |(number, _)| *number) {
                Ok(known) => break known,
                Err(_) => missing.push(ancestor),
            }
            ancestor = store.reached()[ancestor as usize].0;
        };
        way.truncate(known + 1);
        for &number in missing.iter().rev() {
            let (_, by) = store.reached()[number as usize];
            let successor = successor(&way[way.len() - 1].1, by, steps, store)?;
            way.push((number, Arc::new(successor.state())));
        }
        all.push_back((number, Waiting::After(successor(&way[way.len() - 1].1, by, steps, store)?)));
    }
    Ok(all)
}

/// What follows from a state by a transition that was found before.
fn successor(
    state: &Arc<State>,
    by: Transition,
    steps: &Steps,
    store: &Store,
) -> Result<Successor, ResumeError> {
    let successor = state.successor(by, steps).and_then(Result::ok).flatten();
    successor.filter(|it| store.contains(it.fingerprint())).ok_or(ResumeError::OtherKernel)
}

/// A transition as a number.
fn code(transition: Transition) -> u64 {
    let (kind, number) = match transition {
        Transition::Deliver(at) => (0, at),
        Transition::Timeout(member) => (1, member.into()),
        Transition::Persisted(member) => (2, member.into()),
        Transition::Applied(member) => (3, member.into()),
        Transition::Crash(member, written) => (4, u32::from(member) << 8 | u32::from(written)),
        Transition::Propose(member) => (5, member.into()),
        Transition::Read(member) => (6, member.into()),
        Transition::Change(member) => (7, member.into()),
        Transition::Transfer(member) => (8, member.into()),
        Transition::Snapshot(member) => (9, member.into()),
        Transition::Repeat(at) => (10, at),
        Transition::Tick(slow) => (11, slow.into()),
        Transition::Alarm(member) => (12, member.into()),
        Transition::Wipe(member) => (14, member.into()),
        Transition::Lose(member, index) => (13, u32::from(member) << 8 | u32::from(index)),
    };
    kind << 32 | u64::from(number)
}

/// The transition that has this number.
fn transition(code: u64) -> Option<Transition> {
    let (kind, number) = (code >> 32, code as u32);
    let [member, written, ..] = [number, number & 0xff].map(|it| it as u8);
    let is_member = number < 1 << 8;
    Some(match kind {
        0 => Transition::Deliver(number),
        10 => Transition::Repeat(number),
        4 if number < 1 << 16 => Transition::Crash((number >> 8) as u8, written),
        1 if is_member => Transition::Timeout(member),
        2 if is_member => Transition::Persisted(member),
        3 if is_member => Transition::Applied(member),
        5 if is_member => Transition::Propose(member),
        6 if is_member => Transition::Read(member),
        7 if is_member => Transition::Change(member),
        8 if is_member => Transition::Transfer(member),
        9 if is_member => Transition::Snapshot(member),
        11 if is_member => Transition::Tick(member),
        12 if is_member => Transition::Alarm(member),
        14 if is_member => Transition::Wipe(member),
        13 if number < 1 << 16 => Transition::Lose((number >> 8) as u8, written),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Bounds {
        Bounds { members: 2, voters: 2, proposals: 1, crashes: 1, instant_disks: true, ..Bounds::default() }
    }

    /// A search that has just begun.
    fn begun() -> Exploration {
        let mut exploration = Exploration::new(pair()).unwrap();
        (0..6).for_each(|_| exploration.go_on(50));
        exploration
    }

    fn saved(exploration: &Exploration) -> Vec<u8> {
        let mut bytes = Vec::new();
        exploration.save(&mut bytes).unwrap();
        bytes
    }

    /// Stopped and resumed again and again, a search finds what it would have found without a stop.
    #[test]
    fn a_search_that_is_resumed_goes_on_as_if_it_had_not_been_stopped() {
        let numbers = |it: &Exploration| (it.states(), it.transitions(), it.depth(), it.frontier());
        for reductions in [true, false].map(|symmetry| Reductions { symmetry }) {
            let mut whole = Exploration::reduced(pair(), reductions).unwrap();
            let mut pieces = Exploration::reduced(pair(), reductions).unwrap();
            while !whole.is_done() {
                whole.go_on(997);
                pieces.go_on(997);
                pieces = Exploration::resume(&mut &saved(&pieces)[..]).unwrap();
                assert_eq!(numbers(&pieces), numbers(&whole));
                assert!(pieces.store.reached() == whole.store.reached());
            }
            assert!(whole.states() > 5_000, "{}", whole.states());
            assert_eq!((pieces.is_done(), pieces.bounds()), (true, &pair()));
        }
    }

    #[test]
    fn a_checkpoint_that_is_not_what_was_written_is_refused() {
        let whole = saved(&begun());
        let refused = |bytes: &[u8]| Exploration::resume(&mut &bytes[..]).unwrap_err();
        assert!(matches!(refused(b"{}"), ResumeError::NotACheckpoint));
        assert!(matches!(refused(&whole[..whole.len() - 1]), ResumeError::Damaged));
        for at in [whole.len() - 1, whole.len() - 9, whole.len() * 2 / 3] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(matches!(refused(&damaged), ResumeError::Damaged), "byte {at}");
        }
        let text = String::from_utf8_lossy(&whole[..MAGIC.len()]).replace('1', "2");
        let newer = [text.as_bytes(), &whole[MAGIC.len()..]].concat();
        assert!(matches!(refused(&newer), ResumeError::NotACheckpoint));
    }

    /// A state that is another one now has a fingerprint that is not known.
    #[test]
    fn a_checkpoint_of_another_kernel_is_refused() {
        let mut exploration = begun();
        // As if members had been something else when it was written.
        exploration.steps.bounds.pre_vote = true;
        let refused = Exploration::resume(&mut &saved(&exploration)[..]).unwrap_err();
        assert!(matches!(refused, ResumeError::OtherKernel), "{refused}");
    }

    #[test]
    fn every_transition_is_the_one_of_its_number() {
        let all = [
            Transition::Deliver(u32::MAX),
            Transition::Timeout(1),
            Transition::Persisted(2),
            Transition::Applied(255),
            Transition::Crash(4, 255),
            Transition::Propose(0),
            Transition::Read(1),
            Transition::Change(2),
            Transition::Transfer(3),
            Transition::Snapshot(4),
            Transition::Repeat(7),
            Transition::Tick(255),
            Transition::Alarm(3),
            Transition::Lose(4, 255),
            Transition::Wipe(2),
        ];
        for one in all {
            assert_eq!(transition(code(one)), Some(one));
        }
        let none = [15 << 32, 1 << 32 | 256, 4 << 32 | 65_536, 11 << 32 | 256, 13 << 32 | 65_536];
        assert_eq!(none.map(transition), [None; 5]);
    }
}
