//! Connections between members, and from clients.

use crate::world::{GROUP, LONG, Node, answer, frame, get_through, id, opening, options, pair, until};
use kontiki_core::types::{ClusterId, Incarnation};
use kontiki_core::wire::HEADER;
use kontiki_net_tokio::transport::{
    Address, ClientHello, DialError, Dropped, HandshakeRefusal, Hello, Lane, StartError, TransportOptions,
    TransportOptionsError, dial,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_go_both_ways_and_keep_their_order_within_a_lane() {
    let [one, two] = pair(options()).await;
    let body = |lane: Lane, number: u32| {
        let length = if number.is_multiple_of(97) { 200_000 } else { number as usize % 300 };
        [&[lane as u8][..], &number.to_le_bytes(), &vec![number as u8; length]].concat()
    };
    const FRAMES: u32 = 1_000;
    for number in 0..FRAMES {
        for lane in [Lane::Log, Lane::Bulk] {
            one.send(&two, lane, &body(lane, number));
            two.send(&one, lane, &body(lane, number));
        }
    }
    for (to, from) in [(&one, &two), (&two, &one)] {
        until("all frames have come", || to.received(from).len() == 2 * FRAMES as usize).await;
        let received = to.received(from);
        for lane in [Lane::Log, Lane::Bulk] {
            let of_lane = received.iter().filter(|body| body[0] == lane as u8);
            assert!(of_lane.eq(&(0..FRAMES).map(|number| body(lane, number)).collect::<Vec<_>>()));
        }
        let counters = &to.transport.counters().peers[&from.id];
        assert_eq!((counters.received_frames, counters.sent_frames), (2_000, 2_000));
        assert_eq!((counters.outbound, counters.inbound), (2, 2));
        assert!(counters.dropped.is_empty() && counters.last_heard.is_some(), "{counters:?}");
        let heard = to.notes.heard.lock().unwrap();
        assert!(heard.iter().all(|hello| *hello == *from.notes.hello.lock().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_at_its_address_is_found_again() {
    let [one, two] = pair(options()).await;
    get_through(&one, &two, Lane::Log, b"before").await;
    let address = two.address();
    two.transport.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
    until("its end is noticed", || *one.notes.broken.lock().unwrap() == [id(2)]).await;
    until("it is dialled in vain, and frames are dropped, not kept", || {
        one.send(&two, Lane::Log, b"meanwhile");
        let failed = one.transport.counters().peers[&id(2)].failed_dials;
        failed > 0 && one.dropped(id(2), Dropped::Unreachable) > 0
    })
    .await;
    let two = Node::start(2, TransportOptions { listen: address, ..options() }).await;
    get_through(&one, &two, Lane::Log, b"after").await;
    assert!(!two.received(&one).contains(&b"meanwhile".to_vec()), "what is old is not sent");
}

/// A peer that reads nothing delays no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_drops_and_counts_and_the_others_go_on() {
    let small = TransportOptions { max_body: 1 << 16, queue_bytes: 1 << 17, ..options() };
    let [one, two] = pair(small).await;
    // A member that answers and then reads nothing.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    one.knows(id(3), listener.local_addr().unwrap());
    one.transport.connect(id(3));
    let _stuck = [welcomed(&listener, 3).await, welcomed(&listener, 3).await];
    let large = frame(&[3; 1 << 16]);
    until("its queue is full", || {
        one.transport.send(id(3), Lane::Log, GROUP, &large);
        one.dropped(id(3), Dropped::QueueFull) > 0
    })
    .await;
    for number in 0..100u8 {
        one.transport.send(id(3), Lane::Log, GROUP, &large);
        one.send(&two, Lane::Log, &[number]);
    }
    until("the other gets all", || two.received(&one).len() == 100).await;
    assert!(one.dropped(id(3), Dropped::QueueFull) > 50);
    assert_eq!(one.dropped(id(2), Dropped::QueueFull), 0);

    // A frame longer than the limit would end the connection: it is not sent.
    one.transport.send(id(2), Lane::Log, GROUP, &frame(&[0; (1 << 16) + 1]));
    assert_eq!(one.dropped(id(2), Dropped::TooLong), 1);
    // Frames that the host drops are counted.
    two.notes.is_full.store(true, SeqCst);
    one.send(&two, Lane::Log, b"too much");
    until("it is counted", || two.dropped(id(1), Dropped::NotTaken) == 1).await;
}

/// Accepts connections as this member, and then neither reads nor writes.
async fn welcomed(listener: &TcpListener, as_member: u64) -> TcpStream {
    let (mut stream, _) = timeout(LONG, listener.accept()).await.expect("a connection").unwrap();
    let address = Address { text: String::new(), stamp: 0 };
    let hello = Hello { id: id(as_member), groups: vec![], address, known: vec![] };
    let answer = [&[0][..], &postcard::to_allocvec(&hello).unwrap()].concat();
    stream.write_all(&opening(1, &answer)).await.unwrap();
    stream
}

/// A host that has lost its power does not close its connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_gives_no_sign_of_life_is_dialled_again() {
    let one =
        Node::start(1, TransportOptions { idle_timeout: Duration::from_millis(300), ..options() }).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    one.knows(id(3), listener.local_addr().unwrap());
    one.transport.connect(id(3));
    let mut silent = [welcomed(&listener, 3).await, welcomed(&listener, 3).await];
    let _again = [welcomed(&listener, 3).await, welcomed(&listener, 3).await];
    for stream in &mut silent {
        answer(stream).await;
    }
    until("there are connections", || one.transport.counters().peers[&id(3)].outbound == 2).await;
    // Where another member answers, nothing is sent to it.
    let _other = welcomed(&listener, 4).await;
    until("it is noticed", || one.transport.counters().peers[&id(3)].failed_dials > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_is_told_on_the_same_connection() {
    let [one, two] = pair(options()).await;
    let elsewhere = Address { text: "elsewhere:1".into(), stamp: 2 };
    let known = vec![(id(9), elsewhere.clone())];
    let groups = vec![(GROUP, Incarnation(1)), (ClusterId(8), Incarnation(1))];
    let changed = Hello { id: id(1), groups, address: elsewhere, known };
    *one.notes.hello.lock().unwrap() = changed.clone();
    one.transport.rehello();
    until("it is heard", || two.notes.heard.lock().unwrap().last() == Some(&changed)).await;
    assert_eq!((one.broken(), two.broken()), (0, 0));

    // A peer in none of the other's groups has nothing to exchange with it.
    one.notes.hello.lock().unwrap().groups = vec![(ClusterId(8), Incarnation(1))];
    one.transport.rehello();
    until("it is refused", || two.refused(HandshakeRefusal::OtherCluster) > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unused_lane_is_closed_when_it_is_idle_and_dialled_again_when_it_is_not() {
    let [one, two] = pair(TransportOptions { idle_timeout: Duration::from_millis(400), ..options() }).await;
    one.transport.forget(id(2));
    for lane in [Lane::Log, Lane::Bulk] {
        get_through(&one, &two, lane, &[lane as u8]).await;
        until("no connection is left", || {
            let [here, there] = [&one, &two].map(|node| node.transport.counters());
            here.peers[&id(2)].outbound == 0 && there.peers[&id(1)].inbound == 0
        })
        .await;
    }
}

/// A snapshot or a large value: data on the bulk lane that the other end may leave unread for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fills_the_bulk_lane_does_not_hold_up_the_other() {
    let one = Node::start(1, TransportOptions { max_body: 1 << 24, queue_bytes: 1 << 25, ..options() }).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    one.knows(id(3), listener.local_addr().unwrap());
    one.transport.connect(id(3));
    let both = [welcomed(&listener, 3).await, welcomed(&listener, 3).await];
    until("both are connected", || one.transport.counters().peers[&id(3)].outbound == 2).await;
    one.transport.send(id(3), Lane::Bulk, GROUP, &frame(&vec![7; 1 << 24]));
    let short = frame(b"a heartbeat");
    one.transport.send(id(3), Lane::Log, GROUP, &short);
    // Neither is read beyond its opening, which tells the lane.
    let (mut log, mut bulk) = (None, None);
    for mut stream in both {
        let lane = if opened_as_bulk(&mut stream).await { &mut bulk } else { &mut log };
        *lane = Some(stream);
    }
    let (mut log, _bulk) = (log.expect("the log's lane"), bulk.expect("the bulk lane"));
    let wanted = [&GROUP.0.to_le_bytes()[..], &short].concat();
    let mut came = Vec::new();
    until_read(&mut log, &mut came, &wanted).await;
}

/// Reads an opening; returns whether it is that of the bulk lane.
async fn opened_as_bulk(stream: &mut TcpStream) -> bool {
    let mut head = [0; 8 + HEADER];
    timeout(LONG, stream.read_exact(&mut head)).await.expect("it is there").unwrap();
    let mut body = vec![0; u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize];
    timeout(LONG, stream.read_exact(&mut body)).await.expect("it is there").unwrap();
    body.last() == Some(&1)
}

/// Reads until these bytes arrive, after any keep-alives.
async fn until_read(stream: &mut TcpStream, came: &mut Vec<u8>, wanted: &[u8]) {
    while !came.windows(wanted.len()).any(|bytes| bytes == wanted) {
        let read = timeout(LONG, stream.read_buf(came)).await.expect("it comes").unwrap();
        assert!(read > 0, "the connection has ended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_forgotten_is_not_dialled_any_more() {
    let [one, two] = pair(options()).await;
    one.transport.forget(id(2));
    until("it is gone", || {
        let [here, there] = [&one, &two].map(|node| node.transport.counters());
        here.peers[&id(2)].outbound == 0 && there.peers[&id(1)].inbound == 0
    })
    .await;
    until("the other notices", || *two.notes.broken.lock().unwrap() == [id(1)]).await;
    get_through(&one, &two, Lane::Log, b"one more word").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_member_is_cut_off_both_ways_until_it_is_not() {
    let [one, two] = pair(options()).await;
    one.transport.block(id(2), true);
    until("both have noticed", || one.broken() > 0 && two.broken() > 0).await;
    one.send(&two, Lane::Log, b"lost");
    assert_eq!(one.dropped(id(2), Dropped::Blocked), 1);
    let failed = two.transport.counters().peers[&id(1)].failed_dials;
    until("it tries in vain", || {
        two.send(&one, Lane::Log, b"lost as well");
        two.transport.counters().peers[&id(1)].failed_dials > failed + 3
    })
    .await;
    assert!(one.received(&two).is_empty());
    one.transport.block(id(2), false);
    get_through(&one, &two, Lane::Log, b"there").await;
    get_through(&two, &one, Lane::Log, b"and back").await;
    assert!(!two.received(&one).contains(&b"lost".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_gets_a_connection_of_its_own_as_long_as_there_is_room() {
    let node = Node::start(1, TransportOptions { max_connections: 1, ..options() }).await;
    let address = node.address().to_string();
    let hello = ClientHello { cluster: Some(GROUP) };
    let (mut stream, theirs) = dial(&address, None, hello, LONG).await.unwrap();
    assert_eq!(theirs, *node.notes.hello.lock().unwrap());
    until("it is handed over", || node.notes.clients.lock().unwrap().len() == 1).await;
    let mut served = node.notes.clients.lock().unwrap().remove(0);
    stream.write_all(b"question").await.unwrap();
    served.read_exact(&mut [0; 8]).await.unwrap();
    served.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"answer");

    let other = ClientHello { cluster: Some(ClusterId(99)) };
    let other = dial(&address, None, other, LONG).await;
    assert!(matches!(other, Err(DialError::Refused(HandshakeRefusal::OtherCluster))), "{other:?}");
    assert_eq!(node.transport.counters().clients, 1);
    drop(served);
    assert_eq!(node.transport.counters().clients, 0);
    dial(&address, None, hello, LONG).await.expect("there is room again");
    dial(&address, None, hello, LONG).await.expect("one that has asked nothing gives way");
    assert_eq!(node.transport.counters().clients, 1);
}

#[tokio::test]
async fn without_tls_only_loopback_is_listened_on_unless_it_is_allowed() {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let wrong = Node::try_start(1, TransportOptions { listen: everywhere, ..options() }).await.err();
    assert!(matches!(wrong, Some(StartError::Insecure { listen }) if listen == everywhere), "{wrong:?}");
    let allowed = TransportOptions { listen: everywhere, allow_insecure: true, ..options() };
    assert!(Node::try_start(1, allowed).await.is_ok());
    let taken = Node::start(1, options()).await;
    let twice = Node::try_start(2, TransportOptions { listen: taken.address(), ..options() }).await.err();
    assert!(matches!(twice, Some(StartError::Listen { .. })), "{twice:?}");
}

#[test]
fn wrong_options_are_refused_each_with_its_reason() {
    let ms = Duration::from_millis;
    let cases = [
        (
            TransportOptions { max_connections: 0, ..options() },
            TransportOptionsError::Zero("max_connections"),
        ),
        (TransportOptions { keep_alive: ms(0), ..options() }, TransportOptionsError::Zero("keep_alive")),
        (
            TransportOptions { backoff_min: ms(9), backoff_max: ms(8), ..options() },
            TransportOptionsError::Backoff { min: ms(9), max: ms(8) },
        ),
        (
            TransportOptions { keep_alive: ms(9), idle_timeout: ms(9), ..options() },
            TransportOptionsError::Silence { keep_alive: ms(9), idle: ms(9) },
        ),
        (
            TransportOptions { max_body: 1000, queue_bytes: 1016, ..options() },
            TransportOptionsError::Queue { bytes: 1016, needed: 1017 },
        ),
    ];
    for (options, error) in cases {
        assert_eq!(options.check(), Err(error), "{error}");
    }
    assert_eq!(TransportOptions::default().check(), Ok(()));
    let text = serde_json::to_string(&TransportOptions::default()).unwrap();
    let read: TransportOptions = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    assert!(serde_json::from_str::<TransportOptions>(r#"{ "max_boddy": 5 }"#).is_err());
}
