//! Random clients that try again, mix up, give up and come back, against the plainest book of sessions there
//! could be; and snapshots at any point, cut anywhere.

use super::*;
use crate::log::{Entry, EntryBody};
use crate::types::{Index, LogId, Payload};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use proptest::collection::vec as any_vec;
use proptest::prelude::*;
use proptest::sample;

/// Remembers every command that it was told, and answers with how many those are: so it tells a second
/// execution from a repeated answer.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Record(Vec<Vec<u8>>);

impl StateMachine for Record {
    type Snapshot = BufferedSnapshot;
    type Restore = BufferedRestore<Self>;

    fn apply(&mut self, at: LogId, command: &[u8]) -> Vec<u8> {
        self.0.push(command.to_vec());
        // Some answers are too long to be kept, and some are empty.
        vec![self.0.len() as u8; at.index.get() as usize % 5]
    }

    fn query(&self, _query: &[u8]) -> Vec<u8> {
        vec![self.0.len() as u8]
    }

    fn snapshot(&self) -> BufferedSnapshot {
        let strings = self.0.iter().map(|command| {
            let mut out = vec![];
            bytes::put_string(&mut out, command);
            out
        });
        BufferedSnapshot::new(strings.flatten().collect())
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| {
            let (mut reader, mut record) = (crate::bytes::Reader(bytes), Self::default());
            while reader.end().is_none() {
                let command = reader.string().ok_or_else(|| BadSnapshot::new("it ends in a command"))?;
                record.0.push(command.to_vec());
            }
            Ok(record)
        })
    }

    fn digest(&self) -> u64 {
        self.0.iter().fold(0, |sum, command| fingerprint(&[&sum.to_le_bytes(), command]))
    }
}

const LIMITS: Limits = Limits { max_sessions: 3, max_answers: 3, max_answer_bytes: 3, idle_entries: 12 };

/// What comes next in the log, or happens beside it.
#[derive(Clone, Debug)]
enum Deed {
    Blank,
    Garbage(Vec<u8>),
    Plain(u8),
    Register,
    /// A command of one of the sessions that ever were; a few numbers only, so that many come twice.
    InSession {
        session: sample::Index,
        sequence: u64,
        acknowledged: u64,
    },
    KeepAlive {
        session: sample::Index,
        acknowledged: u64,
    },
    Close(sample::Index),
    /// The machine is replaced by what another member makes of its snapshot, from pieces of these lengths.
    Replace {
        enough: usize,
        pieces: Vec<usize>,
    },
}

fn deed() -> impl Strategy<Value = Deed> {
    let session = any::<sample::Index>;
    prop_oneof![
        2 => Just(Deed::Blank),
        1 => any_vec(any::<u8>(), 0..12).prop_map(Deed::Garbage),
        1 => any::<u8>().prop_map(Deed::Plain),
        2 => Just(Deed::Register),
        12 => (session(), 0..9_u64, 0..9_u64).prop_map(|(session, sequence, back)| Deed::InSession {
            session,
            sequence,
            // A few claim to have answers to what they have not asked yet.
            acknowledged: (sequence + 1).saturating_sub(back),
        }),
        1 => (session(), 0..9_u64).prop_map(|(session, acknowledged)| Deed::KeepAlive { session, acknowledged }),
        1 => session().prop_map(Deed::Close),
        2 => (1..50_usize, any_vec(1..40_usize, 1..4))
            .prop_map(|(enough, pieces)| Deed::Replace { enough, pieces }),
    ]
}

/// The book: sessions by id, with the last entry that used each, what it has acknowledged, and all answers
/// ever given in it.
#[derive(Default)]
struct Book {
    open: BTreeMap<u64, Page>,
    /// Every session that ever was.
    ever: Vec<u64>,
    executed: usize,
}

#[derive(Default)]
struct Page {
    last_used: u64,
    acknowledged: u64,
    answers: BTreeMap<u64, Vec<u8>>,
}

impl Book {
    fn session(&self, which: sample::Index) -> u64 {
        // One that never was is among them too.
        let all: Vec<_> = self.ever.iter().copied().chain([u64::MAX]).collect();
        *which.get(&all)
    }

    fn execute(&mut self, now: u64) -> Vec<u8> {
        self.executed += 1;
        vec![self.executed as u8; now as usize % 5]
    }

    /// The answer of the entry `now`, by the rules as one would tell them.
    fn answer(&mut self, now: u64, command: Command<'_>) -> Answer {
        match command {
            Command::Plain(_) => Answer::Applied(Payload::from(&self.execute(now)[..])),
            Command::Register => {
                if self.open.len() == LIMITS.max_sessions as usize {
                    let oldest = self.open.iter().min_by_key(|(_, page)| page.last_used).map(|(id, _)| *id);
                    self.open.remove(&oldest.unwrap());
                }
                self.open.insert(now, Page { last_used: now, ..Page::default() });
                self.ever.push(now);
                Answer::Opened(SessionId(now))
            }
            Command::InSession { sequence, acknowledged, .. } if acknowledged > sequence => Answer::Garbled,
            Command::Close { session } => match self.open.remove(&session.0) {
                Some(_) => Answer::Closed,
                None => Answer::SessionExpired,
            },
            Command::KeepAlive { session, acknowledged } => match self.open.get_mut(&session.0) {
                Some(page) => {
                    page.last_used = now;
                    page.acknowledged = page.acknowledged.max(acknowledged);
                    Answer::Alive
                }
                None => Answer::SessionExpired,
            },
            Command::InSession { session, sequence, acknowledged, .. } => {
                let Some(page) = self.open.get_mut(&session.0) else {
                    return Answer::SessionExpired;
                };
                page.last_used = now;
                page.acknowledged = page.acknowledged.max(acknowledged);
                if sequence < page.acknowledged {
                    return Answer::Superseded;
                }
                if let Some(answer) = page.answers.get(&sequence) {
                    return match answer.len() {
                        4 => Answer::NotKept { length: 4 },
                        _ => Answer::Applied(Payload::from(&answer[..])),
                    };
                }
                if page.answers.range(page.acknowledged..).count() == LIMITS.max_answers as usize {
                    return Answer::TooManyPending;
                }
                let answer = self.execute(now);
                let page = self.open.get_mut(&session.0).unwrap();
                page.answers.insert(sequence, answer.clone());
                Answer::Applied(Payload::from(&answer[..]))
            }
        }
    }
}

fn replaced(machine: &Machine<Record>, enough: usize, pieces: &[usize]) -> Machine<Record> {
    let (mut snapshot, mut bytes, mut restore) = (machine.snapshot(), vec![], machine.restore());
    let mut lengths = pieces.iter().cycle();
    loop {
        let before = bytes.len();
        snapshot.read(enough, &mut bytes);
        if bytes.len() == before {
            break;
        }
        while let Some((piece, rest)) = bytes.split_at_checked(*lengths.next().unwrap()) {
            restore.write(piece).unwrap();
            bytes = rest.to_vec();
        }
    }
    restore.write(&bytes).unwrap();
    restore.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn sessions_do_what_the_plainest_book_does_through_any_number_of_snapshots(deeds in any_vec(deed(), 1..80)) {
        let mut machine = Machine::with_limits(Record::default(), LIMITS).unwrap();
        let mut book = Book::default();
        for deed in deeds {
            let now = machine.applied().index.get() + 1;
            let unique: Vec<u8>;
            let command = match deed {
                Deed::Replace { enough, pieces } => {
                    let copy = replaced(&machine, enough, &pieces);
                    prop_assert_eq!(copy.digest(), machine.digest());
                    prop_assert_eq!(&copy, &machine);
                    machine = copy;
                    continue;
                }
                Deed::Blank => None,
                Deed::Garbage(ref bytes) => Command::decode(bytes).err().map(|_| Err(bytes)),
                Deed::Plain(byte) => {
                    unique = vec![byte];
                    Some(Ok(Command::Plain(&unique)))
                }
                Deed::Register => Some(Ok(Command::Register)),
                Deed::InSession { session, sequence, acknowledged } => {
                    let session = SessionId(book.session(session));
                    unique = [session.0, sequence].map(u64::to_le_bytes).concat();
                    Some(Ok(Command::InSession { session, sequence, acknowledged, command: &unique }))
                }
                Deed::KeepAlive { session, acknowledged } => {
                    Some(Ok(Command::KeepAlive { session: SessionId(book.session(session)), acknowledged }))
                }
                Deed::Close(session) => Some(Ok(Command::Close { session: SessionId(book.session(session)) })),
            };
            book.open.retain(|_, page| now - page.last_used <= LIMITS.idle_entries);
            let (body, expected) = match command {
                None => (EntryBody::Blank, None),
                Some(Err(bytes)) => (EntryBody::Data(Payload::from(&bytes[..])), Some(Answer::Garbled)),
                Some(Ok(command)) => (EntryBody::Data(command.encode()), Some(book.answer(now, command))),
            };
            let answers = machine.apply(&[Entry { id: LogId::new(1, now), body }]).unwrap();
            prop_assert_eq!(answers, Vec::from_iter(expected.map(|answer| (Index::new(now), answer))));
            prop_assert_eq!(machine.sessions.digest(), machine.sessions.recomputed());
            prop_assert_eq!(machine.sessions(), book.open.len());
        }
        // Whatever the model predicts: no command of a session was ever carried out twice.
        let mut once: Vec<_> = machine.state.0.iter().filter(|command| command.len() == 16).collect();
        once.sort();
        let all = once.len();
        once.dedup();
        prop_assert_eq!(once.len(), all);
    }

    /// A client that keeps its books with [`Client`], over a network that repeats, delays and reorders what
    /// it proposes, and loses answers: each command is carried out once, and the client learns its answer.
    #[test]
    fn what_a_client_begins_is_carried_out_once_whatever_becomes_of_its_copies(
        choices in any_vec((0..5_u8, any::<sample::Index>(), any::<bool>()), 1..200),
    ) {
        let limits = Limits { idle_entries: u64::MAX, ..LIMITS };
        let mut machine = Machine::with_limits(Record::default(), limits).unwrap();
        let mut propose = |payload: Payload| {
            let id = LogId::new(1, machine.applied().index.get() + 1);
            let answers = machine.apply(&[Entry { id, body: EntryBody::Data(payload) }]).unwrap();
            (machine.state.0.len(), answers.into_iter().next().unwrap().1)
        };
        let (_, Answer::Opened(session)) = propose(Command::Register.encode()) else { panic!("not opened") };
        let mut client = Client::new(session, &limits);
        // Copies under way, which may come at any time and any number of times.
        let (mut copies, mut begun) = (vec![], 0);
        for (choice, which, reaches) in choices {
            match choice {
                0 | 1 => match client.begin(b"") {
                    Ok(copy) => {
                        begun += 1;
                        copies.push(copy);
                    }
                    Err(TooMany { oldest }) => prop_assert_eq!(Some(oldest), client.waiting().next()),
                },
                2 => copies.extend(client.waiting().filter_map(|it| Some((it, client.again(it)?)))),
                _ if copies.is_empty() => {}
                _ => {
                    let (sequence, payload) = copies[which.index(copies.len())].clone();
                    let (_, answer) = propose(payload);
                    let is_waiting = client.waiting().any(|it| it == sequence);
                    prop_assert!(answer.is_applied() || answer == Answer::Superseded && !is_waiting, "{answer}");
                    if reaches {
                        client.answered(sequence);
                    }
                }
            }
        }
        let last: Vec<_> = client.waiting().collect();
        for sequence in last {
            let (_, answer) = propose(client.again(sequence).unwrap());
            prop_assert!(answer.is_applied(), "{answer}");
            prop_assert!(client.answered(sequence) && !client.answered(sequence));
        }
        let (carried_out, answer) = propose(client.keep_alive());
        prop_assert_eq!((carried_out, answer), (begun, Answer::Alive));
        let (_, answer) = propose(client.close());
        prop_assert_eq!(answer, Answer::Closed);
    }

    /// Pieces of a real snapshot, with some bytes changed: refused, or read as a machine that works.
    #[test]
    fn no_bytes_make_a_restore_panic(
        deeds in any_vec(0..9_u64, 0..20),
        changes in any_vec((any::<sample::Index>(), any::<u8>()), 0..4),
        cut in any::<sample::Index>(),
        piece in 1..60_usize,
    ) {
        let mut machine = Machine::with_limits(Record::default(), LIMITS).unwrap();
        for sequence in deeds {
            let session = SessionId(machine.sessions.iter().next().map_or(0, |(id, _)| id.0));
            let command = match sequence {
                0 => Command::Register,
                _ => Command::InSession { session, sequence, acknowledged: sequence / 2, command: b"" },
            };
            let id = LogId::new(1, machine.applied().index.get() + 1);
            machine.apply(&[Entry { id, body: EntryBody::Data(command.encode()) }]).unwrap();
        }
        let mut bytes = vec![];
        machine.snapshot().read(usize::MAX, &mut bytes);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.index(bytes.len() * 3) + 1);
        let mut restore = machine.restore();
        let written = bytes.chunks(piece).try_for_each(|piece| restore.write(piece));
        if let Ok(mut other) = written.and_then(|()| restore.finish()) {
            prop_assert_eq!(other.sessions.digest(), other.sessions.recomputed());
            prop_assert_eq!(&replaced(&other, 10, &[7]), &other);
            let next = other.applied().index.get() + 1;
            if next < Index::MAX.get() {
                let id = LogId { term: other.applied().term, index: Index::new(next) };
                let answers = other.apply(&[Entry { id, body: EntryBody::Blank }]);
                prop_assert_eq!(answers, Ok(vec![]));
            }
        }
    }
}
