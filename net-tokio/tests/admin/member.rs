//! The admin port in front of a real member: requests are understood, and the answers are true.

use crate::fake::{PATIENCE, TOKEN, ask, id, request};
use kontiki_core::kv::{Command, Kv};
use kontiki_net_tokio::admin::{self, Admin, AdminOptions, Token};
use kontiki_net_tokio::node::{Builder, Node};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use tokio::time::timeout;

async fn port(node: &Node) -> Admin {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = AdminOptions::new(listen, Token::new(TOKEN).expect("a token"));
    admin::serve(node.clone(), options).await.expect("a free port")
}

fn builder(number: u64, root: &Path) -> Builder {
    Builder::new(id(number), Kv::default)
        .directory(root.join(number.to_string()))
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// A group of one, which leads.
async fn alone(root: &Path) -> Node {
    let builder = builder(1, root).peers([(id(1), String::new())]);
    let node = builder.start().await.expect("it starts");
    timeout(PATIENCE, node.ready()).await.expect("soon").expect("it leads");
    timeout(PATIENCE, node.watch().wait_for(|status| status.leader == Some(id(1))))
        .await
        .expect("soon")
        .expect("it lives");
    node
}

#[tokio::test]
async fn a_member_is_operated_through_it() {
    let root = tempfile::tempdir().expect("a directory");
    let node = alone(root.path()).await;
    let admin = port(&node).await;
    assert_eq!(request(&admin, "GET /health/ready", &[], b"").await.status, 200);

    let put = Command::Put { key: b"colour", value: b"red" }.encode();
    let token = format!("authorization: Bearer {TOKEN}");
    let octets = [&*token, "content-type: application/octet-stream"];
    let done = request(&admin, "POST /commit", &octets, &put).await.json();
    let index = done["index"].as_u64().expect("it is committed");
    let log = ask(&admin, &format!("GET /logs?from={index}&to={index}"), "").await.json();
    let entry = &log["entries"][0];
    assert_eq!(
        (&entry["index"], &entry["kind"], &entry["committed"], &entry["term"]),
        (&json!(index), &json!("command"), &json!(true), &done["term"])
    );

    let saved = ask(&admin, "POST /save", "").await.json();
    assert!(saved["index"].as_u64() >= Some(index), "{saved}");
    let info = ask(&admin, "GET /info", "").await.json();
    assert_eq!((&info["role"], &info["members"][0]["is_leader"]), (&json!("leader"), &json!(true)));
    assert_eq!(info["options"]["replica"]["forward"], json!(true));
    assert_eq!(info["counters"]["snapshots_taken"], json!(1));
    let page = ask(&admin, "GET /metrics", "").await.body;
    for line in [
        "kontiki_driver_answers 1",
        "kontiki_role{role=\"leader\"} 1",
        "kontiki_snapshots_taken_total 1",
        "kontiki_members{kind=\"voter\"} 1",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is missing in:\n{page}");
    }
    let none = |line: &str| line.starts_with("kontiki_fsync_seconds_count") && line.ends_with(" 0");
    assert!(!page.lines().any(none), "the disk was synced:\n{page}");

    let refused = ask(&admin, "POST /transfer", "").await;
    assert_eq!((refused.status, &*refused.code()), (409, "no_successor"));
    let refused = ask(&admin, "POST /members", "{\"remove\":1}").await;
    assert_eq!((refused.status, refused.code().is_empty()), (409, false), "no voter would be left");
    admin.shutdown().await;
    node.shutdown().await;
}

#[tokio::test]
async fn the_member_at_an_address_is_asked_for_its_identity() {
    let root = tempfile::tempdir().expect("a directory");
    let node = alone(root.path()).await;
    let admin = port(&node).await;
    let seed = node.local_addr().expect("it listens").to_string();
    let newcomer = builder(2, root.path()).join(seed).start().await.expect("it starts");
    let at = newcomer.local_addr().expect("it listens");
    let wrong = format!("{{\"add\":{{\"id\":3,\"address\":\"{at}\",\"as\":\"learner\"}}}}");
    let refused = ask(&admin, "POST /members", &wrong).await;
    assert_eq!((refused.status, &*refused.code()), (409, "wrong_member"));
    timeout(PATIENCE, newcomer.watch().wait_for(|status| status.leader == Some(id(1))))
        .await
        .expect("soon")
        .expect("it lives");
    let members = timeout(PATIENCE, async {
        loop {
            let members = ask(&admin, "GET /members", "").await.json();
            if members["members"][1]["kind"] == "voter" {
                return members;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let members = members.await.expect("it catches up");
    assert_eq!(members["members"][1]["address"], json!(at.to_string()));
    let removed = timeout(PATIENCE, async {
        loop {
            let removed = ask(&admin, "POST /members", "{\"remove\":2}").await;
            if removed.status == 200 {
                return removed.json();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    assert!(removed.await.expect("nothing is under way")["index"].is_u64());
    newcomer.shutdown().await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_member_that_is_stopped_still_has_a_port() {
    let root = tempfile::tempdir().expect("a directory");
    let node = alone(root.path()).await;
    let admin = port(&node).await;
    node.shutdown().await;
    let heard = request(&admin, "GET /health/live", &[], b"").await;
    assert_eq!((heard.status, &*heard.code()), (503, "not_alive"));
    let heard = ask(&admin, "POST /save", "").await;
    assert_eq!((heard.status, &*heard.code()), (503, "stopped"));
    let shown = ask(&admin, "GET /status.json", "").await.json();
    let last = shown["events"].as_array().and_then(|events| events.last().cloned()).unwrap_or(Value::Null);
    assert_eq!((&shown["phase"], &last["text"]), (&json!("stopped"), &json!("this member was shut down")));
    assert!(ask(&admin, "GET /metrics", "").await.body.contains("kontiki_phase{phase=\"stopped\"} 1\n"));
    node.start().await.expect("it starts again");
    timeout(PATIENCE, node.watch().wait_for(|status| status.leader == Some(id(1))))
        .await
        .expect("soon")
        .expect("it lives");
    assert_eq!(request(&admin, "GET /health/live", &[], b"").await.status, 200);
    node.shutdown().await;
}
