//! The admin port over real sockets, in front of a scripted member.

mod fake;
mod member;
mod page;

use fake::{Fake, Heard, PATIENCE, TOKEN, ask, id, open, refused, request, say};
use kontiki_core::membership::{Change, MemberKind};
use kontiki_core::status::{RoleKind, Space};
use kontiki_core::types::{Incarnation, Index, LogId, Member, NodeId};
use kontiki_net_tokio::admin::{self, Admin, AdminError, AdminOptions, Token};
use kontiki_net_tokio::protocol::{Answer, Ask, NodePhase, Range, Request, Response};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const GUARDED: [&str; 8] = [
    "GET /info",
    "GET /members",
    "GET /logs",
    "GET /metrics",
    "GET /status.json",
    "POST /commit",
    "POST /save",
    "POST /transfer",
];

#[tokio::test]
async fn a_request_without_the_token_gets_nothing() {
    let (fake, admin) = open(|_| {}).await;
    let wrong = [
        vec![],
        vec!["authorization:".to_owned()],
        vec!["authorization: Bearer".to_owned()],
        vec!["authorization: Bearer ".to_owned()],
        vec![format!("authorization: Bearer {TOKEN}x")],
        vec![format!("authorization: Bearer {}", &TOKEN[1..])],
        vec![format!("authorization: Basic {TOKEN}")],
        vec![format!("authorization: {TOKEN}")],
        vec![format!("authorization: Bearer {TOKEN}"), "authorization: Bearer other".to_owned()],
        vec![format!("x-auth: {TOKEN}")],
    ];
    for line in GUARDED.into_iter().chain(["POST /members"]) {
        for headers in &wrong {
            let headers: Vec<_> = headers.iter().map(String::as_str).collect();
            let heard = request(&admin, line, &headers, b"").await;
            assert_eq!((heard.status, &*heard.code()), (401, "unauthorized"), "{line} {headers:?}");
            assert!(heard.has("www-authenticate: bearer realm=\"kontiki\""), "{heard:?}");
        }
    }
    let in_query = request(&admin, &format!("GET /info?auth={TOKEN}"), &[], b"").await;
    assert_eq!(in_query.status, 401, "a token in a URL ends up in logs");
    assert_eq!(fake.asked(), [], "and the member has heard of nothing");
    let metrics = ask(&admin, "GET /metrics", "").await;
    assert!(metrics.body.contains("kontiki_refused_total{code=\"unauthorized\"} 91\n"), "{}", metrics.body);
}

#[tokio::test]
async fn a_request_with_the_token_is_served_however_the_header_is_written() {
    let (_fake, admin) = open(|_| {}).await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let header = format!("authorization: {scheme} {TOKEN}");
        assert_eq!(request(&admin, "GET /info", &[&header], b"").await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn info_shows_everything_of_the_member() {
    let (_fake, admin) = open(|_| {}).await;
    let info = ask(&admin, "GET /info", "").await.json();
    for (name, value) in [
        ("id", json!(1)),
        ("incarnation", json!("18446744073709551615")),
        ("cluster_id", json!("6b6f6e74696b69")),
        ("phase", json!("running")),
        ("phase_reason", json!(null)),
        ("role", json!("leader")),
        ("kind", json!("voter")),
        ("term", json!(4)),
        ("vote", json!(1)),
        ("leader", json!(1)),
        ("last", json!({ "term": 4, "index": 1290 })),
        ("durable", json!({ "term": 4, "index": 1289 })),
        ("commit_index", json!(1288)),
        ("applied_index", json!(1288)),
        ("snapshot", json!({ "term": 3, "index": 1000 })),
        ("configured", json!({ "term": 2, "index": 7 })),
        ("options", json!({ "raft": { "pre_vote": true } })),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(info[name], value, "{name}");
    }
    assert_eq!(info["members"].as_array().map(Vec::len), Some(3));
    assert_eq!(info["counters"]["bad_frames"], 0);
}

#[tokio::test]
async fn members_have_their_lag_and_last_contact() {
    let (fake, admin) = open(|_| {}).await;
    let members = ask(&admin, "GET /members", "").await.json();
    let third = json!({
        "id": 3, "incarnation": "3", "address": "10.0.0.3:7000", "kind": "learner", "is_leader": false,
        "last_contact_ms": 4200, "match_index": 56, "lag": 1234, "pause_reason": "disk_full",
    });
    assert_eq!(members["members"][2], third);
    fake.reply(refused("busy", true));
    assert_eq!(ask(&admin, "GET /members", "").await.status, 503);
}

#[tokio::test]
async fn logs_are_bounded_and_keep_their_own_terms() {
    let (fake, admin) = open(|_| {}).await;
    let log = ask(&admin, "GET /logs?from=1287&to=1289", "").await.json();
    let entries = json!([
        { "index": 1287, "term": 4, "committed": true, "kind": "blank" },
        { "index": 1288, "term": 4, "committed": true, "kind": "command", "command_base64": "/wA=" },
        { "index": 1289, "term": 4, "committed": false, "kind": "members", "members": "{1 2}+{3}" },
    ]);
    assert_eq!(log, json!({ "entries": entries, "next": null }));
    assert_eq!(fake.asked(), [Request::logs(Range::Between(Index::new(1286), Index::new(1289)))]);
    assert_eq!(ask(&admin, "GET /logs", "").await.json()["entries"].as_array().map(Vec::len), Some(20));
    assert_eq!(
        ask(&admin, "GET /logs?n=1000", "").await.json()["entries"].as_array().map(Vec::len),
        Some(1000)
    );
    fake.asked();
    for wrong in ["n=0", "n=1001", "n=ten", "n=", "n=-1", "from=3", "from=3&to=2", "k=3", "n=1&n=2", "n=%00"]
    {
        let heard = ask(&admin, &format!("GET /logs?{wrong}"), "").await;
        assert_eq!((heard.status, &*heard.code()), (400, "bad_request"), "{wrong}");
    }
    assert_eq!(fake.asked(), []);
}

#[tokio::test]
async fn a_command_is_committed_as_it_is_sent() {
    let (fake, admin) = open(|_| {}).await;
    let token = format!("authorization: Bearer {TOKEN}");
    let octets = [&*token, "content-type: application/octet-stream"];
    let done = json!({ "index": 1291, "term": 4, "answer_base64": "AP8h" });
    assert_eq!(request(&admin, "POST /commit", &octets, &[0x00, 0xff]).await.json(), done);
    assert_eq!(ask(&admin, "POST /commit", "{\"command_base64\":\"AP8=\"}").await.json(), done);
    assert_eq!(fake.asked().len(), 2);
    for wrong in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"command_base64\":\"*\"}",
        "{\"command_base64\":\"\"}",
        "{\"command_base64\":7}",
        "{\"command_base64\":\"AP8=\",\"more\":1}",
        "\u{0}\u{1}",
    ] {
        let heard = ask(&admin, "POST /commit", wrong).await;
        assert_eq!((heard.status, &*heard.code()), (400, "bad_request"), "{wrong}");
    }
    assert_eq!(request(&admin, "POST /commit", &octets, b"").await.status, 400, "seed: no data");
    let form = [&*token, "content-type: application/x-www-form-urlencoded"];
    assert_eq!(request(&admin, "POST /commit", &form, b"x=1").await.code(), "unsupported_media_type");
    assert_eq!(request(&admin, "POST /commit", &[&token], b"x").await.status, 415);
    assert_eq!(fake.asked(), []);
}

#[tokio::test]
async fn a_snapshot_is_taken_and_leadership_handed_over() {
    let (fake, admin) = open(|_| {}).await;
    assert_eq!(ask(&admin, "POST /save", "").await.json(), json!({ "index": 1288, "term": 4 }));
    assert_eq!(ask(&admin, "POST /transfer", "{\"to\":2}").await.json(), json!({ "transferred": true }));
    assert_eq!(ask(&admin, "POST /transfer", "").await.status, 200);
    assert_eq!(
        fake.asked(),
        [Ask::Snapshot, Ask::Transfer { to: Some(id(2)) }, Ask::Transfer { to: None }].map(Request::from)
    );
    for wrong in ["{\"to\":0}", "{\"to\":-1}", "{\"to\":\"2\"}", "{\"too\":2}", "2", "{\"to\":2}x"] {
        assert_eq!(ask(&admin, "POST /transfer", wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(fake.asked(), []);
}

#[tokio::test]
async fn members_come_and_go() {
    let (fake, admin) = open(|_| {}).await;
    let newcomer = |incarnation| Member::new(id(4), Incarnation(incarnation));
    let expected = Some(LogId::new(2, 7));
    for (body, expected, change) in [
        ("{\"add\":{\"id\":4,\"address\":\"a:1\"}}", None, Change::AddVoter(newcomer(44))),
        (
            "{\"add\":{\"id\":4,\"address\":\"a:1\",\"as\":\"learner\"}}",
            None,
            Change::AddLearner(newcomer(44)),
        ),
        (
            "{\"add\":{\"id\":4,\"incarnation\":\"9\",\"address\":\"a:1\",\"as\":\"witness\"}}",
            None,
            Change::AddWitness(newcomer(9)),
        ),
        ("{\"remove\":3,\"expected\":{\"term\":2,\"index\":7}}", expected, Change::Remove(id(3))),
        ("{\"promote\":3}", None, Change::Promote(id(3))),
        ("{\"demote\":2}", None, Change::Demote(id(2))),
    ] {
        let heard = ask(&admin, "POST /members", body).await;
        assert_eq!(heard.json(), json!({ "index": 1291, "term": 4 }), "{body}");
        let addresses = if body.contains("add") {
            vec![(id(4), "a:1".to_owned())]
        } else {
            Vec::<(NodeId, String)>::new()
        };
        assert_eq!(
            fake.asked(),
            [Request::Ask {
                ask: Ask::Reconfigure { expected, changes: vec![change], force: false },
                addresses
            }],
            "{body}"
        );
    }
    for (body, status, code) in [
        ("", 400, "bad_request"),
        ("{}", 400, "bad_request"),
        ("{\"remove\":1,\"demote\":2}", 400, "bad_request"),
        ("{\"remove\":0}", 400, "bad_request"),
        ("{\"force\":true}", 400, "bad_request"),
        ("{\"cancel\":false}", 400, "bad_request"),
        ("{\"cancel\":true,\"force\":true}", 400, "bad_request"),
        ("{\"cancel\":true,\"remove\":3}", 400, "bad_request"),
        ("{\"evict\":3}", 400, "bad_request"),
        ("{\"add\":{\"id\":4,\"address\":\"\"}}", 400, "bad_request"),
        ("{\"add\":{\"id\":4}}", 400, "bad_request"),
        ("{\"add\":{\"id\":4,\"address\":\"a:1\",\"as\":\"king\"}}", 400, "bad_request"),
        ("{\"add\":{\"id\":4,\"address\":\"nowhere:1\"}}", 503, "unreachable"),
        ("{\"add\":{\"id\":5,\"address\":\"a:1\"}}", 409, "wrong_member"),
    ] {
        let heard = ask(&admin, "POST /members", body).await;
        assert_eq!((heard.status, &*heard.code()), (status, code), "{body}");
        assert_eq!(fake.asked(), [], "{body}");
    }
}

#[tokio::test]
async fn a_change_is_forced_or_cancelled() {
    let (fake, admin) = open(|_| {}).await;
    assert_eq!(ask(&admin, "POST /members", "{\"remove\":3,\"force\":true}").await.status, 200);
    let (changes, addresses) = (vec![Change::Remove(id(3))], Vec::new());
    assert_eq!(
        fake.asked(),
        [Request::Ask { ask: Ask::Reconfigure { expected: None, changes, force: true }, addresses }]
    );
    let cancelled = ask(&admin, "POST /members", "{\"cancel\":true}").await;
    assert_eq!((cancelled.status, cancelled.json()), (200, json!({ "cancelled": true })));
    assert_eq!(fake.asked(), [Request::from(Ask::CancelChange)]);
    fake.reply(refused("nothing_to_cancel", false));
    let refused = ask(&admin, "POST /members", "{\"cancel\":true}").await;
    assert_eq!((refused.status, &*refused.code()), (409, "nothing_to_cancel"));
}

#[tokio::test]
async fn each_outcome_has_its_status_and_says_what_to_do() {
    let (fake, admin) = open(|_| {}).await;
    for (reply, status, code) in [
        (refused("not_leader", true), 503, "not_leader"),
        (refused("busy", true), 503, "busy"),
        (refused("outdated", false), 409, "outdated"),
        (refused("change_in_flight", true), 409, "change_in_flight"),
        (refused("too_large", false), 413, "too_large"),
        (Answer::Unknown.into(), 504, "unknown"),
        (Answer::NotCaughtUp(id(4)).into(), 504, "not_caught_up"),
        (Answer::Cancelled.into(), 409, "cancelled"),
        (Answer::NotTransferred.into(), 504, "not_transferred"),
        (Response::Members(Vec::new()), 500, "internal"),
    ] {
        fake.reply(reply);
        let heard = ask(&admin, "POST /save", "").await;
        assert_eq!((heard.status, &*heard.code()), (status, code));
        assert_eq!(heard.has("retry-after: 1"), status == 503, "{heard:?}");
    }
    fake.reply(refused("not_leader", true));
    let leader = ask(&admin, "POST /save", "").await.json()["error"]["leader"].clone();
    assert_eq!(leader, json!({ "id": 2, "address": "127.0.0.1:7002" }));
    fake.reply(Answer::Unanswered(LogId::new(4, 9)));
    let heard = ask(&admin, "POST /commit", "{\"command_base64\":\"AP8=\"}").await;
    assert_eq!((heard.status, &heard.json()["index"]), (200, &json!(9)), "it is committed, after all");
}

#[tokio::test]
async fn nothing_is_changed_by_a_get() {
    let (fake, admin) = open(|_| {}).await;
    for line in ["GET /commit", "GET /save", "GET /transfer", "PUT /commit", "DELETE /members", "POST /info"]
    {
        let heard = ask(&admin, line, "{\"command_base64\":\"AP8=\"}").await;
        assert_eq!((heard.status, &*heard.code()), (405, "method_not_allowed"), "{line}");
        assert!(heard.head.to_lowercase().contains("\r\nallow: "), "{heard:?}");
    }
    assert_eq!(fake.asked(), []);
}

#[tokio::test]
async fn what_there_is_not_is_not_found_and_what_there_is_is_listed() {
    let (_fake, admin) = open(|_| {}).await;
    let list = request(&admin, "GET /", &[], b"").await;
    let listed = |value: &serde_json::Value| value["endpoints"].as_array().map(Vec::len);
    assert_eq!((list.status, listed(&list.json())), (200, Some(12)));
    for path in ["/nowhere", "/info/", "//info", "/%00", "/..%2f", "/favicon.ico"] {
        let heard = request(&admin, &format!("GET {path}"), &[], b"").await;
        assert_eq!((heard.status, &*heard.code()), (404, "not_found"), "{path}");
        assert_eq!(listed(&heard.json()["error"]), Some(12), "{path}");
    }
}

#[tokio::test]
async fn health_says_whether_the_member_is_of_use_and_why_not() {
    let (fake, admin) = open(|_| {}).await;
    let health = async |path: &str| request(&admin, &format!("GET /health/{path}"), &[], b"").await;
    assert_eq!((health("live").await.status, health("ready").await.status), (200, 200));
    fake.change(|status| status.space = Space::GroupFull);
    let heard = health("ready").await;
    assert_eq!(heard.status, 200, "it serves reads");
    assert!(heard.body.contains("no majority of the voters has space"), "{heard:?}");
    fake.change(|status| (status.role, status.leader) = (RoleKind::Follower, None));
    let heard = health("ready").await;
    assert_eq!((heard.status, &*heard.code()), (503, "not_ready"));
    assert!(heard.body.contains("no leader") && heard.has("retry-after: 1"), "{heard:?}");
    assert_eq!(health("live").await.status, 200, "a restart would not help");
    fake.change(|status| status.phase = NodePhase::Halted("the disk failed".to_owned()));
    assert_eq!((health("live").await.code(), health("live").await.status), ("not_alive".to_owned(), 503));
    fake.stick();
    assert_eq!(health("live").await.status, 503, "answered though the driver is stuck");
}

#[tokio::test]
async fn health_and_metrics_need_the_token_where_that_is_wished() {
    let statuses = async |admin: &Admin| {
        let mut statuses = Vec::new();
        for path in ["/health/live", "/health/ready", "/metrics"] {
            statuses.push(request(admin, &format!("GET {path}"), &[], b"").await.status);
        }
        statuses
    };
    let (_fake, usual) = open(|_| {}).await;
    assert_eq!(statuses(&usual).await, [200, 200, 401]);
    let (_fake, closed) = open(|options| options.open_health = false).await;
    assert_eq!(statuses(&closed).await, [401, 401, 401]);
    let (_fake, opened) = open(|options| options.open_metrics = true).await;
    assert_eq!(statuses(&opened).await, [200, 200, 200]);
}

#[tokio::test]
async fn metrics_come_even_when_the_driver_is_stuck() {
    let (fake, admin) = open(|_| {}).await;
    let heard = ask(&admin, "GET /metrics", "").await;
    assert!(heard.has("content-type: text/plain; version=0.0.4; charset=utf-8"), "{heard:?}");
    assert!(heard.body.contains("\nkontiki_driver_answers 1\n"), "{}", heard.body);
    assert!(heard.body.contains("\nkontiki_member_lag_entries{member=\"3\"} 1234\n"), "{}", heard.body);
    fake.stick();
    let heard = ask(&admin, "GET /metrics", "").await;
    assert!(heard.body.contains("\nkontiki_driver_answers 0\n"), "{}", heard.body);
    assert_eq!(ask(&admin, "GET /info", "").await.json()["members"], json!(null));
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() {
    let (fake, admin) = open(|options| options.request_timeout = Duration::from_millis(200)).await;
    fake.stick();
    for line in ["GET /members", "POST /save"] {
        let heard = ask(&admin, line, "").await;
        assert_eq!((heard.status, &*heard.code()), (504, "timeout"), "{line}");
        assert_eq!(heard.body.contains("may still take effect"), line == "POST /save", "{heard:?}");
    }
    let half = format!(
        "POST /commit HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 9\r\nconnection: close\r\n\r\nhalf"
    );
    assert_eq!(
        say(&admin, half.as_bytes()).await.map(|heard| heard.status),
        Some(504),
        "a body that never ends"
    );
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let (fake, admin) = open(|options| options.max_body_bytes = 100).await;
    let body = vec![b' '; 101];
    let token = format!("authorization: Bearer {TOKEN}");
    for line in ["POST /commit", "POST /members", "POST /transfer"] {
        let heard = request(&admin, line, &[&token, "content-type: application/octet-stream"], &body).await;
        assert_eq!((heard.status, &*heard.code()), (413, "too_large"), "{line}");
    }
    let claim = format!(
        "POST /commit HTTP/1.1\r\nhost: a\r\n{token}\r\ncontent-type: application/octet-stream\r\ncontent-length: 18446744073709551615\r\nconnection: close\r\n\r\n"
    );
    assert!(say(&admin, claim.as_bytes()).await.is_none_or(|heard| heard.status >= 400));
    let chunked = format!(
        "POST /commit HTTP/1.1\r\nhost: a\r\n{token}\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n80\r\n{}\r\n0\r\n\r\n",
        " ".repeat(128)
    );
    assert_eq!(say(&admin, chunked.as_bytes()).await.map(|heard| heard.status), Some(413));
    let head = format!("GET /info HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let heard = say(&admin, head.as_bytes()).await;
    assert!(heard.is_none_or(|heard| heard.status == 431), "a head of a megabyte");
    assert_eq!(fake.asked(), []);
}

#[tokio::test]
async fn garbage_does_not_disturb_other_clients() {
    let (fake, admin) = open(|options| options.header_timeout = Duration::from_millis(100)).await;
    for garbage in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"KONTIKI\x01\xff\xff\xff\xff\xff\xff",
        b"GET /info\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /info HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /commit HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"",
        b"GET /in",
    ] {
        let heard = say(&admin, garbage).await;
        assert!(heard.is_none_or(|heard| heard.status >= 400), "{garbage:?}");
    }
    assert_eq!(ask(&admin, "GET /info", "").await.status, 200);
    assert!(fake.asked().iter().all(|asked| *asked == Request::Members));
}

#[tokio::test]
async fn a_silent_client_is_cut_off_and_makes_room() {
    let (_fake, admin) = open(|options| {
        options.max_connections = 2;
        options.header_timeout = Duration::from_millis(200);
    })
    .await;
    let mut silent = TcpStream::connect(admin.local_addr()).await.expect("it listens");
    let mut idle = TcpStream::connect(admin.local_addr()).await.expect("it listens");
    idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
    assert_eq!(ask(&admin, "GET /info", "").await.status, 200, "once there is room for a third");
    let mut rest = Vec::new();
    for stream in [&mut silent, &mut idle] {
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "both are cut off");
    }
}

/// Several times as many clients as there are slots, each with half a request; each that is closed is
/// replaced at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_do_not_block_health_checks() {
    let (_fake, admin) = open(|options| {
        options.max_connections = 8;
        options.header_timeout = Duration::from_secs(600);
    })
    .await;
    let at = admin.local_addr();
    let slow = move || async move {
        let mut stream = TcpStream::connect(at).await.expect("it listens");
        // It may be closed meanwhile: the others do the same.
        let _ = stream.write_all(b"GET /health/live HTTP/1.1\r\nx-slow: ").await;
        stream
    };
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(slow().await);
    }
    let hangs_up = async |stream: &mut TcpStream| {
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "the oldest gives way");
    };
    hangs_up(&mut held[0]).await;
    let mut attack = tokio::task::JoinSet::new();
    for mut stream in held {
        attack.spawn(async move {
            loop {
                if matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)) {
                    stream = slow().await;
                }
            }
        });
    }
    for line in ["GET /health/live", "GET /metrics", "GET /health/ready"].repeat(3) {
        assert_eq!(ask(&admin, line, "").await.status, 200, "{line}");
    }
    attack.shutdown().await;
}

#[tokio::test]
async fn nothing_is_kept_framed_or_guessed() {
    let (_fake, admin) = open(|_| {}).await;
    let all: [Heard; 4] = [
        request(&admin, "GET /", &[], b"").await,
        request(&admin, "GET /status", &[], b"").await,
        request(&admin, "GET /nowhere", &[], b"").await,
        ask(&admin, "GET /info", "").await,
    ];
    for heard in &all {
        for line in ["cache-control: no-store", "x-content-type-options: nosniff", "x-frame-options: deny"] {
            assert!(heard.has(line), "{line}: {heard:?}");
        }
        let head = heard.head.to_lowercase();
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        assert!(head.contains("frame-ancestors 'none'") && !head.contains("access-control"), "{head}");
    }
}

#[tokio::test]
async fn the_port_is_not_open_to_other_machines_by_mistake() {
    let token = || Token::new(TOKEN).expect("a token");
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = admin::serve(Fake::new(), AdminOptions::new(everywhere, token())).await;
    assert!(matches!(refused, Err(AdminError::Exposed(_))), "{refused:?}");
    let allowed = AdminOptions { allow_insecure: true, ..AdminOptions::new(everywhere, token()) };
    let admin = admin::serve(Fake::new(), allowed).await.expect("it is wished for");
    let taken = SocketAddr::from(([127, 0, 0, 1], admin.local_addr().port()));
    let refused = admin::serve(Fake::new(), AdminOptions::new(taken, token())).await;
    assert!(matches!(refused, Err(AdminError::Bind(..))), "{refused:?}");
    let nothing = AdminOptions { max_connections: 0, ..AdminOptions::new(taken, token()) };
    let refused = admin::serve(Fake::new(), nothing).await;
    assert!(matches!(refused, Err(AdminError::Zero("max_connections"))), "{refused:?}");
}

#[tokio::test]
async fn shutting_it_down_closes_everything() {
    let (_fake, admin) = open(|_| {}).await;
    let at = admin.local_addr();
    let mut idle = TcpStream::connect(at).await.expect("it listens");
    idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    tokio::time::timeout(PATIENCE, admin.shutdown()).await.expect("it ends");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("closed");
    assert!(TcpStream::connect(at).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn what_the_page_shows_has_members_and_events() {
    let (fake, admin) = open(|_| {}).await;
    fake.change(|status| status.kind = MemberKind::Learner);
    let shown = ask(&admin, "GET /status.json", "").await.json();
    assert_eq!(shown["members"].as_array().map(Vec::len), Some(3));
    assert!(shown["now_ms"].as_u64().is_some_and(|now| now > 1_700_000_000_000));
    let texts: Vec<_> =
        shown["events"].as_array().expect("a list").iter().map(|it| it["text"].clone()).collect();
    let told = [
        "this member is running",
        "this member was elected leader (term 4)",
        "this member is a learner of its group: it does not vote",
    ];
    assert_eq!(texts, told);
}
