//! Sessions and snapshots, rule by rule. What random runs say of them is in `model.rs`.

use super::*;
use crate::kv::{self, Kv};
use crate::log::{Entry, EntryBody};
use crate::membership::Membership;
use crate::types::{LogId, NodeId, Payload};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

const LIMITS: Limits = Limits { max_sessions: 2, max_answers: 2, max_answer_bytes: 16, idle_entries: 10 };

/// A machine, and a log that grows by what is asked of it.
struct Run(Machine<Kv>);

impl Run {
    fn new(limits: Limits) -> Self {
        Self(Machine::with_limits(Kv::default(), limits).unwrap())
    }

    fn next(&self) -> LogId {
        LogId::new(1, self.0.applied().index.get() + 1)
    }

    fn append(&mut self, body: EntryBody) -> Option<Answer> {
        let answers = self.0.apply(&[Entry { id: self.next(), body }]).unwrap();
        assert_eq!(self.0.sessions.digest(), self.0.sessions.recomputed());
        answers.into_iter().map(|(_, answer)| answer).next()
    }

    fn command(&mut self, command: Command<'_>) -> Answer {
        self.append(EntryBody::Data(command.encode())).unwrap()
    }

    fn open(&mut self) -> SessionId {
        match self.command(Command::Register) {
            Answer::Opened(session) => session,
            other => panic!("not opened: {other}"),
        }
    }

    /// A compare-and-swap that works once only, so that a second execution shows.
    fn once(&mut self, session: SessionId, sequence: u64, acknowledged: u64) -> Answer {
        let key = sequence.to_le_bytes();
        let command = kv::Command::CompareAndSwap { key: &key, expected: None, value: b"" }.encode();
        self.command(Command::InSession { session, sequence, acknowledged, command: &command })
    }

    fn blanks(&mut self, count: u64) {
        for _ in 0..count {
            assert_eq!(self.append(EntryBody::Blank), None);
        }
    }
}

fn written() -> Answer {
    Answer::Applied(Payload::from(&kv::Reply::Written.encode()[..]))
}

fn bytes_of<P: SnapshotReader>(mut snapshot: P, enough: usize) -> Vec<u8> {
    let mut bytes = vec![];
    loop {
        let before = bytes.len();
        snapshot.read(enough, &mut bytes);
        if bytes.len() == before {
            return bytes;
        }
    }
}

/// A machine as another member has it, from pieces of this length.
fn copy(machine: &Machine<Kv>, piece: usize) -> Machine<Kv> {
    let mut restore = Machine::with_limits(Kv::default(), LIMITS).unwrap().restore();
    for piece in bytes_of(machine.snapshot(), 7).chunks(piece) {
        restore.write(piece).unwrap();
    }
    restore.finish().unwrap()
}

#[test]
fn a_command_of_a_session_is_applied_once_and_answered_each_time() {
    let mut run = Run::new(LIMITS);
    let session = run.open();
    assert_eq!(run.once(session, 1, 1), written());
    assert_eq!(run.once(session, 1, 1), written());
    assert_eq!(run.0.state().len(), 1);
}

#[test]
fn a_late_copy_of_an_acknowledged_command_is_superseded() {
    let mut run = Run::new(LIMITS);
    let session = run.open();
    run.once(session, 1, 1);
    run.once(session, 2, 2);
    assert_eq!(run.once(session, 1, 1), Answer::Superseded);
    assert_eq!(
        run.once(session, 2, 1),
        written(),
        "what was acknowledged stays so, what was not is still known"
    );
}

#[test]
fn a_session_that_there_is_not_applies_nothing() {
    let mut run = Run::new(LIMITS);
    assert_eq!(run.once(SessionId(77), 1, 1), Answer::SessionExpired);
    let session = run.open();
    assert_eq!(run.command(Command::Close { session }), Answer::Closed);
    assert_eq!(run.command(Command::Close { session }), Answer::SessionExpired);
    assert_eq!(run.command(Command::KeepAlive { session, acknowledged: 0 }), Answer::SessionExpired);
    assert_eq!(run.once(session, 1, 1), Answer::SessionExpired);
    assert!(run.0.state().is_empty());
}

#[test]
fn a_session_expires_after_as_many_entries_as_the_limit_says_and_no_sooner() {
    let mut run = Run::new(LIMITS);
    let session = run.open();
    run.blanks(LIMITS.idle_entries - 1);
    assert_eq!(run.once(session, 1, 1), written(), "used in time");
    run.blanks(LIMITS.idle_entries - 1);
    assert_eq!(run.command(Command::KeepAlive { session, acknowledged: 2 }), Answer::Alive);
    run.blanks(LIMITS.idle_entries);
    assert_eq!(run.0.sessions(), 1);
    assert_eq!(
        run.once(session, 1, 1),
        Answer::SessionExpired,
        "one entry too late, and no second execution"
    );
    assert_eq!(run.0.state().len(), 1);
}

#[test]
fn where_there_is_no_room_the_session_that_was_not_used_for_longest_expires() {
    let mut run = Run::new(LIMITS);
    let (first, second) = (run.open(), run.open());
    run.once(first, 1, 1);
    let third = run.open();
    assert_eq!(run.once(second, 1, 1), Answer::SessionExpired);
    assert_eq!(run.once(first, 1, 1), written());
    assert_eq!(run.command(Command::KeepAlive { session: third, acknowledged: 0 }), Answer::Alive);
}

#[test]
fn a_session_with_too_many_answers_applies_no_more_until_some_are_acknowledged() {
    let mut run = Run::new(LIMITS);
    let session = run.open();
    run.once(session, 1, 1);
    run.once(session, 2, 1);
    assert_eq!(run.once(session, 3, 1), Answer::TooManyPending);
    assert_eq!(run.0.state().len(), 2);
    assert_eq!(run.once(session, 2, 1), written(), "a known one is still answered");
    assert_eq!(run.once(session, 3, 2), written());
    assert_eq!(run.0.state().len(), 3);
}

#[test]
fn of_an_answer_that_is_too_long_it_is_known_that_it_was_given() {
    let mut run = Run::new(LIMITS);
    let session = run.open();
    run.command(Command::Plain(&kv::Command::Put { key: b"k", value: &[7; 20] }.encode()));
    let swap = kv::Command::CompareAndSwap { key: b"k", expected: None, value: b"" }.encode();
    let swap = Command::InSession { session, sequence: 1, acknowledged: 1, command: &swap };
    let Answer::Applied(answer) = run.command(swap) else { panic!("applied at first") };
    assert_eq!(run.command(swap), Answer::NotKept { length: answer.len() as u64 });
}

#[test]
fn garbage_is_answered_and_changes_nothing_but_what_is_applied() {
    let mut run = Run::new(LIMITS);
    let before = run.0.state().digest();
    for garbage in [&b""[..], b"\x09", b"\x01\x02short"] {
        assert_eq!(run.append(EntryBody::Data(Payload::from(garbage))), Some(Answer::Garbled));
    }
    assert_eq!((run.0.state().digest(), run.0.sessions(), run.0.applied()), (before, 0, LogId::new(1, 3)));
}

#[test]
fn entries_without_a_payload_count_as_applied() {
    let mut run = Run::new(LIMITS);
    let membership = Arc::new(Membership::of([NodeId::new(1).unwrap()]).unwrap());
    for body in [EntryBody::Blank, EntryBody::Config(membership), EntryBody::Withheld] {
        assert_eq!(run.append(body), None);
    }
    assert_eq!(run.0.applied(), LogId::new(1, 3));
}

/// Pitfall S7: entries that a snapshot covers must not be applied on top of it.
#[test]
fn no_entry_is_applied_twice_and_none_is_left_out() {
    let mut run = Run::new(LIMITS);
    run.blanks(3);
    let mut machine = copy(&run.0, 1);
    let blank = |index| Entry { id: LogId::new(1, index), body: EntryBody::Blank };
    for wrong in [vec![blank(3)], vec![blank(5)], vec![blank(4), blank(4)]] {
        assert!(matches!(machine.apply(&wrong), Err(ApplyError::Discontinuity(_))), "{wrong:?}");
    }
    let lost = [blank(4), Entry { id: LogId::new(1, 5), body: EntryBody::Lost }];
    assert_eq!(machine.apply(&lost), Err(ApplyError::Lost(LogId::new(1, 5))));
    assert_eq!(machine, run.0, "none of them was applied");
}

#[test]
fn limits_that_allow_nothing_are_refused() {
    for (field, limits) in [
        ("max_sessions", Limits { max_sessions: 0, ..LIMITS }),
        ("max_answers", Limits { max_answers: 0, ..LIMITS }),
        ("idle_entries", Limits { idle_entries: 0, ..LIMITS }),
    ] {
        assert_eq!(Machine::with_limits(Kv::default(), limits), Err(LimitsError { field }));
    }
}

/// A machine with answers of both kinds and a session without any.
fn full() -> Run {
    let mut run = Run::new(LIMITS);
    let session = run.open();
    run.once(session, 1, 1);
    run.command(Command::Plain(&kv::Command::Put { key: b"k", value: &[7; 20] }.encode()));
    let swap = kv::Command::CompareAndSwap { key: b"k", expected: None, value: b"" }.encode();
    run.command(Command::InSession { session, sequence: 2, acknowledged: 1, command: &swap });
    run.open();
    run
}

/// Pitfall X5.
#[test]
fn a_restored_machine_is_the_same_wherever_the_pieces_are_cut() {
    let run = full();
    for piece in 1..200 {
        let copy = copy(&run.0, piece);
        assert_eq!((&copy, copy.digest()), (&run.0, run.0.digest()), "pieces of {piece}");
    }
}

#[test]
fn a_snapshot_is_not_changed_by_later_commands() {
    let mut run = full();
    let (before, snapshot) = (bytes_of(run.0.snapshot(), 1), run.0.snapshot());
    run.once(SessionId(1), 3, 3);
    run.command(Command::Close { session: SessionId(5) });
    assert_eq!(bytes_of(snapshot, 1000), before);
    assert_ne!(bytes_of(run.0.snapshot(), 1), before);
}

#[test]
fn a_snapshot_that_is_cut_or_of_other_limits_or_of_another_format_is_refused() {
    let run = full();
    let bytes = bytes_of(run.0.snapshot(), 1000);
    let read = |limits, bytes: &[u8]| {
        let mut restore = Machine::with_limits(Kv::default(), limits).unwrap().restore();
        restore.write(bytes)?;
        restore.finish()
    };
    assert_eq!(read(LIMITS, &bytes), Ok(run.0.clone()));
    // At a border between two of the map's entries the end is like any other: the file around it knows its
    // length.
    let state = bytes.len() - bytes_of(run.0.state().snapshot(), 1000).len();
    for cut in 0..state {
        assert!(read(LIMITS, &bytes[..cut]).is_err(), "cut at {cut}");
    }
    let reason = |result: Result<_, BadSnapshot>| result.err().unwrap().reason;
    let other = Limits { idle_entries: 11, ..LIMITS };
    assert!(reason(read(other, &bytes)).contains("idle_entries: 11"));
    let mut newer = bytes.clone();
    newer[4] = 9;
    assert!(reason(read(LIMITS, &newer)).contains("format 9"));
    assert!(reason(read(LIMITS, b"what is this?")).contains("begin"));
}

#[test]
fn what_was_refused_stays_refused() {
    let run = full();
    let mut restore = run.0.restore();
    assert!(restore.write(b"no snapshot").is_err());
    assert!(restore.write(&bytes_of(run.0.snapshot(), 1000)).is_err());
    assert!(restore.finish().is_err());
}

#[test]
fn sessions_that_no_machine_could_have_are_refused() {
    let bytes = bytes_of(full().0.snapshot(), 1000);
    let read = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        let mut restore = Machine::with_limits(Kv::default(), LIMITS).unwrap().restore();
        restore.write(&bytes).and_then(|()| restore.finish()).err().map(|bad| bad.reason)
    };
    let (sessions, first) = (41, 45);
    let (used, acknowledged, answers) = (first + 8, first + 16, first + 24);
    let (sequence, kind, length) = (answers + 4, answers + 12, answers + 13);
    assert_eq!(read(first, bytes[first]), None, "as it was");
    let refused = |at, byte, why| {
        let reason = read(at, byte).unwrap_or_default();
        assert!(reason.contains(why), "byte {at}: {reason:?} for {why}");
    };
    refused(sessions, 3, "more sessions");
    refused(12, 0xff, "impossible last entry");
    refused(first, 9, "session 9");
    refused(used, 9, "session 1 cannot be");
    refused(used, 5, "session 5 cannot be");
    refused(answers, 3, "session 1 cannot be");
    refused(acknowledged, 2, "answer 1 of session 1 is out of order");
    refused(sequence, 2, "answer 2 of session 1 is out of order");
    refused(kind, 2, "kind 2");
    refused(length, 17, "longer");
    let second = bytes.windows(8).rposition(|window| window == 5_u64.to_le_bytes()).unwrap() - 8;
    assert_eq!(bytes[second], 5, "the other session, unused since it was opened");
    refused(second, 1, "session 1 cannot be");
    refused(13, 200, "session 1 cannot be");
}

#[test]
fn what_the_state_refuses_stays_refused() {
    let run = full();
    let (mut restore, bytes) = (run.0.restore(), bytes_of(run.0.snapshot(), 1000));
    restore.write(&bytes).unwrap();
    assert!(restore.write(&[0xff; 4]).is_err());
    assert!(restore.write(&[]).is_err());
    assert!(restore.finish().is_err());
}
