//! A scripted member, and a client that sends arbitrary bytes.

use kontiki_core::machine::{self, Command};
use kontiki_core::membership::MemberKind;
use kontiki_core::status::{PauseReason, RoleKind, Space};
use kontiki_core::types::{ClusterId, Incarnation, Index, LogId, Member, NodeId, Payload, Term};
use kontiki_net_tokio::admin::{self, Admin, AdminBackend, AdminOptions, BoxFuture, Token};
use kontiki_net_tokio::metrics::{Metrics, MetricsSample};
use kontiki_net_tokio::protocol::{
    Answer, Ask, Content, LogEntry, MemberStatus, NodePhase, NodeStatus, Range, Refused, Request, Response,
    Who,
};
use serde_json::{Value, json};
use std::future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const TOKEN: &str = "0f9d3f1f6fd0a7c2b45e";

pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

/// A scripted leader of a group of three.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Inner>);

struct Inner {
    status: Mutex<NodeStatus>,
    /// The scripted replies, used instead of the default ones.
    reply: Mutex<Option<Response>>,
    asked: Mutex<Vec<Request>>,
    is_stuck: Mutex<bool>,
    metrics: Metrics,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds it")
}

impl Fake {
    pub(crate) fn new() -> Self {
        let status = NodeStatus {
            cluster: ClusterId(0x006b_6f6e_7469_6b69),
            member: Member::new(id(1), Incarnation(u64::MAX)),
            phase: NodePhase::Running,
            role: RoleKind::Leader,
            kind: MemberKind::Voter,
            term: Term::new(4),
            vote: Some(id(1)),
            leader: Some(id(1)),
            last: LogId::new(4, 1290),
            durable: LogId::new(4, 1289),
            committed: Index::new(1288),
            applied: Index::new(1288),
            snapshot: LogId::new(3, 1000),
            configured: LogId::new(2, 7),
            space: Space::Free,
        };
        let fake = Self(Arc::new(Inner {
            status: Mutex::new(status),
            reply: Mutex::new(None),
            asked: Mutex::new(Vec::new()),
            is_stuck: Mutex::new(false),
            metrics: Metrics::default(),
        }));
        fake.change(|_| {});
        fake
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut NodeStatus)) {
        let mut status = lock(&self.0.status);
        change(&mut status);
        self.0.metrics.status(&status);
    }

    /// Scripts the next reply.
    pub(crate) fn reply(&self, reply: impl Into<Response>) {
        *lock(&self.0.reply) = Some(reply.into());
    }

    /// Stops answering.
    pub(crate) fn stick(&self) {
        *lock(&self.0.is_stuck) = true;
    }

    /// Returns the requests received since the last call.
    pub(crate) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.0.asked))
    }

    fn usual(&self, request: &Request) -> Response {
        match request {
            Request::Members => Response::Members(members()),
            Request::Ask { ask, .. } => usual(ask),
            Request::Identify | Request::Introduce(_) | Request::Status => refused("busy", true),
        }
    }
}

fn usual(ask: &Ask) -> Response {
    let id_of_next = LogId::new(4, 1291);
    let answer = match ask {
        Ask::Command(bytes) => match Command::decode(bytes) {
            Ok(Command::Plain(command)) => Answer::Applied {
                id: id_of_next,
                answer: machine::Answer::Applied(Payload::from(&[command, b"!"].concat()[..])),
            },
            _ => Answer::Applied { id: id_of_next, answer: machine::Answer::Garbled },
        },
        Ask::Entries { range, .. } => Answer::Entries(entries(*range)),
        Ask::Reconfigure { .. } => Answer::Reconfigured(id_of_next),
        Ask::CancelChange => Answer::Cancelled,
        Ask::Transfer { .. } => Answer::Transferred,
        Ask::Snapshot => Answer::Snapshot(LogId::new(4, 1288)),
        Ask::Query { .. } => return refused("busy", true),
    };
    answer.into()
}

pub(crate) fn refused(code: &str, retry: bool) -> Response {
    let leader = Some((id(2), Some("127.0.0.1:7002".to_owned())));
    Response::refused(Refused { code: code.to_owned(), text: format!("{code}: in words"), retry, leader })
}

fn members() -> Vec<MemberStatus> {
    let member = |number, kind, contact, lag| MemberStatus {
        member: Member::new(id(number), Incarnation(number)),
        address: Some(format!("10.0.0.{number}:7000")),
        kind,
        leads: number == 1,
        last_contact_ms: contact,
        matched: Some(Index::new(1290 - lag)),
        lag: Some(lag),
        paused: (number == 3).then_some(PauseReason::DiskFull),
    };
    vec![
        member(1, MemberKind::Voter, Some(0), 0),
        member(2, MemberKind::Voter, Some(37), 2),
        member(3, MemberKind::Learner, Some(4200), 1234),
    ]
}

fn entries(range: Range) -> Vec<LogEntry> {
    let (first, last) = match range {
        Range::First(count) => (1, count),
        Range::Last(count) => (1291 - count.min(1290), 1290),
        Range::Between(after, through) => (after.get() + 1, through.get().min(1290)),
    };
    let content = |index| match index % 3 {
        0 => Content::Blank,
        1 => Content::Command(Payload::from(&[0xff, 0x00][..])),
        _ => Content::Members("{1 2}+{3}".to_owned()),
    };
    let entry =
        |index| LogEntry { id: LogId::new(4, index), committed: index <= 1288, content: content(index) };
    (first..=last).map(entry).collect()
}

impl AdminBackend for Fake {
    fn ask(&self, request: Request) -> BoxFuture<'_, Response> {
        if *lock(&self.0.is_stuck) {
            return Box::pin(future::pending());
        }
        let reply = lock(&self.0.reply).take().unwrap_or_else(|| self.usual(&request));
        lock(&self.0.asked).push(request);
        Box::pin(future::ready(reply))
    }

    fn status(&self) -> NodeStatus {
        lock(&self.0.status).clone()
    }

    fn sample(&self) -> BoxFuture<'_, MetricsSample> {
        if *lock(&self.0.is_stuck) {
            return Box::pin(future::pending());
        }
        Box::pin(future::ready(MetricsSample::default()))
    }

    fn options(&self) -> Value {
        json!({ "raft": { "pre_vote": true } })
    }

    fn find<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Who, String>> {
        let found = match address {
            "nowhere:1" => Err("no answer at nowhere:1".to_owned()),
            _ => Ok(Who {
                member: Member::new(id(4), Incarnation(44)),
                cluster: None,
                founders: Vec::new(),
                addresses: Vec::new(),
            }),
        };
        Box::pin(future::ready(found))
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}

/// A fake with its port, on loopback.
pub(crate) async fn open(change: impl FnOnce(&mut AdminOptions)) -> (Fake, Admin) {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = AdminOptions::new(listen, Token::new(TOKEN).expect("a token"));
    change(&mut options);
    let fake = Fake::new();
    let admin = admin::serve(fake.clone(), options).await.expect("a free port");
    (fake, admin)
}

/// A response.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        assert!(self.has("content-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the code of an error, which must also have a message.
    pub(crate) fn code(&self) -> String {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{self:?}");
        error["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns whether the head has this line, in lower case.
    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.to_lowercase().lines().any(|it| it == line)
    }
}

/// A bound for any wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Sends these bytes, and reads until the port closes the connection.
pub(crate) async fn say(admin: &Admin, bytes: &[u8]) -> Option<Heard> {
    let heard = async {
        let mut stream = TcpStream::connect(admin.local_addr()).await.expect("it listens");
        // The port may close the connection before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await.expect("the connection ends");
    let heard = String::from_utf8(heard).expect("text");
    let (head, body) = heard.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Heard { status, head: head.to_owned(), body: body.to_owned() })
}

/// A request with these header lines and a body.
pub(crate) async fn request(admin: &Admin, line: &str, headers: &[&str], body: &[u8]) -> Heard {
    let mut bytes = format!("{line} HTTP/1.1\r\nhost: kontiki\r\nconnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    say(admin, &bytes).await.unwrap_or_else(|| panic!("no answer to {line}"))
}

/// A request with the right token and a JSON body.
pub(crate) async fn ask(admin: &Admin, line: &str, body: &str) -> Heard {
    let token = format!("authorization: Bearer {TOKEN}");
    request(admin, line, &[&token, "content-type: application/json"], body.as_bytes()).await
}
