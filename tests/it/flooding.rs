//! A follower that takes nothing, since its disk is full or its state machine lags, is not sent the same
//! entries over and over.

use kontiki_core::config::Options;
use kontiki_core::event::Event;
use kontiki_core::log::Entry;
use kontiki_core::message::Body;
use kontiki_core::types::Index;
use kontiki_tests::lab::{Lab, id};

/// How many bytes of entries the leader sends to member 3 after each heartbeat, once that takes nothing.
fn sent_per_heartbeat(lab: &mut Lab) -> Vec<u64> {
    let big = "x".repeat(256 << 10);
    for _ in 0..128 {
        lab.propose(1, &big);
        lab.deliver();
    }
    lab.take_transcript();
    let mut sent = Vec::new();
    for _ in 0..20 {
        lab.heartbeat(1);
        lab.deliver_only("Heartbeat");
        lab.deliver_only("HeartbeatAck");
        let entries = |body: &Body| match body {
            Body::Append { slice, .. } => slice.entries().iter().map(Entry::size).sum(),
            _ => 0,
        };
        sent.push(
            lab.in_flight().iter().filter(|message| message.to.id == id(3)).map(|it| entries(&it.body)).sum(),
        );
        lab.deliver();
        lab.take_transcript();
    }
    sent
}

#[test]
fn a_follower_with_a_full_disk_is_sent_little_and_catches_up_once_there_is_space() {
    let mut lab = Lab::of(3);
    lab.elect(1);
    lab.beat(1);
    lab.step(3, Event::DiskFull(true));
    let sent = sent_per_heartbeat(&mut lab);
    assert_eq!(sent.iter().sum::<u64>(), 0, "{sent:?}");
    lab.step(3, Event::DiskFull(false));
    lab.deliver();
    assert_eq!(lab.status(3).last, lab.status(1).last);
}

#[test]
fn a_follower_whose_state_machine_lags_is_sent_little() {
    let mut lab = Lab::new(3, 0, &Options::default());
    lab.set_options(3, |options| {
        options.max_cached_bytes = 1 << 20;
        options.max_uncommitted_bytes = 1 << 20;
    });
    lab.elect(1);
    lab.beat(1);
    lab.slow_apply(3);
    let sent = sent_per_heartbeat(&mut lab);
    assert_eq!(sent.iter().sum::<u64>(), 0, "{sent:?}");
    assert!(lab.status(3).last.index > Index::ZERO && lab.status(3).last < lab.status(1).last);
    // It takes more as soon as it has applied what it has, and says so.
    for _ in 0..128 {
        lab.apply(3);
        assert_eq!(lab.count("3→1 t1 HeartbeatAck"), 1, "it does not wait for the next heartbeat");
        lab.deliver();
        if lab.status(3).last == lab.status(1).last {
            return;
        }
    }
    panic!("it gets no further than {}", lab.status(3).last);
}
