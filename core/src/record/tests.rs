//! Lives of one kernel, kept and lived again.

use super::*;
use crate::config::{Config, Options};
use crate::durable::Durable;
use crate::event::{Event, Proposal, Read, ReadVia, Reconfigure};
use crate::membership::{Change, Membership};
use crate::message::{Body, Message};
use crate::raft::Raft;
use crate::status::RoleKind;
use crate::time::Instant;
use crate::types::{ClusterId, Identity, Index, NodeId, Payload, RequestId, Term, WriteSeq};
use crate::wire::{self, HEADER};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

fn identity(number: u64) -> Identity {
    Identity::new(ClusterId(7), NodeId::new(number).unwrap())
}

fn kernel(begin: Durable) -> Raft {
    let config = Config::new(identity(1), Options::default()).unwrap();
    Raft::restore(config, begin, Instant::ZERO).unwrap()
}

fn of_three() -> Raft {
    let ids = [1, 2, 3].map(|number| NodeId::new(number).unwrap());
    kernel(Durable::bootstrap(Membership::of(ids).unwrap()))
}

fn said(from: u64, term: u64, body: Body) -> Event {
    Event::Receive(Message::new(identity(from), identity(1).member, Term::new(term), body))
}

fn propose(request: u64) -> Event {
    let payload = Payload::from("set x");
    Event::Propose(Proposal { request: RequestId(request), payload })
}

/// From follower to leader, with entries, reads and a change of members under way.
fn reign(raft: &Raft) -> Vec<(Instant, Event)> {
    let (asks, soon) = (raft.deadline(), raft.deadline() + crate::time::Nanos::new(1_000));
    let learner = Change::AddVoter(identity(4).member);
    let reconfigure =
        Reconfigure { request: RequestId(3), expected: None, changes: vec![learner], force: false };
    vec![
        (asks, Event::Wake),
        (asks, said(2, 0, Body::PreVoted { granted: true })),
        (asks, Event::Persisted(WriteSeq::new(1))),
        (asks, said(2, 1, Body::Voted { granted: true })),
        (asks, Event::Persisted(WriteSeq::new(2))),
        (soon, said(2, 1, Body::Appended { matched: Index::new(1) })),
        (soon, Event::Applied(Index::new(1))),
        (soon, propose(1)),
        (soon, Event::Read(Read { request: RequestId(2), via: ReadVia::Quorum })),
        (soon, Event::Reconfigure(reconfigure)),
        (soon, propose(4)),
    ]
}

fn live(raft: &mut Raft, recorder: &mut Recorder, life: &[(Instant, Event)]) {
    for (now, event) in life {
        recorder.begins(*now, event, raft);
        let actions = raft.step(*now, event.clone());
        recorder.ends(&actions, raft);
    }
}

/// The bytes of a leader's life, and what it was in the end.
fn recorded() -> (Vec<u8>, Raft) {
    let (mut raft, mut recorder) = (of_three(), Recorder::default());
    let life = reign(&raft);
    live(&mut raft, &mut recorder, &life);
    (recorder.take(), raft)
}

/// What a recording comes to: how many steps were the same, and the kernel after them.
fn replayed(recording: &Recording<'_>) -> (u64, Raft) {
    let mut player = recording.play().unwrap();
    let mut same = 0;
    for step in &mut player {
        assert_eq!(step.unwrap().difference(), None);
        same += 1;
    }
    (same, player.raft().clone())
}

#[test]
fn a_recorded_life_is_lived_again() {
    let (bytes, raft) = recorded();
    assert_eq!(raft.status().role, RoleKind::Leader);
    assert_eq!(raft.status().last.index, Index::new(4));
    let found = recordings(&bytes).unwrap();
    assert_eq!((found.len(), found[0].end()), (1, End::Whole));
    assert_eq!(replayed(&found[0]), (11, raft));
}

#[test]
fn a_recording_may_begin_at_any_step_and_goes_on_over_every_take() {
    let life = reign(&of_three());
    for begin in 0..life.len() {
        let mut raft = of_three();
        live(&mut raft, &mut Recorder::default(), &life[..begin]);
        let (mut recorder, mut bytes) = (Recorder::default(), vec![]);
        for step in &life[begin..] {
            live(&mut raft, &mut recorder, core::slice::from_ref(step));
            bytes.extend(recorder.take());
        }
        let found = recordings(&bytes).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(replayed(&found[0]), ((life.len() - begin) as u64, raft), "from step {begin}");
    }
}

#[test]
fn a_member_that_knows_of_no_group_is_recorded_too() {
    let (mut raft, mut recorder) = (kernel(Durable::default()), Recorder::default());
    let now = raft.deadline();
    live(&mut raft, &mut recorder, &[(now, Event::Wake)]);
    let bytes = recorder.take();
    assert_eq!(replayed(&recordings(&bytes).unwrap()[0]), (1, raft));
}

#[test]
fn a_step_that_comes_to_something_else_is_named() {
    let (mut raft, mut recorder) = (of_three(), Recorder::default());
    let life = reign(&raft);
    live(&mut raft, &mut recorder, &life[..3]);
    let (now, event) = &life[3];
    recorder.begins(*now, event, &raft);
    let actions = raft.step(*now, event.clone());
    recorder.ends(&actions[1..], &raft);
    live(&mut raft, &mut recorder, &life[4..]);
    let bytes = recorder.take();

    let mut player = recordings(&bytes).unwrap()[0].play().unwrap();
    let differences: Vec<_> = (&mut player).filter_map(|step| step.unwrap().difference()).collect();
    assert_eq!(player.raft(), &raft);
    let [difference] = differences[..] else { panic!("{differences:?}") };
    assert_eq!(difference.number, 4);
    assert_eq!(difference.recorded.actions + 1, difference.replayed.actions);
    assert_ne!(difference.recorded.digest, difference.replayed.digest);
    assert!(difference.to_string().starts_with("step 4 differs\n  recorded: "), "{difference}");
}

#[test]
fn a_step_that_did_not_end_is_kept() {
    let (mut raft, mut recorder) = (of_three(), Recorder::default());
    let life = reign(&raft);
    live(&mut raft, &mut recorder, &life[..2]);
    let (now, event) = &life[2];
    recorder.begins(*now, event, &raft);
    let bytes = recorder.take();
    let steps: Vec<_> = recordings(&bytes).unwrap()[0].play().unwrap().map(Result::unwrap).collect();
    assert_eq!(steps.len(), 3);
    assert_eq!((steps[2].recorded.now, &steps[2].recorded.event), (*now, event));
    assert_eq!((steps[2].recorded.footprint, steps[2].difference()), (None, None));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (bytes, _) = recorded();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let whole = |found: &Recording<'_>| found.end() == End::Whole;
        let unnoticed = recordings(&damaged).is_ok_and(|found| found.iter().all(whole));
        assert!(!unnoticed, "bit {bit}");
    }
}

#[test]
fn a_torn_recording_is_played_to_its_last_whole_step() {
    let (bytes, _) = recorded();
    let mut longest = 0;
    for length in MAGIC.len()..bytes.len() {
        let found = recordings(&bytes[..length]).unwrap();
        match found[0].play() {
            Ok(player) => {
                let same =
                    player.inspect(|step| assert_eq!(step.clone().unwrap().difference(), None)).count();
                assert!(same >= longest && same < 11, "{same} steps of {length} bytes");
                longest = same;
            }
            Err(error) => assert_eq!((error, longest), (PlayError::NoCheckpoint, 0)),
        }
        assert_eq!(found[0].bytes() + found[0].end().bytes(), length);
        assert!(!matches!(found[0].end(), End::Damaged { .. }));
    }
    assert_eq!(longest, 10);
}

#[test]
fn zeros_where_a_crash_lost_what_was_written_are_a_torn_end() {
    let (mut bytes, _) = recorded();
    bytes.extend([0; 100]);
    assert_eq!(recordings(&bytes).unwrap()[0].end(), End::Torn { bytes: 100 });
    *bytes.last_mut().unwrap() = 1;
    assert!(matches!(recordings(&bytes).unwrap()[0].end(), End::Damaged { bytes: 100, .. }));
}

#[test]
fn what_follows_a_torn_or_damaged_recording_is_found() {
    let (bytes, raft) = recorded();
    let cut = bytes.len() - 3;
    let mut flipped = bytes.clone();
    flipped[cut] ^= 1;
    for (first, torn) in [(&bytes[..cut], true), (&flipped[..], false)] {
        let both = [first, &bytes].concat();
        let found = recordings(&both).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(matches!(found[0].end(), End::Torn { .. }), torn);
        assert_eq!(matches!(found[0].end(), End::Damaged { .. }), !torn);
        assert_eq!((found[1].at_byte(), replayed(&found[0]).0), (first.len(), 10));
        assert_eq!(replayed(&found[1]), (11, raft.clone()));
    }
}

#[test]
fn lives_follow_one_another() {
    let mut recorder = Recorder::default();
    let life = reign(&of_three());
    for steps in [2, 5] {
        live(&mut of_three(), &mut recorder, &life[..steps]);
        recorder.stop();
    }
    let bytes = recorder.take();
    let found = recordings(&bytes).unwrap();
    assert_eq!(found.iter().map(|found| replayed(found).0).collect::<Vec<_>>(), [2, 5]);
    assert_eq!(found[1].play().unwrap().about(), &About::default());
}

#[test]
fn what_is_no_recording_of_this_format_is_refused() {
    assert_eq!(recordings(b"{\"seed\": 7}"), Err(NotARecording));
    assert_eq!(recordings(b""), Err(NotARecording));
    let sealed = |version, bodies: &[&[u8]]| {
        let mut bytes = MAGIC.to_vec();
        for body in bodies {
            wire::seal(version, &mut bytes, |out| out.extend_from_slice(body));
        }
        recordings(&bytes).unwrap()[0].play().map(|mut player| player.next_recorded()).map_err(|error| {
            assert!(error.to_string().len() > 40, "{error}");
            error
        })
    };
    let (mut about, mut kernel) = (vec![], vec![]);
    wire::postcard(&About::default(), &mut about);
    wire::postcard(&of_three(), &mut kernel);
    assert_eq!(
        sealed(FORMAT + 1, &[b"?", b"105 e4396fa89dc4bb29"]),
        Err(PlayError::Format { found: FORMAT + 1 })
    );
    assert_eq!(sealed(FORMAT, &[]), Err(PlayError::NoCheckpoint));
    assert_eq!(sealed(FORMAT, &[&about]), Err(PlayError::NoCheckpoint));
    assert_eq!(sealed(FORMAT, &[b"\xff", &kernel]), Err(PlayError::About));
    let library = LIBRARY.to_string();
    assert_eq!(sealed(FORMAT, &[&about, &kernel[1..]]), Err(PlayError::Checkpoint { library }));
    assert_eq!(sealed(FORMAT, &[&about, &kernel, b"\xff"]), Ok(Some(Err(PlayError::Step { number: 1 }))));
    assert_eq!(sealed(FORMAT, &[&about, &kernel]), Ok(None));
}

/// A kernel is read without trust, though its checksum holds: it is refused, or is some kernel.
#[test]
fn a_checkpoint_cut_anywhere_is_refused_and_settings_are_checked_again() {
    let mut kernel = vec![];
    wire::postcard(&recorded().1, &mut kernel);
    for length in 0..kernel.len() {
        assert!(wire::from_postcard::<Raft>(&kernel[..length]).is_err(), "{length} bytes");
    }
    let mut configs = vec![];
    wire::postcard(&of_three(), &mut configs);
    let min = Options::default().election_timeout_min.subsec_nanos();
    let mut number = vec![];
    wire::postcard(&min, &mut number);
    let at = configs.windows(number.len()).position(|window| window == number).unwrap();
    configs.splice(at..at + number.len(), [0]);
    assert!(wire::from_postcard::<Raft>(&configs).is_err(), "an election timeout of nothing");
}

/// The bytes of this format. If this fails, what was recorded before cannot be replayed any more: raise
/// [`FORMAT`], and say so in the changelog.
#[test]
fn the_format_stays() {
    let (bytes, raft) = recorded();
    let (mut first, mut last, mut told) = (vec![], vec![], vec![]);
    wire::postcard(&of_three(), &mut first);
    wire::postcard(&raft, &mut last);
    wire::postcard(&reign(&of_three()), &mut told);
    let about = [&[LIBRARY.len() as u8], LIBRARY.as_bytes(), &[0, 0]].concat();
    assert_eq!(bytes[..MAGIC.len()], *b"kontrec\n");
    assert_eq!(bytes[MAGIC.len() + HEADER..][..about.len()], about);
    let prints =
        [&first, &last, &told].map(|bytes| format!("{} {:016x}", bytes.len(), fingerprint(&[bytes])));
    assert_eq!(prints, ["193 a2da944f30d83e80", "428 3bf9e9b95578e94f", "106 38a7b4494b690c12"]);
}
