//! Peers that are not members, or violate the protocol: refused with a reason, without effect on a valid
//! member.

use crate::world::{
    GROUP, LONG, Node, Random, answer, id, member, on_the_wire, opening, options, pair, refusal, say, until,
};
use kontiki_core::types::ClusterId;
use kontiki_net_tokio::transport::{ClientHello, HandshakeRefusal, Lane, TransportOptions, dial};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Asserts that the valid member has lost nothing, and that none of its connections has ended.
async fn is_undisturbed(one: &Node, two: &Node, sent: u32) {
    until("everything of the good member has come", || two.received(one).len() == sent as usize).await;
    let wanted: Vec<_> = (0..sent).map(|number| number.to_le_bytes().to_vec()).collect();
    assert_eq!(two.received(one), wanted);
    assert!(!two.notes.broken.lock().unwrap().contains(&one.id));
    assert!(one.transport.counters().peers[&two.id].dropped.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_introduction_is_refused_with_a_reason() {
    let [one, two] =
        pair(TransportOptions { handshake_timeout: Duration::from_millis(500), ..options() }).await;
    let good = member(3, GROUP, 2);
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    // The bytes sent, the reason for the refusal, and whether the peer is told.
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), HandshakeRefusal::NotKontiki, false),
        (changed(7, 9), HandshakeRefusal::Version, true),
        (member(3, ClusterId(8), 2), HandshakeRefusal::OtherCluster, true),
        (member(3, GROUP, 4), HandshakeRefusal::WrongMember, true),
        (member(2, GROUP, 2), HandshakeRefusal::Itself, true),
        (opening(1, b"\x07what?"), HandshakeRefusal::Malformed, true),
        (opening(1, &[0; 3]), HandshakeRefusal::Malformed, true),
        (changed(good.len() - 1, 9), HandshakeRefusal::Corrupt, true),
        (changed(10, 0xff), HandshakeRefusal::Oversized, true),
        (good[..good.len() - 1].to_vec(), HandshakeRefusal::Timeout, false),
        (vec![], HandshakeRefusal::Timeout, false),
    ];
    for (number, (bytes, reason, is_told)) in (0u32..).zip(cases) {
        let before = two.refused(reason);
        let said = say(two.address(), &bytes).await;
        if is_told {
            assert_eq!(refusal(&said), Some(reason));
        } else {
            assert_eq!(said, b"", "{reason}");
        }
        until(reason.as_str(), || two.refused(reason) == before + 1).await;
        one.send(&two, Lane::Log, &number.to_le_bytes());
        is_undisturbed(&one, &two, number + 1).await;
    }
    drop(TcpStream::connect(two.address()).await.unwrap());
    until("a peer that leaves is counted", || two.refused(HandshakeRefusal::Left) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_sends_what_is_no_frame_loses_its_connection() {
    let quick = Duration::from_millis(300);
    let [one, two] = pair(TransportOptions { max_body: 1_000, frame_timeout: quick, ..options() }).await;
    let mut corrupt = on_the_wire(b"hello");
    *corrupt.last_mut().unwrap() ^= 1;
    let long = on_the_wire(&[0; 1_001]);
    // One of the transport's own frames, for group 0 and of version 0, that holds no introduction.
    let mut not_control = vec![0; 8];
    kontiki_core::wire::seal(0, &mut not_control, |out| out.push(b'?'));
    let cases = [
        (corrupt, HandshakeRefusal::Corrupt),
        (long[..17].to_vec(), HandshakeRefusal::Oversized),
        (on_the_wire(b"hello")[..20].to_vec(), HandshakeRefusal::Slow),
        (not_control, HandshakeRefusal::Malformed),
    ];
    for (number, (bytes, reason)) in (0u32..).zip(cases) {
        let said = say(two.address(), &[member(3, GROUP, 2), on_the_wire(b"first"), bytes].concat()).await;
        // It was accepted, and its valid frames were delivered.
        assert_eq!(refusal(&said[..said.len().min(100)]), None, "{reason}");
        until(reason.as_str(), || two.refused(reason) == 1).await;
        let inbox = || two.notes.inbox.lock().unwrap().iter().filter(|(from, ..)| *from == id(3)).count();
        assert_eq!(inbox(), number as usize + 1);
        until("its end is told", || two.broken() == number as usize + 1).await;
        one.send(&two, Lane::Log, &number.to_le_bytes());
        is_undisturbed(&one, &two, number + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_falls_silent_loses_its_connection() {
    let [_one, two] = pair(TransportOptions { idle_timeout: Duration::from_millis(500), ..options() }).await;
    let said = say(two.address(), &member(3, GROUP, 2)).await;
    assert_eq!(refusal(&said), None);
    // The last bytes are the acceptor's keep-alives.
    assert_eq!(said.last(), Some(&0));
    until("it is counted", || two.refused(HandshakeRefusal::Silent) >= 1).await;
    until("it is told", || two.notes.broken.lock().unwrap().contains(&id(3))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_silent_connections_keep_no_member_out() {
    let node = Node::start(1, options()).await;
    let mut silent = vec![];
    for _ in 0..300 {
        silent.push(TcpStream::connect(node.address()).await.unwrap());
    }
    until("the oldest are given up", || node.refused(HandshakeRefusal::TooManyConnections) == 300 - 128)
        .await;
    assert_eq!(answer(&mut silent[0]).await, b"");
    dial(&node.address().to_string(), None, ClientHello::default(), LONG).await.expect("there is room");
}

/// Generated garbage of every kind, the same each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_does_no_harm() {
    const CONNECTIONS: u64 = 4_000;
    const AT_ONCE: usize = 32;
    let quick = TransportOptions { max_body: 1 << 16, max_connections: 100, ..options() };
    let [one, two] = pair(quick).await;
    let address = two.address();
    let (mut random, mut at_work, mut sent) = (Random(5), JoinSet::new(), 0u32);
    let good = [member(3, GROUP, 2), on_the_wire(b"hello"), on_the_wire(&[1; 300])].concat();
    for number in 0..CONNECTIONS {
        let bytes = garbage(&mut random, &good);
        at_work.spawn(async move {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            let _ = tcp.write_all(&bytes).await;
            let _ = tcp.shutdown().await;
            answer(&mut tcp).await
        });
        if at_work.len() >= AT_ONCE {
            at_work.join_next().await.unwrap().expect("it was hung up on");
        }
        if number % 10 == 0 {
            one.send(&two, Lane::Log, &sent.to_le_bytes());
            sent += 1;
        }
    }
    while let Some(ended) = at_work.join_next().await {
        ended.expect("it was hung up on");
    }
    is_undisturbed(&one, &two, sent).await;
    let refused = two.transport.counters().refused;
    for reason in [
        HandshakeRefusal::NotKontiki,
        HandshakeRefusal::Version,
        HandshakeRefusal::Corrupt,
        HandshakeRefusal::Oversized,
        HandshakeRefusal::Left,
    ] {
        assert!(refused.contains_key(&reason), "{reason} of {refused:?}");
    }
    // Only frames from introduced peers were delivered, as sent.
    let inbox = two.notes.inbox.lock().unwrap();
    let hello = on_the_wire(b"hello")[8..].to_vec();
    assert!(inbox.iter().any(|(from, _, frame)| *from == id(3) && *frame == hello));
}

/// Invalid bytes, or nearly valid ones.
fn garbage(random: &mut Random, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    match random.below(5) {
        0 => {
            let length = random.below(2_000);
            bytes = random.bytes(length);
        }
        1 => {
            let length = random.below(2_000);
            bytes = [b"KONTIKI\x01", &random.bytes(length)[..]].concat();
        }
        2 => {
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        3 => bytes.truncate(random.below(good.len())),
        _ => {
            let length = random.below(5_000);
            bytes.extend(random.bytes(length));
        }
    }
    bytes
}
