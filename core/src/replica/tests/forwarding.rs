//! Commands that reach the leader by way of another member.

use crate::action;
use crate::kv;
use crate::replica::frame::{Envelope, Note};
use crate::replica::tests::group::{Group, Wire, put, reply, small};
use crate::replica::{Answer, Ask, Options, Refusal};
use alloc::boxed::Box;

fn is_forward(wire: &Wire) -> bool {
    matches!(&wire.frame.envelope, Envelope::Replica(letter) if matches!(letter.note, Note::Forward { .. }))
}

fn is_forwarded(wire: &Wire) -> bool {
    matches!(&wire.frame.envelope, Envelope::Replica(letter) if matches!(letter.note, Note::Forwarded { .. }))
}

fn forwarding() -> (Group, u64, u64) {
    let mut group = Group::of(3, &Options { forward: true, ..small() });
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

#[test]
fn a_command_of_an_earlier_life_of_the_leader_is_not_taken() {
    let (mut group, leader, follower) = forwarding();
    let mut kept = None;
    let (send, receive) = (alloc::rc::Rc::new(core::cell::RefCell::new(None)), ());
    let copy = send.clone();
    group.network = Box::new(move |wire| {
        if is_forward(wire) {
            *copy.borrow_mut() = Some(wire.clone());
        }
        1
    });
    let () = receive;
    group.put(follower, "x", "1");
    kept = send.borrow_mut().take().or(kept);
    group.restart(leader);
    group.elect();
    group.converge();
    let state = group.host(leader).worker.machine().state().clone();
    let last = group.replica(group.leader().unwrap()).status().last;
    group.frames.push_back(kept.unwrap());
    group.run(500);
    assert_eq!(group.replica(group.leader().unwrap()).status().last, last);
    assert_eq!(*group.host(leader).worker.machine().state(), state);
}

#[test]
fn what_is_too_large_for_the_leader_is_refused_at_once() {
    let (mut group, _, follower) = forwarding();
    let max = group.replica(follower).raft().config().options().max_payload_bytes;
    let large = crate::types::Payload::from(&alloc::vec![0; max as usize + 1][..]);
    let answer = group.asked(follower, Ask::Command(large));
    assert_eq!(answer, Answer::Refused(Refusal::Raft(action::Refusal::TooLarge { max })));
    let _ = put("x", "1");
}
