//! What clients send and are answered, and snapshots of the applying side, changed.

use crate::memory::bounded;
use crate::mutate::mutate;
use crate::rng::Rng;
use kontiki_core::kv::{self, Kv, Query, Reply};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine::{
    Answer, BadSnapshot, Command, Limits, Machine, Restore, SessionId, SnapshotReader, StateMachine,
};
use kontiki_core::types::{Index, LogId, Payload};

const LIMITS: Limits = Limits { max_sessions: 4, max_answers: 4, max_answer_bytes: 40, idle_entries: 50 };

/// A reply takes one byte for a flag where it takes a list in memory, and eight for an entry that takes 48,
/// three times while the list grows.
const EACH: u64 = 24;
const FIXED: u64 = 1 << 10;

pub(crate) fn case(rng: &mut Rng) -> &'static str {
    match rng.below(4) {
        0 => sessions(rng),
        1 => map(rng),
        2 => answers(rng),
        _ => snapshots(rng),
    }
}

/// A machine with some history.
fn machine(rng: &mut Rng) -> Machine<Kv> {
    let mut machine = Machine::with_limits(Kv::default(), LIMITS).expect("sound limits");
    for _ in 0..rng.below(20) {
        apply(&mut machine, &command(rng));
    }
    machine
}

fn apply(machine: &mut Machine<Kv>, payload: &[u8]) -> Answer {
    let id = LogId { term: machine.applied().term, index: machine.applied().index.next() };
    let entry = Entry { id, body: EntryBody::Data(Payload::from(payload)) };
    let (_, answer) = machine.apply(&[entry]).expect("it follows").pop().expect("it has a payload");
    answer
}

fn command(rng: &mut Rng) -> Vec<u8> {
    let session = SessionId(rng.below(12));
    let inner = map_command(rng);
    let command = match rng.below(8) {
        0 => Command::Plain(&inner),
        1 | 2 => Command::Register,
        3 => Command::KeepAlive { session, acknowledged: rng.number() },
        4 => Command::Close { session },
        _ => {
            let sequence = rng.number();
            let acknowledged = sequence.saturating_sub(rng.below(4));
            Command::InSession { session, sequence, acknowledged, command: &inner }
        }
    };
    command.encode().to_vec()
}

fn map_command(rng: &mut Rng) -> Vec<u8> {
    let (key, value, expected) = (&rng.bytes(3)[..], &rng.bytes(30)[..], rng.bytes(3));
    match rng.below(3) {
        0 => kv::Command::Put { key, value },
        1 => kv::Command::Delete { key },
        _ => {
            let expected = rng.one_in(2).then_some(&expected[..]);
            kv::Command::CompareAndSwap { key, expected, value }
        }
    }
    .encode()
}

fn query(rng: &mut Rng) -> Vec<u8> {
    let (key, to) = (&rng.bytes(3)[..], rng.bytes(3));
    let scan = Query::Scan { from: key, to: rng.one_in(2).then_some(&to[..]), limit: rng.number() as u32 };
    let query = if rng.one_in(2) { Query::Get { key } } else { scan };
    query.encode()
}

fn sessions(rng: &mut Rng) -> &'static str {
    let mut bytes = command(rng);
    assert!(Command::decode(&bytes).is_ok(), "what was written is read");
    mutate(&mut bytes, &command(rng), rng);
    let decoded = bounded(bytes.len(), 0, 0, || Command::decode(&bytes));
    let mut machine = machine(rng);
    let before = (machine.state().digest(), machine.sessions());
    // An answer may hold the value that the key has, which lies in the machine already.
    let answer = bounded(bytes.len(), EACH, 4 * FIXED, || apply(&mut machine, &bytes));
    match decoded {
        Ok(command) => {
            assert_eq!(*command.encode(), bytes[..], "nothing has two spellings");
            assert_ne!(answer, Answer::Garbled);
            "commands"
        }
        Err(garbled) => {
            assert_eq!(answer, Answer::Garbled, "{garbled}");
            assert!(
                machine.sessions() <= before.1 && machine.state().digest() == before.0,
                "garbage did something"
            );
            "garbled commands"
        }
    }
}

fn map(rng: &mut Rng) -> &'static str {
    let machine = machine(rng);
    let mut kv = machine.state().clone();
    let (mut change, mut question) = (map_command(rng), query(rng));
    mutate(&mut change, &map_command(rng), rng);
    mutate(&mut question, &query(rng), rng);
    let read = bounded(change.len(), 0, 0, || kv::Command::decode(&change));
    if let Ok(command) = read {
        assert_eq!(command.encode(), change, "nothing has two spellings");
    }
    let reply = bounded(change.len(), EACH, 4 * FIXED, || kv.apply(LogId::ZERO, &change));
    let malformed = Reply::decode(&reply) == Ok(Reply::Malformed);
    assert_eq!(malformed, read.is_err());
    if malformed {
        assert_eq!(&kv, machine.state(), "garbage did something");
    }
    let read = bounded(question.len(), 0, 0, || Query::decode(&question));
    if let Ok(query) = read {
        assert_eq!(query.encode(), question, "nothing has two spellings");
    }
    let reply = bounded(question.len(), EACH, 16 * FIXED, || kv.query(&question));
    assert_eq!(Reply::decode(&reply) == Ok(Reply::Malformed), read.is_err());
    match malformed {
        true => "malformed changes",
        false => "changes",
    }
}

fn answers(rng: &mut Rng) -> &'static str {
    let kv = machine(rng).state().clone();
    let (mut bytes, other) = (kv.query(&query(rng)), kv.query(&query(rng)));
    mutate(&mut bytes, &other, rng);
    match bounded(bytes.len(), EACH, FIXED, || Reply::decode(&bytes)) {
        Ok(reply) => {
            assert_eq!(reply.encode(), bytes, "nothing has two spellings");
            "replies"
        }
        Err(_) => "malformed replies",
    }
}

/// What a map's entry takes of memory besides its bytes, of which it has eight at least, or what a session's
/// answer does.
const RESTORED: u64 = 64;

fn snapshots(rng: &mut Rng) -> &'static str {
    let machine = machine(rng);
    let snapshot = |machine: &Machine<Kv>, enough| {
        let (mut bytes, mut snapshot) = (Vec::new(), machine.snapshot());
        while {
            let before = bytes.len();
            snapshot.read(enough, &mut bytes);
            bytes.len() > before
        } {}
        bytes
    };
    let mut bytes = snapshot(&machine, 1 + rng.place(100));
    assert_eq!(restored(&machine, &bytes, 7).as_ref(), Ok(&machine), "what was written is read");
    mutate(&mut bytes, &snapshot(&machine, 1), rng);
    let pieces = [1, 13, 4096]
        .map(|piece| bounded(bytes.len(), RESTORED, 8 * FIXED, || restored(&machine, &bytes, piece)));
    assert!(
        pieces.iter().all(|result| result.is_ok() == pieces[0].is_ok()),
        "it depends on the pieces: {pieces:?}"
    );
    let [Ok(mut other), ..] = pieces else {
        return "refused snapshots";
    };
    assert_eq!(snapshot(&other, 50), bytes, "nothing has two spellings");
    if other.applied().index < Index::MAX {
        apply(&mut other, &command(rng));
    }
    "snapshots"
}

fn restored(machine: &Machine<Kv>, bytes: &[u8], piece: usize) -> Result<Machine<Kv>, BadSnapshot> {
    let mut restore = machine.restore();
    for piece in bytes.chunks(piece) {
        restore.write(piece)?;
    }
    restore.finish()
}
