//! The state machine as its own specification: it is replayed in the order of the log, and what replicas do
//! and answer is compared with that.

use super::numbered::Numbered;
use super::words::Words;
use super::workload::Request;
use crate::check::Violated;
use crate::quiet::{quietly, text_of};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine::{Answer, Limits, Machine, Restore, SnapshotReader, StateMachine};
use kontiki_core::types::{Index, LogId, NodeId};
use std::fmt;
use std::panic::AssertUnwindSafe;

/// Names of the properties that every state machine must have.
pub(super) const DETERMINISM: &str = "Deterministic State Machine";
pub(super) const SNAPSHOTS: &str = "Snapshot and Restore";
pub(super) const ANSWERS: &str = "Answers of the Log";

/// How many entries there are between snapshots of the reference, from which twins of it go on.
const SNAPSHOT_EVERY: u64 = 8;
/// How often the log is replayed to find out whether a machine is deterministic.
const REPLAYS: usize = 16;

/// Replays the log as it is being applied.
pub(super) struct Reference<M: StateMachine> {
    begin: Box<dyn Fn() -> M>,
    limits: Limits,
    machine: Machine<Numbered<M>>,
    /// Goes on from a snapshot of the machine, taken after this entry.
    twin: Option<(Index, Machine<Numbered<M>>)>,
    /// What was applied, one after the other.
    log: Vec<Applied>,
}

/// An entry, and what came of it.
struct Applied {
    entry: Entry,
    /// Who was the first to apply it.
    first: NodeId,
    digest: u64,
    /// What its client is told, if it has one.
    answer: Option<Answer>,
}

impl<M: StateMachine> fmt::Debug for Reference<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reference").field("applied", &self.machine.applied()).finish_non_exhaustive()
    }
}

impl<M: StateMachine> Reference<M> {
    pub(super) fn new(begin: Box<dyn Fn() -> M>, limits: Limits) -> Self {
        let machine = fresh(&begin, limits);
        Self { begin, limits, machine, twin: None, log: Vec::new() }
    }

    /// The entry at an index, where it was applied.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.at(index).map(|applied| &applied.entry)
    }

    /// What the client of an entry is told, if it has one.
    pub(super) fn answer(&self, index: Index) -> Option<&Answer> {
        self.at(index)?.answer.as_ref()
    }

    fn at(&self, index: Index) -> Option<&Applied> {
        self.log.get(usize::try_from(index.get().checked_sub(1)?).ok()?)
    }

    /// The run is over, and the group has committed these entries: they are what was applied.
    pub(super) fn is_of(&self, committed: impl Iterator<Item = LogId>) -> Result<(), Violated> {
        for (applied, id) in self.log.iter().zip(committed) {
            if applied.entry.id != id {
                let first = applied.first;
                return Err((
                    ANSWERS,
                    format!("member {first} applied entry {}, and {id} is committed", applied.entry.id),
                )
                    .into());
            }
        }
        Ok(())
    }

    /// A member has applied an entry, perhaps as the first to do so.
    pub(super) fn apply(&mut self, member: NodeId, entry: &Entry, words: &dyn Words) -> Result<(), Violated> {
        let index = entry.id.index;
        if index <= self.machine.applied().index {
            return Ok(());
        }
        let what = || format!("entry {}, {}", index, words.say_entry(entry));
        let answer = apply_one(&mut self.machine, entry).map_err(|text| {
            let found = format!("the state machine is not deterministic: member {member} applies {}", what());
            (DETERMINISM, format!("{found}, and a replay of the log panics there: {text}"))
        })?;
        let digest = self.machine.digest();
        self.log.push(Applied { entry: entry.clone(), first: member, digest, answer });
        self.check_twin(words)?;
        if index.get().is_multiple_of(SNAPSHOT_EVERY) {
            self.renew_twin(&what)?;
        }
        Ok(())
    }

    /// A twin goes on from a snapshot as the original does.
    fn check_twin(&mut self, words: &dyn Words) -> Result<(), Violated> {
        let (Some((since, mut twin)), Some(applied)) = (self.twin.take(), self.log.last()) else {
            return Ok(());
        };
        let index = self.machine.applied().index;
        let what = || format!("entry {}, {}", index, words.say_entry(&applied.entry));
        let told = |answer: &Option<Answer>| {
            let answer = answer.as_ref().map(|answer| words.say_answer_of(&applied.entry, answer));
            answer.unwrap_or_else(|| "nothing".to_owned())
        };
        let answered = apply_one(&mut twin, &applied.entry);
        let differs = match answered {
            Err(text) => Some(format!("it panics: {text}")),
            Ok(answer) if answer != applied.answer => {
                Some(format!("it answers {}, the original {}", told(&answer), told(&applied.answer)))
            }
            Ok(_) if twin.digest() != applied.digest => {
                Some("it has another state than the original".to_owned())
            }
            Ok(_) => None,
        };
        self.twin = Some((since, twin));
        match differs {
            None => Ok(()),
            Some(_) if self.varies(index) => Err(self.varying(index, &what())),
            Some(differs) => Err((
                SNAPSHOTS,
                format!(
                    "a state that was restored from a snapshot taken after entry {since} does not go on as the original: after {}, {differs}",
                    what()
                ),
            ).into()),
        }
    }

    /// Restores a twin from a snapshot, in pieces of any size.
    fn renew_twin(&mut self, what: &dyn Fn() -> String) -> Result<(), Violated> {
        let index = self.machine.applied().index;
        let restored =
            restored(&self.machine, &fresh(&self.begin, self.limits), index.get() as usize % 13 + 1)
                .and_then(|twin| match twin.digest() == self.machine.digest() {
                    true => Ok(twin),
                    false => Err("it has another state than the original".to_owned()),
                });
        match restored {
            Ok(twin) => {
                self.twin = Some((index, twin));
                Ok(())
            }
            Err(_) if self.varies(index) => Err(self.varying(index, &what())),
            Err(differs) => Err((
                SNAPSHOTS,
                format!("a snapshot taken after {} does not restore the state: {differs}", what()),
            )
                .into()),
        }
    }

    /// A member has this digest after an entry; `restored` tells through which entry the snapshot went that
    /// it was restored from last, if it was.
    pub(super) fn compare(
        &self,
        member: NodeId,
        index: Index,
        digest: u64,
        restored: Option<Index>,
        words: &dyn Words,
    ) -> Result<(), Violated> {
        let Some(applied) = self.at(index) else {
            return Err((
                "Simulator",
                format!("member {member} is at entry {index}, to which no member has come"),
            )
                .into());
        };
        if applied.digest == digest {
            return Ok(());
        }
        let what = format!("entry {index}, {}", words.say_entry(&applied.entry));
        let pair = match applied.first == member {
            true => format!("member {member} and a replay of the log"),
            false => format!("members {} and {member}", applied.first),
        };
        match restored {
            Some(through) if !self.varies(index) => Err((
                SNAPSHOTS,
                format!(
                    "{pair} differ after {what}: member {member} was restored from a snapshot through entry {through}"
                ),
            ).into()),
            _ => Err((
                DETERMINISM,
                format!("the state machine is not deterministic: {pair} differ after {what}"),
            ).into()),
        }
    }

    /// A client is told this about the entry at an index.
    pub(super) fn answered(
        &self,
        member: NodeId,
        index: Index,
        answer: &Answer,
        words: &dyn Words,
    ) -> Result<(), Violated> {
        let Some(applied) = self.at(index) else {
            return Err((
                ANSWERS,
                format!("member {member} answers for entry {index}, which no member has applied"),
            )
                .into());
        };
        if applied.answer.as_ref() == Some(answer) {
            return Ok(());
        }
        let what = format!("entry {index}, {}", words.say_entry(&applied.entry));
        if self.varies(index) {
            return Err(self.varying(index, &what));
        }
        let right = applied.answer.as_ref().map(|answer| words.say_answer_of(&applied.entry, answer));
        let (wrong, right) =
            (words.say_answer_of(&applied.entry, answer), right.unwrap_or("nothing".to_owned()));
        Err((ANSWERS, format!("member {member} answers {wrong} to {what}, and the log {right}")).into())
    }

    /// A query was answered as of an index. Where the reference has gone on since, it is replayed to there.
    pub(super) fn found(
        &self,
        member: NodeId,
        index: Index,
        query: &[u8],
        answer: &[u8],
        words: &dyn Words,
    ) -> Result<(), Violated> {
        let expected = match self.machine.applied().index == index {
            true => self.machine.query(query),
            false => self.replay(index).query(query),
        };
        if expected == answer {
            return Ok(());
        }
        let varies = (0..REPLAYS).any(|_| self.replay(index).query(query) != expected);
        let found = format!(
            "member {member} answers {} to the query {} after entry {index}, and a replay of the log {}",
            words.say_answer(Request::Query(query), answer),
            words.say_query(query),
            words.say_answer(Request::Query(query), &expected)
        );
        match varies {
            true => Err((DETERMINISM, format!("the state machine is not deterministic: {found}")).into()),
            false => Err((ANSWERS, found).into()),
        }
    }

    /// A machine that has applied the log through this entry.
    fn replay(&self, through: Index) -> Machine<Numbered<M>> {
        let mut machine = fresh(&self.begin, self.limits);
        for applied in self.log.iter().take(through.get() as usize) {
            let _ = apply_one(&mut machine, &applied.entry);
        }
        machine
    }

    /// Whether replays of the log through this entry come to different states, or give different answers.
    fn varies(&self, through: Index) -> bool {
        (0..REPLAYS).any(|_| {
            let mut machine = fresh(&self.begin, self.limits);
            self.log.iter().take(through.get() as usize).any(|applied| {
                let answer = apply_one(&mut machine, &applied.entry);
                answer.as_ref() != Ok(&applied.answer) || machine.digest() != applied.digest
            })
        })
    }

    fn varying(&self, index: Index, what: &str) -> Violated {
        let found =
            format!("the state machine is not deterministic: two replays of the log differ by {what}");
        let first =
            self.at(index).map_or(String::new(), |it| format!(", which member {} applied first", it.first));
        (DETERMINISM, found + &first).into()
    }
}

fn fresh<M: StateMachine>(begin: &dyn Fn() -> M, limits: Limits) -> Machine<Numbered<M>> {
    Machine::with_limits(Numbered(begin()), limits).expect("limits that were checked")
}

/// Applies one entry, and gives what its client is told. The error is what the state machine panicked with.
fn apply_one<M: StateMachine>(
    machine: &mut Machine<Numbered<M>>,
    entry: &Entry,
) -> Result<Option<Answer>, String> {
    let entry = match entry.body {
        // A member that has applied it knew what was in it.
        EntryBody::Withheld | EntryBody::Lost => Entry { body: EntryBody::Blank, ..entry.clone() },
        _ => entry.clone(),
    };
    let mut answers = None;
    quietly(AssertUnwindSafe(|| answers = Some(machine.apply(&[entry]))))
        .map_err(|panic| text_of(&*panic))?;
    match answers {
        Some(Ok(mut answers)) => Ok(answers.pop().map(|(_, answer)| answer)),
        Some(Err(error)) => Err(error.to_string()),
        None => Ok(None),
    }
}

/// A state that is restored from a snapshot of another; none where that cannot be done.
pub(super) fn copy<M: StateMachine>(state: &M) -> Option<M> {
    let mut copy = None;
    let ran = quietly(AssertUnwindSafe(|| {
        copy = restore(state.snapshot(), state.restore(), usize::MAX)
            .ok()
            .filter(|copy| copy.digest() == state.digest());
    }));
    copy.filter(|_| ran.is_ok())
}

/// A machine that is restored from a snapshot of another, read and written so many bytes at a time.
fn restored<M: StateMachine>(
    machine: &Machine<Numbered<M>>,
    empty: &Machine<Numbered<M>>,
    piece: usize,
) -> Result<Machine<Numbered<M>>, String> {
    let mut twin = Err("it did not end".to_owned());
    quietly(AssertUnwindSafe(|| twin = restore(machine.snapshot(), empty.restore(), piece)))
        .map_err(|panic| format!("it panics: {}", text_of(&*panic)))?;
    twin
}

fn restore<R: Restore>(
    mut snapshot: impl SnapshotReader,
    mut restore: R,
    piece: usize,
) -> Result<R::State, String> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        snapshot.read(piece, &mut bytes);
        if bytes.len() == before {
            break;
        }
    }
    for piece in bytes.chunks(piece) {
        restore.write(piece).map_err(|error| error.to_string())?;
    }
    restore.finish().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::workload::Workload;
    use super::*;
    use crate::stream::Stream;
    use kontiki_core::kv::{self, Kv};
    use kontiki_core::machine::Command;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).expect("not zero")
    }

    fn put(index: u64, value: &[u8]) -> Entry {
        let command = kv::Command::Put { key: b"k", value }.encode();
        let payload = Command::Plain(&super::super::numbered::number(&command, index)).encode();
        Entry { id: LogId::new(1, index), body: EntryBody::Data(payload) }
    }

    struct Puts;

    impl Workload for Puts {
        fn command(&mut self, _client: u64, _stream: &mut Stream) -> Vec<u8> {
            unreachable!("no client asks")
        }

        fn describe(&self, command: &[u8]) -> String {
            let kv::Command::Put { value, .. } = kv::Command::decode(command).expect("a put") else {
                unreachable!("only puts are made")
            };
            format!("put {}", value[0] as char)
        }
    }

    /// A reference of two entries, which member 1 was the first to apply, and its digests after each.
    fn reference() -> (Reference<Kv>, [u64; 2]) {
        let mut reference = Reference::new(Box::new(Kv::default), Limits::default());
        let digests = [(1, b"a"), (2, b"b")].map(|(index, value)| {
            reference.apply(id(1), &put(index, value), &Puts).expect("it is deterministic");
            reference.machine.digest()
        });
        (reference, digests)
    }

    #[test]
    fn an_answer_that_no_replay_of_the_log_gives_is_seen() {
        let (reference, _) = reference();
        let right = reference.answer(Index::new(2)).expect("it has a client").clone();
        let answered = |answer| reference.answered(id(2), Index::new(2), answer, &Puts);
        assert_eq!(answered(&right), Ok(()));
        let Violated { property, detail, .. } =
            answered(&Answer::Applied(b"wrong"[..].into())).expect_err("it is wrong");
        assert_eq!(property, ANSWERS);
        assert!(
            detail.starts_with("member 2 answers") && detail.contains("entry 2, command put b"),
            "{detail}"
        );
        let beyond = reference.answered(id(2), Index::new(3), &right, &Puts).expect_err("there is no entry");
        assert_eq!(beyond.property, ANSWERS);
    }

    #[test]
    fn a_query_is_answered_as_of_its_entry_and_not_as_of_another() {
        let (reference, _) = reference();
        let query = kv::Query::Get { key: b"k" }.encode();
        let held = |value: &[u8]| kv::Reply::Value(Some(value.to_vec())).encode();
        let found =
            |index, value: &[u8]| reference.found(id(2), Index::new(index), &query, &held(value), &Puts);
        assert_eq!((found(2, b"b"), found(1, b"a")), (Ok(()), Ok(())));
        assert_eq!(found(2, b"a").expect_err("it is stale").property, ANSWERS);
        assert_eq!(found(1, b"b").expect_err("it is from the future").property, ANSWERS);
    }

    #[test]
    fn a_state_that_differs_is_the_machines_fault_or_that_of_its_snapshot() {
        let (reference, digests) = reference();
        let compare = |digest, restored| reference.compare(id(2), Index::new(2), digest, restored, &Puts);
        assert_eq!(compare(digests[1], None), Ok(()));
        let Violated { property, detail, .. } = compare(digests[0], None).expect_err("it differs");
        assert_eq!(property, DETERMINISM);
        assert!(detail.contains("members 1 and 2 differ after entry 2, command put b"), "{detail}");
        let Violated { property, detail, .. } =
            compare(digests[0], Some(Index::new(1))).expect_err("it differs");
        assert_eq!(property, SNAPSHOTS);
        assert!(detail.contains("member 2 was restored from a snapshot through entry 1"), "{detail}");
    }

    #[test]
    fn what_was_applied_must_be_what_is_committed() {
        let (reference, _) = reference();
        let committed = |term| [LogId::new(1, 1), LogId::new(term, 2)].into_iter();
        assert_eq!(reference.is_of(committed(1)), Ok(()));
        assert_eq!(reference.is_of(committed(2)).expect_err("another entry").property, ANSWERS);
    }
}
