//! The status page in a real browser: headless Chromium, if installed.

use crate::fake::{TOKEN, open, request};
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// A bound for starting the browser, which is slow on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_page_is_whole_in_itself_and_runs_no_script_but_its_own() {
    let (_fake, admin) = open(|_| {}).await;
    let first = request(&admin, "GET /status", &[], b"").await;
    let second = request(&admin, "GET /status", &[], b"").await;
    assert!(first.has("content-type: text/html; charset=utf-8"), "{first:?}");
    let nonce = |heard: &crate::fake::Heard| {
        let (_, rest) = heard.head.split_once("script-src 'nonce-").expect("a nonce");
        rest.split('\'').next().unwrap_or_default().to_owned()
    };
    assert!(nonce(&first).len() == 22 && nonce(&first) != nonce(&second), "drawn for each answer");
    assert_eq!(first.body.matches(&format!("nonce=\"{}\"", nonce(&first))).count(), 2);
    for outside in ["http://", "https://", "src=\"/", "@import", "url(", "{{", "eval(", "onclick", "style=\""]
    {
        assert!(!first.body.contains(outside), "{outside}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_the_members() {
    let Some(chromium) = chromium() else {
        println!("SKIPPED: there is no Chromium to look at the status page with (apt-get install chromium)");
        return;
    };
    let (_fake, admin) = open(|_| {}).await;
    let front = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let at = front.local_addr().expect("it has an address");
    let server = tokio::spawn(log_in(front, admin.local_addr()));
    let page = dump(&chromium, &format!("http://{at}/status")).await;
    assert!(page.contains("Token of the admin port") && !page.contains("10.0.0.2:7000"), "{page}");
    let page = dump(&chromium, &format!("http://{at}/log-in")).await;
    for shown in [
        "<title>Member 1 · Kontiki</title>",
        "<th scope=\"row\"><span class=\"whole\">Member 2</span><span class=\"small soft\">10.0.0.2:7000</span></th>",
        "<td><span class=\"mark good\">leader</span></td>",
        "<td><span class=\"mark\">learner</span></td><td class=\"end\">1,234</td>",
        "<span class=\"mark warn\">4.2 s</span>",
        "Not heard from for a while: member 3.",
        "This member was elected leader (term 4)",
        "<span id=\"top\">2</span><span id=\"middle\">1</span><span id=\"zero\">0</span>",
        "<span>1 minute ago</span><span>now</span>",
        "1,288",
    ] {
        assert!(page.contains(shown), "{shown} is missing in:\n{page}");
    }
    let page = dump(&chromium, &format!("http://{at}/log-in-wrongly")).await;
    assert!(
        page.contains("That is not the token of this member.") && !page.contains("10.0.0.2:7000"),
        "{page}"
    );
    server.abort();
}

/// The path of the browser.
fn chromium() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let is_there = |name: &&str| {
        let version = std::process::Command::new(name).arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    names.into_iter().find(is_there).map(str::to_owned)
}

/// Returns the page at an address, as rendered a few seconds after it was opened.
async fn dump(chromium: &str, url: &str) -> String {
    let profile = tempfile::tempdir().expect("a directory");
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=4000", "--dump-dom"])
        .arg(url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("the browser ends").expect("it starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A proxy of the port, of the same origin, with one more page that acts as a person: it enters the token.
async fn log_in(front: TcpListener, behind: SocketAddr) -> io::Result<()> {
    loop {
        let (browser, _) = front.accept().await?;
        tokio::spawn(pass_on(browser, behind));
    }
}

async fn pass_on(mut browser: TcpStream, behind: SocketAddr) -> io::Result<()> {
    let mut head = vec![0; 8192];
    let read = browser.read(&mut head).await?;
    head.truncate(read);
    if head.starts_with(b"GET /log-in") {
        let token = if head.starts_with(b"GET /log-in ") { TOKEN } else { "something-else-entirely" };
        let page = format!(
            "<!doctype html><script>sessionStorage.setItem('kontiki-token','{token}');location.replace('/status')</script>"
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}",
            page.len()
        );
        return browser.write_all(answer.as_bytes()).await;
    }
    let mut port = TcpStream::connect(behind).await?;
    port.write_all(&head).await?;
    tokio::io::copy_bidirectional(&mut browser, &mut port).await?;
    Ok(())
}
