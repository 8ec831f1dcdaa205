//! A client against scripted members.

use super::*;
use crate::protocol::{self, NodePhase, Numbered, Who};
use crate::sync::lock;
use kontiki_core::kv;
use kontiki_core::machine::SessionId;
use kontiki_core::membership::MemberKind;
use kontiki_core::status::{RoleKind, Space};
use kontiki_core::types::{ClusterId, Index, Member, NodeId, Term};
use kontiki_core::wire::FrameError;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// A member's reply to a request; `None` closes the connection.
type Says = Box<dyn FnMut(&Request) -> Option<Said> + Send>;

enum Said {
    Reply(Response),
    Bytes(&'static [u8]),
    Nothing,
}

/// Members by their addresses, and the requests they received except for status polls.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    members: BTreeMap<String, (u64, Says)>,
    leader: u64,
    asked: Vec<(String, Request)>,
    dialled: Vec<String>,
}

impl World {
    fn led_by(leader: u64) -> Self {
        let world = Self::default();
        lock(&world.0).leader = leader;
        world
    }

    /// Adds a member with this id at this address.
    fn member(self, id: u64, says: impl FnMut(&Request) -> Option<Said> + Send + 'static) -> Self {
        lock(&self.0).members.insert(format!("m{id}"), (id, Box::new(says)));
        self
    }

    fn client(&self, addresses: &[&str]) -> Client {
        let options = ClientOptions {
            deadline: Duration::from_secs(5),
            reply_timeout: Duration::from_millis(200),
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(5),
            ..ClientOptions::default()
        };
        Client::with_dialler(addresses.iter().map(ToString::to_string), self.dialler(), options).unwrap()
    }

    fn dialler(&self) -> Dialler {
        let world = self.clone();
        Arc::new(move |address| {
            let world = world.clone();
            Box::pin(async move { world.dial(address) })
        })
    }

    fn dial(&self, address: String) -> Result<Box<dyn Stream>, String> {
        lock(&self.0).dialled.push(address.clone());
        if !lock(&self.0).members.contains_key(&address) {
            return Err("connection refused".to_owned());
        }
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(self.clone().serve(address, far));
        Ok(Box::new(near))
    }

    async fn serve(self, address: String, mut stream: DuplexStream) {
        let mut input = Vec::new();
        while stream.read_buf(&mut input).await.is_ok_and(|count| count > 0) {
            while let Ok((request, length)) = protocol::decode::<Numbered<Request>>(&input, 1 << 20) {
                input.drain(..length);
                let Some(said) = self.say(&address, &request.body) else { return };
                let mut output = Vec::new();
                match said {
                    Said::Reply(reply) => {
                        protocol::encode(&Numbered { number: request.number, body: reply }, &mut output);
                    }
                    Said::Bytes(bytes) => output.extend_from_slice(bytes),
                    Said::Nothing => {}
                }
                if stream.write_all(&output).await.is_err() {
                    return;
                }
            }
        }
    }

    fn say(&self, address: &str, ask: &Request) -> Option<Said> {
        let mut inner = lock(&self.0);
        let leader = NodeId::new(inner.leader);
        let addresses =
            inner.members.iter().map(|(address, (id, _))| (NodeId::new(*id).unwrap(), address.clone()));
        let addresses: Vec<_> = addresses.collect();
        let (id, says) = inner.members.get_mut(address)?;
        let member = Member::from(NodeId::new(*id).unwrap());
        Some(Said::Reply(match ask {
            Request::Identify => {
                Response::Identity(Who { member, cluster: None, founders: vec![], addresses })
            }
            Request::Status => Response::Status(status(member, leader)),
            ask => {
                let said = says(ask);
                inner.asked.push((address.to_owned(), ask.clone()));
                return said;
            }
        }))
    }

    fn asked(&self) -> Vec<String> {
        lock(&self.0).asked.iter().map(|(address, _)| address.clone()).collect()
    }

    /// The commands that the members were asked to apply, in order, each with its number in its session.
    fn commands(&self) -> Vec<(u64, Vec<u8>)> {
        let inner = lock(&self.0);
        let commands = inner.asked.iter().filter_map(|(_, ask)| in_session(ask));
        commands.collect()
    }
}

fn status(member: Member, leader: Option<NodeId>) -> NodeStatus {
    NodeStatus {
        cluster: ClusterId(1),
        member,
        phase: NodePhase::Running,
        role: if leader == Some(member.id) { RoleKind::Leader } else { RoleKind::Follower },
        kind: MemberKind::Voter,
        term: Term::new(1),
        vote: None,
        leader,
        last: LogId::ZERO,
        durable: LogId::ZERO,
        committed: Index::ZERO,
        applied: Index::ZERO,
        snapshot: LogId::ZERO,
        configured: LogId::ZERO,
        space: Space::Free,
    }
}

fn in_session(ask: &Request) -> Option<(u64, Vec<u8>)> {
    let Request::Ask { ask: Ask::Command(payload), .. } = ask else { return None };
    match Command::decode(payload).unwrap() {
        Command::InSession { sequence, command, .. } => Some((sequence, command.to_vec())),
        _ => None,
    }
}

fn reply(answer: machine::Answer) -> Option<Said> {
    Some(Said::Reply(Answer::Applied { id: LogId::new(1, 1), answer }.into()))
}

fn read(index: Index, answer: Vec<u8>) -> Response {
    Answer::Read { index, until: None, answer }.into()
}

/// A healthy member: opens sessions, and answers each command with its own bytes.
fn well(ask: &Request) -> Option<Said> {
    let Request::Ask { ask: Ask::Command(payload), .. } = ask else {
        return Some(Said::Reply(read(Index::ZERO, b"read".to_vec())));
    };
    match Command::decode(payload).unwrap() {
        Command::Register => reply(machine::Answer::Opened(SessionId(7))),
        Command::Plain(command) | Command::InSession { command, .. } => {
            reply(machine::Answer::Applied(command.into()))
        }
        Command::Close { .. } => reply(machine::Answer::Closed),
        Command::KeepAlive { .. } => reply(machine::Answer::Alive),
    }
}

fn refused(code: &str, retry: bool, leader: Option<(u64, &str)>) -> Option<Said> {
    let leader = leader.map(|(id, address)| (NodeId::new(id).unwrap(), Some(address.to_owned())));
    let refused = Refused { code: code.to_owned(), text: format!("{code}: do something"), retry, leader };
    Some(Said::Reply(Response::refused(refused)))
}

#[tokio::test]
async fn the_leader_is_found_from_any_member_and_asked_from_then_on() {
    let world = World::led_by(2).member(1, well).member(2, well).member(3, well);
    let client = world.client(&["m9", "m3"]);
    for number in 1..=3_u8 {
        assert_eq!(&*client.command(&[number]).await.unwrap(), [number]);
    }
    assert!(world.asked().iter().all(|address| address == "m2"), "{:?}", world.asked());
    assert_eq!(world.commands(), [(1, vec![1]), (2, vec![2]), (3, vec![3])]);
    assert_eq!(lock(&world.0).dialled, ["m9", "m3", "m2"]);
}

#[tokio::test]
async fn a_member_that_says_who_leads_is_believed_at_once() {
    let world = World::led_by(0)
        .member(1, |_: &Request| refused("not_leader", true, Some((2, "m2"))))
        .member(2, well);
    let client = world.client(&["m1"]);
    assert_eq!(&*client.command_once(b"x").await.unwrap(), b"x");
    assert_eq!(world.asked(), ["m1", "m2"]);
}

#[tokio::test]
async fn a_client_goes_where_the_leader_has_gone_without_a_request_that_fails() {
    let world = World::led_by(1).member(1, well).member(2, well);
    let client = Client::with_dialler(
        ["m1".to_owned()],
        world.dialler(),
        ClientOptions { heartbeat: Duration::from_millis(5), ..ClientOptions::default() },
    );
    let client = client.unwrap();
    client.command_once(b"x").await.unwrap();
    lock(&world.0).leader = 2;
    let moved = async {
        while world.asked().last().unwrap() != "m2" {
            client.command_once(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), moved).await.is_ok(), "{:?}", world.asked());
}

#[tokio::test]
async fn after_a_broken_connection_the_same_command_comes_under_the_same_number() {
    let mut breaks = 2;
    let world = World::led_by(1).member(1, move |ask: &Request| {
        if in_session(ask).is_some() && breaks > 0 {
            breaks -= 1;
            return None;
        }
        well(ask)
    });
    let client = world.client(&["m1"]);
    assert_eq!(&*client.command(b"x").await.unwrap(), b"x");
    assert_eq!(world.commands(), vec![(1, b"x".to_vec()); 3]);
    client.command(b"y").await.unwrap();
    assert_eq!(world.commands().last().unwrap(), &(2, b"y".to_vec()));
}

#[tokio::test]
async fn whatever_leaves_the_outcome_open_is_sent_again_within_a_session() {
    let mut troubles = vec![
        Said::Reply(Answer::Unknown.into()),
        Said::Reply(Answer::Unanswered(LogId::new(1, 3)).into()),
        Said::Nothing,
        refused("busy", true, None).unwrap(),
        reply(machine::Answer::TooManyPending).unwrap(),
    ];
    let count = troubles.len();
    let world = World::led_by(1).member(1, move |ask: &Request| match in_session(ask) {
        Some(_) if !troubles.is_empty() => troubles.pop(),
        _ => well(ask),
    });
    let client = world.client(&["m1"]);
    assert_eq!(&*client.command(b"x").await.unwrap(), b"x");
    assert_eq!(world.commands(), vec![(1, b"x".to_vec()); count + 1]);
}

#[tokio::test]
async fn without_a_session_what_may_be_done_is_never_sent_again() {
    for (says, expected) in [
        (Some(Answer::Unknown.into()), Error::Unknown(Failure::Unknown)),
        (Some(Answer::Unanswered(LogId::new(1, 3)).into()), Error::Unanswered(LogId::new(1, 3))),
        (
            None,
            Error::Unknown(Failure::Broken { address: "m1".to_owned(), reason: Broken::Closed, sent: true }),
        ),
    ] {
        let world = World::led_by(1).member(1, move |_: &Request| says.clone().map(Said::Reply));
        let error = world.client(&["m1"]).command_once(b"x").await.unwrap_err();
        assert_eq!(error, expected);
        assert!(error.may_be_done());
        assert_eq!(world.asked().len(), 1);
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_tried_again() {
    let world = World::led_by(1).member(1, |_: &Request| refused("too_large", false, None));
    let error = world.client(&["m1"]).command(b"x").await.unwrap_err();
    assert_eq!((error.code(), error.may_be_done()), ("too_large", false));
    assert_eq!(error.to_string(), "too_large: do something");
    assert_eq!(world.asked().len(), 1);
}

#[tokio::test]
async fn the_deadline_ends_it_and_says_what_went_wrong_last_and_whether_it_may_be_done() {
    let short = Duration::from_millis(60);
    let client = World::default().client(&["m1"]).with_deadline(short);
    let error = client.command(b"x").await.unwrap_err();
    assert_eq!((error.code(), error.may_be_done()), ("deadline", false));
    assert!(error.to_string().contains("m1 cannot be reached: connection refused"), "{error}");

    let world = World::led_by(1).member(1, |ask: &Request| match in_session(ask) {
        Some(_) => Some(Said::Nothing),
        None => well(ask),
    });
    let error = world.client(&["m1"]).with_deadline(short).command(b"x").await.unwrap_err();
    assert_eq!((error.code(), error.may_be_done()), ("deadline", true));
    let error = world.client(&["m1"]).with_deadline(short).query(b"q", ReadVia::Quorum).await;
    assert_eq!(error, Ok(b"read".to_vec()), "the member is well but for commands");
}

#[tokio::test]
async fn garbage_is_an_error_that_says_so() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0; 64], b"\x00\x00\x00\x00zzzz\x01"] {
        let world = World::led_by(1).member(1, move |_: &Request| Some(Said::Bytes(garbage)));
        let client = world.client(&["m1"]);
        let error = client.command_once(b"x").await.unwrap_err();
        let Error::Unknown(Failure::Broken { reason: Broken::Garbage(why), .. }) = &error else {
            panic!("{error:?}");
        };
        assert!(!matches!(why, FrameError::Incomplete { .. }), "{why:?}");
        assert!(error.to_string().contains("check that the address belongs to a member"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_to_what_was_never_asked_ends_the_connection() {
    let mut bytes = Vec::new();
    let response = Numbered { number: 77, body: Response::from(Answer::Unknown) };
    protocol::encode(&response, &mut bytes);
    let bytes: &'static [u8] = bytes.leak();
    let world = World::led_by(1).member(1, move |_: &Request| Some(Said::Bytes(bytes)));
    let error = world.client(&["m1"]).command_once(b"x").await.unwrap_err();
    let expected = Failure::Broken { address: "m1".to_owned(), reason: Broken::NeverAsked(77), sent: true };
    assert_eq!(error, Error::Unknown(expected));
}

#[tokio::test]
async fn a_session_that_expired_while_nothing_was_under_way_is_replaced_and_nothing_is_seen_of_it() {
    let mut sessions = 0;
    let world = World::led_by(1).member(1, move |ask: &Request| {
        let Request::Ask { ask: Ask::Command(payload), .. } = ask else { return well(ask) };
        match Command::decode(payload).unwrap() {
            Command::Register => {
                sessions += 1;
                reply(machine::Answer::Opened(SessionId(sessions)))
            }
            Command::InSession { session, sequence, .. } if session.0 == 1 && sequence > 1 => {
                reply(machine::Answer::SessionExpired)
            }
            _ => well(ask),
        }
    });
    let client = world.client(&["m1"]);
    client.command(b"x").await.unwrap();
    assert_eq!(&*client.command(b"y").await.unwrap(), b"y");
    assert_eq!(world.commands(), [(1, b"x".to_vec()), (2, b"y".to_vec()), (1, b"y".to_vec())]);
}

#[tokio::test]
async fn a_session_that_expired_between_two_copies_of_a_command_is_an_error_of_its_own() {
    let mut copies = 0;
    let world = World::led_by(1).member(1, move |ask: &Request| {
        if in_session(ask).is_none() {
            return well(ask);
        }
        copies += 1;
        if copies == 1 {
            Some(Said::Reply(Answer::Unknown.into()))
        } else {
            reply(machine::Answer::SessionExpired)
        }
    });
    let client = world.client(&["m1"]);
    let error = client.command(b"x").await.unwrap_err();
    assert_eq!((&error, error.may_be_done()), (&Error::SessionExpired, true));
    assert_eq!(world.commands().len(), 2);
}

#[tokio::test]
async fn commands_that_are_given_up_do_not_fill_the_session() {
    let world = World::led_by(1).member(1, |ask: &Request| match in_session(ask) {
        Some((_, command)) if command == b"never" => Some(Said::Nothing),
        _ => well(ask),
    });
    let client = world.client(&["m1"]);
    client.command(b"first").await.unwrap();
    for _ in 0..3 * ClientOptions::default().window {
        let given_up = client.with_deadline(Duration::from_millis(2)).command(b"never").await;
        assert_eq!(given_up.unwrap_err().code(), "deadline");
    }
    assert_eq!(&*client.command(b"last").await.unwrap(), b"last");
}

#[tokio::test]
async fn more_commands_than_the_session_has_room_for_wait_and_all_are_done() {
    let world = World::led_by(1).member(1, well);
    let client = world.client(&["m1"]);
    let many = (0..200_u8).map(|number| {
        let client = client.clone();
        tokio::spawn(async move { client.command(&[number]).await })
    });
    for (number, task) in many.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(task.await.unwrap().unwrap()[0] as usize, number);
    }
    let mut numbers: Vec<_> = world.commands().into_iter().map(|(number, _)| number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    assert_eq!(lock(&world.0).dialled, ["m1"], "they share one connection");
}

#[tokio::test]
async fn a_client_of_one_member_follows_no_redirection() {
    let world = World::led_by(2).member(1, well).member(2, well);
    let client = world.client(&["m2"]).at("m1");
    client.query(b"q", ReadVia::Quorum).await.unwrap();
    assert_eq!(lock(&world.0).dialled, ["m1"]);
}

#[tokio::test]
async fn a_member_that_falls_silent_is_left() {
    let world = World::led_by(1).member(1, |_: &Request| Some(Said::Nothing)).member(2, well);
    let client = world.client(&["m1", "m2"]);
    let asked = client.query(b"q", ReadVia::Quorum);
    // m1 never answers; and m2 reports m1 as the leader, until it reports another.
    let freed = async {
        while world.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        lock(&world.0).leader = 2;
    };
    let (answer, ()) = tokio::join!(asked, freed);
    assert_eq!(answer, Ok(b"read".to_vec()));
    assert_eq!(world.asked(), ["m1", "m2"]);
}

#[tokio::test]
async fn the_store_is_spoken_to_in_its_own_words() {
    let mut store = machine::Machine::new(kv::Kv::default());
    let mut index = 0;
    let world = World::led_by(1).member(1, move |ask: &Request| match ask {
        Request::Ask { ask: Ask::Command(payload), .. } => {
            index += 1;
            let body = kontiki_core::log::EntryBody::Data(payload.clone());
            let entry = kontiki_core::log::Entry { id: LogId::new(1, index), body };
            reply(store.apply(&[entry]).unwrap().remove(0).1)
        }
        Request::Ask { ask: Ask::Query { query, .. }, .. } => {
            Some(Said::Reply(read(Index::new(index), store.query(query))))
        }
        _ => None,
    });
    let client = world.client(&["m1"]);
    let kv = client.kv();
    kv.put(b"a", b"1").await.unwrap();
    assert_eq!(kv.get(b"a").await, Ok(Some(b"1".to_vec())));
    assert_eq!(kv.get(b"b").await, Ok(None));
    let swap = |expected, value| kv.compare_and_swap(b"a", expected, value);
    assert_eq!(swap(Some(b"2"), b"3").await, Ok(Swap::Differs(Some(b"1".to_vec()))));
    assert_eq!(swap(Some(b"1"), b"3").await, Ok(Swap::Done));
    let found = Scanned { entries: vec![(b"a".to_vec(), b"3".to_vec())], more: false };
    assert_eq!(kv.scan(b"", None, 9).await, Ok(found));
    assert_eq!((kv.delete(b"a").await, kv.delete(b"a").await), (Ok(true), Ok(false)));
    let too_long = |part, limit| Err(Error::TooLong { part, length: limit + 1, limit });
    assert_eq!(kv.put(&[0; kv::MAX_KEY + 1], b"").await, too_long(Part::Key, kv::MAX_KEY));
    assert_eq!(kv.put(b"a", &vec![0; kv::MAX_VALUE + 1]).await, too_long(Part::Value, kv::MAX_VALUE));
    client.close().await;
}
