//! Commands that reach the leader by way of another member.

use crate::action;
use crate::kv;
use crate::machine::{self, Command, SessionId};
use crate::replica::frame::{Envelope, ReplicaBody};
use crate::replica::tests::group::{Group, Wire, in_session, put, reply, small};
use crate::replica::{Answer, Ask, Lane, ReplicaOptions, ReplicaRefusal};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;

fn is_forward(wire: &Wire) -> bool {
    matches!(&wire.frame.envelope, Envelope::Replica(message) if matches!(message.body, ReplicaBody::Forward { .. }))
}

fn is_forwarded(wire: &Wire) -> bool {
    matches!(&wire.frame.envelope, Envelope::Replica(message) if matches!(message.body, ReplicaBody::Forwarded { .. }))
}

/// From now on the last command that is sent on is kept, and so many copies of each arrive.
fn keep_forwards(group: &mut Group, copies: usize) -> Rc<RefCell<Option<Wire>>> {
    let kept = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&kept);
    group.network = Box::new(move |wire| {
        if !is_forward(wire) {
            return 1;
        }
        *keep.borrow_mut() = Some(wire.clone());
        copies
    });
    kept
}

fn forwarding() -> (Group, u64, u64) {
    let mut group = Group::of(3, &ReplicaOptions { forward: true, ..small() });
    let leader = group.elect();
    group.run(2_000);
    (group, leader, 1 + leader % 3)
}

#[test]
fn a_command_at_a_follower_is_sent_on_and_its_answer_comes_back() {
    let (mut group, _, follower) = forwarding();
    assert_eq!(reply(&group.put(follower, "x", "1")), kv::Reply::Written);
    assert_eq!(group.replica(follower).counters().forwarded, 1);
    assert_eq!(group.replica(follower).waiting(), 0);
}

#[test]
fn a_copy_that_the_network_made_is_no_second_command() {
    let (mut group, leader, follower) = forwarding();
    group.network = Box::new(|wire| if is_forward(wire) { 3 } else { 1 });
    let before = group.replica(leader).status().last.index;
    assert_eq!(reply(&group.put(follower, "x", "1")), kv::Reply::Written);
    assert_eq!(group.replica(leader).status().last.index, before.next());
}

#[test]
fn a_command_whose_answer_is_lost_is_not_sent_again_and_its_outcome_is_unknown() {
    let (mut group, leader, follower) = forwarding();
    group.network = Box::new(|wire| usize::from(!is_forwarded(wire)));
    let before = group.replica(leader).status().last.index;
    assert_eq!(group.put(follower, "x", "1"), Answer::Unknown);
    assert_eq!(group.replica(leader).status().last.index, before.next());
}

/// A session, and a command in it that is long enough to be looked at.
fn long(group: &mut Group, leader: u64) -> (SessionId, crate::types::Payload) {
    let opened = group.asked(leader, Ask::Command(Command::Register.encode()));
    let Answer::Applied { answer: machine::Answer::Opened(session), .. } = opened else {
        panic!("{opened:?}")
    };
    let value = alloc::vec![7; 100_000];
    (session, in_session(session, 1, &kv::Command::Put { key: b"x", value: &value }))
}

#[test]
fn a_long_command_that_is_under_way_is_not_proposed_again() {
    let (mut group, leader, _) = forwarding();
    let (session, command) = long(&mut group, leader);
    let appends = Rc::new(core::cell::Cell::new(false));
    let flow = appends.clone();
    group.network = Box::new(move |wire| usize::from(flow.get() || wire.lane == Lane::Log));
    let before = group.replica(leader).status().last.index;
    let first = group.ask(leader, Ask::Command(command.clone()));
    let again = group.ask(leader, Ask::Command(command.clone()));
    let short = in_session(session, 2, &kv::Command::Put { key: b"y", value: b"1" });
    let short = [(); 2].map(|()| group.ask(leader, Ask::Command(short.clone())));
    group.settle();
    assert_eq!(group.replica(leader).status().last.index, before + 3, "once, and the short one as it comes");
    assert_eq!(group.replica(leader).waiting(), 4);
    appends.set(true);
    group.run(500);
    let answers = [first, again].map(|request| group.answer(leader, request));
    assert!(matches!(answers[0], Some(Answer::Applied { .. })), "{answers:?}");
    assert_eq!(answers[0], answers[1], "both get the one answer");
    assert!(
        short.iter().all(|request| matches!(group.answer(leader, *request), Some(Answer::Applied { .. })))
    );
    assert_eq!(group.replica(leader).waiting(), 0);
}

#[test]
fn a_long_command_is_sent_on_once_and_waited_for_as_long_as_it_may_be_under_way() {
    let (mut group, leader, follower) = forwarding();
    let (_, command) = long(&mut group, leader);
    let held = keep_forwards(&mut group, 0);
    let before = group.replica(follower).counters().forwarded;
    let first = group.ask(follower, Ask::Command(command.clone()));
    group.run(5_500);
    let again = group.ask(follower, Ask::Command(command));
    group.settle();
    assert_eq!(group.replica(follower).counters().forwarded, before + 1);
    assert_eq!(group.answer(follower, first), None, "it may still arrive");
    group.network = Box::new(|_| 1);
    let late = held.borrow_mut().take().unwrap();
    group.frames.push_back(late);
    group.run(200);
    let answers = [first, again].map(|request| group.answer(follower, request));
    assert!(matches!(answers[0], Some(Answer::Applied { .. })), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    assert_eq!(group.replica(follower).waiting(), 0);
}

#[test]
fn a_long_command_whose_leader_is_gone_is_given_up_like_any_other() {
    let (mut group, leader, follower) = forwarding();
    let (_, command) = long(&mut group, leader);
    group.network = Box::new(|wire| usize::from(!is_forward(wire)));
    let request = group.ask(follower, Ask::Command(command));
    group.run(1_000);
    group.crash(leader);
    group.run(4_500);
    assert_eq!(group.answer(follower, request), Some(Answer::Unknown));
}

#[test]
fn a_command_of_an_earlier_life_of_the_leader_is_not_taken() {
    let (mut group, leader, follower) = forwarding();
    let kept = keep_forwards(&mut group, 1);
    group.put(follower, "x", "1");
    let forward = kept.borrow_mut().take().unwrap();
    group.restart(leader);
    group.elect();
    group.converge();
    let state = group.host(leader).worker.machine().state().clone();
    let last = group.replica(group.leader().unwrap()).status().last;
    group.frames.push_back(forward);
    group.run(500);
    assert_eq!(group.replica(group.leader().unwrap()).status().last, last);
    assert_eq!(*group.host(leader).worker.machine().state(), state);
}

/// Whether an earlier life of the leader took it, the leader cannot tell: a refusal would be a promise.
#[test]
fn a_command_that_an_earlier_life_of_the_leader_may_have_taken_is_unknown() {
    let (mut group, leader, follower) = forwarding();
    let kept = keep_forwards(&mut group, 0);
    let request = group.ask(follower, put("x", "1"));
    group.settle();
    group.restart(leader);
    let forward = kept.borrow_mut().take().unwrap();
    group.network = Box::new(|_| 1);
    group.frames.push_back(forward);
    group.settle();
    assert_eq!(group.answer(follower, request), Some(Answer::Unknown));
}

#[test]
fn a_command_of_an_earlier_life_of_its_sender_is_not_taken() {
    let (mut group, leader, follower) = forwarding();
    let kept = keep_forwards(&mut group, 0);
    // The second one: its number is one that the later life has not used.
    for key in ["w", "x"] {
        group.ask(follower, put(key, "1"));
        group.settle();
    }
    group.network = Box::new(|_| 1);
    group.restart(follower);
    group.run(500);
    assert_eq!(reply(&group.put(follower, "y", "1")), kv::Reply::Written);
    let before = (group.replica(leader).status().last, group.replica(leader).counters().unexpected_messages);
    let forward = kept.borrow_mut().take().unwrap();
    group.frames.push_back(forward);
    group.settle();
    let after = (group.replica(leader).status().last, group.replica(leader).counters().unexpected_messages);
    assert_eq!(after, (before.0, before.1 + 1));
}

#[test]
fn what_is_too_large_for_the_leader_is_refused_at_once() {
    let (mut group, _, follower) = forwarding();
    let max = group.replica(follower).raft().config().options().max_payload_bytes;
    let large = crate::types::Payload::from(&alloc::vec![0; max as usize + 1][..]);
    let answer = group.asked(follower, Ask::Command(large));
    assert_eq!(answer, Answer::Refused(ReplicaRefusal::Raft(action::Refusal::TooLarge { max })));
    let _ = put("x", "1");
}
