//! The page of a run in a real browser, headless Chromium: what it shows, and what it does when it is used.

use kontiki_core::types::NodeId;
use kontiki_sim::explain::{Diagram, Watcher};
use kontiki_sim::report::Failure;
use kontiki_sim::scenario::{Fault, Profile, Scenario, Target, TimedFault};
use kontiki_sim::trace::Loss;
use kontiki_tests::script::explain;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A bound for the browser, which is slow on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// One browser at a time.
static BROWSER: Mutex<()> = Mutex::new(());

/// A run whose leader crashes and in which a member is cut off, as if a property were violated at its end.
fn diagram() -> Diagram {
    let mut scenario = Scenario::draw(1, 3, Profile::Calm);
    let timed = |at_us, for_us, fault| TimedFault { at_us, for_us, fault };
    let member = |number| Target::Member(NodeId::new(number).expect("not zero"));
    scenario.faults = vec![
        timed(900_000, 100_000, Fault::Crash { member: member(1), after_actions: 0 }),
        timed(1_500_000, 800_000, Fault::Isolate { member: member(2) }),
    ];
    (scenario.chaos_us, scenario.until_us) = (3_000_000, Some(2_800_000));
    let mut watcher = Watcher::new(scenario.ids()).with_latency(scenario.network.latency_max_us * 1_000);
    let report = kontiki_sim::run_traced(&scenario, &mut |traced| watcher.note(traced));
    let counters = report.expect("it can be run").counters;
    let failure = Failure::new(
        "Liveness",
        "the members of <this> test & others".to_owned(),
        counters.steps,
        counters.virtual_nanos,
    );
    watcher.diagram("a run of a test".to_owned(), Some(failure))
}

/// A page, with a script after its own that does what a reader does and notes what it sees.
fn used(page: &str, script: &str) -> String {
    let helpers = "
        const seen = {};
        const text = (id) => document.getElementById(id).textContent;
        const all = (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
        const shown = (name) => Number(document.body.dataset[name]);
        const press = (key, more = {}) => {
            document.dispatchEvent(new KeyboardEvent('keydown', { key, ...more }));
            return true;
        };
        const enter = (id, value) => {
            document.getElementById(id).value = value;
            document.getElementById(id).dispatchEvent(new Event('input'));
        };
    ";
    let done = "
        const result = document.createElement('pre');
        result.id = 'seen';
        result.textContent = JSON.stringify(seen);
        document.body.append(result);
    ";
    let script = format!("<script>(() => {{{helpers}{script}{done}}})();</script></body>");
    let (before, after) = page.rsplit_once("</body>").expect("the page has a body");
    format!("{before}{script}{after}")
}

/// What a browser sees of a page, and the requests that it made; nothing where there is no browser.
fn see(page: &str, script: &str) -> Option<(Value, Vec<String>)> {
    let Some(chromium) = chromium() else {
        println!(
            "SKIPPED: there is no Chromium to look at the page of a run with (apt-get install chromium)"
        );
        return None;
    };
    let _alone = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}/page", listener.local_addr().expect("it has an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (page, served) = (used(page, script), Arc::clone(&asked));
    thread::spawn(move || serve(&listener, &page, &served));
    let dom = dump(chromium, &url);
    let (_, seen) =
        dom.split_once("<pre id=\"seen\">").unwrap_or_else(|| panic!("the script broke off: {dom}"));
    let (seen, _) = seen.split_once("</pre>").expect("it ends");
    let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let seen = serde_json::from_str(&seen).expect("what was seen");
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Some((seen, asked))
}

fn serve(listener: &TcpListener, page: &str, asked: &Mutex<Vec<String>>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap_or(0);
        let line = String::from_utf8_lossy(&head[..read]).lines().next().unwrap_or_default().to_owned();
        // A browser opens connections that it may not use.
        if !line.is_empty() {
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
        let length = page.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(page.as_bytes()));
    }
}

/// The path of the browser.
fn chromium() -> Option<&'static str> {
    let is_there = |name: &&str| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there)
}

/// Returns the page at an address as it is once its scripts have run.
fn dump(chromium: &str, url: &str) -> String {
    let profile = tempfile::tempdir().expect("a directory");
    let out = profile.path().join("dom");
    let mut browser = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--window-size=1280,900", "--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    while browser.try_wait().expect("it can be waited for").is_none() {
        if begun.elapsed() > PATIENCE {
            let _ = browser.kill().and_then(|()| browser.wait().map(drop));
            panic!("the browser does not end");
        }
        thread::sleep(Duration::from_millis(20));
    }
    String::from_utf8_lossy(&std::fs::read(&out).expect("what it has written")).into_owned()
}

fn number(seen: &Value, name: &str) -> u64 {
    seen[name].as_u64().unwrap_or_else(|| panic!("{name} is no number: {seen}"))
}

fn text<'s>(seen: &'s Value, name: &str) -> &'s str {
    seen[name].as_str().unwrap_or_else(|| panic!("{name} is no text: {seen}"))
}

/// Looks at the violation, and at all that is told of it.
const SIGHTS: &str = "
        press('i');
        Object.assign(seen, { inevitable: text('inevitable'), at: shown('step') });
        press('v');
        Object.assign(seen, { title: document.title, outcome: text('outcome'), failure: text('failure') });
        Object.assign(seen, { story: all('#story button'), past: text('past-size'), states: all('#states tbody tr') });
        Object.assign(seen, { event: text('event'), selected: shown('selected'), drawn: shown('drawn') });
        seen.resources = performance.getEntriesByType('resource').length;
        const { width, height } = canvas;
        const pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
        seen.colours = new Set(Array.from({ length: pixels.length / 4 }, (_, at) => pixels.slice(at * 4, at * 4 + 3).join())).size;
";

#[test]
fn a_browser_shows_the_violation_its_past_and_nothing_of_elsewhere() {
    let mut diagram = diagram();
    let inevitable = diagram.events.len() / 2;
    diagram.inevitable = Some(diagram.events[inevitable].step);
    let failure = diagram.failure.as_ref().expect("as if it failed");
    let is_other = |number: &&usize| !failure.relevant.contains(number);
    let other = failure.past.iter().find(is_other).expect("not all of the past is relevant");
    let script = format!(
        "enter('slider', '{other}');
        seen.other = text('event');
        {SIGHTS}"
    );
    let Some((seen, asked)) = see(&diagram.to_html(), &script) else { return };
    assert_eq!(seen["title"], "a run of a test · Kontiki");
    assert!(text(&seen, "outcome").starts_with("✗ Liveness at step "), "{seen}");
    assert_eq!(text(&seen, "failure"), "✗ Liveness: the members of <this> test & others");
    let story = seen["story"].as_array().expect("a list");
    assert_eq!(story.len(), diagram.story.len());
    for (told, event) in story.iter().zip(&diagram.story) {
        let fact = diagram.events[*event].fact.as_ref().expect("each means something");
        assert!(told.as_str().expect("text").ends_with(fact), "{told} is not {fact}");
    }
    assert_eq!(Some(number(&seen, "at")), diagram.inevitable);
    let from = format!("Inevitable from step {} on", number(&seen, "at"));
    assert!(text(&seen, "inevitable").starts_with(&from), "{seen}");
    let sizes = format!("has {} events, of {} in the full", failure.relevant.len(), failure.past.len());
    assert!(text(&seen, "past").contains(&sizes), "{seen}");
    assert_eq!(seen["states"].as_array().map(Vec::len), Some(3));
    assert_eq!(number(&seen, "selected"), failure.event.expect("it is known") as u64);
    assert!(text(&seen, "event").contains("in the relevant past of the failure"), "{seen}");
    assert!(text(&seen, "other").contains("in the full past of the failure"), "{seen}");
    assert!(number(&seen, "drawn") > 100 && number(&seen, "colours") > 10, "the canvas is drawn: {seen}");
    assert_eq!(number(&seen, "resources"), 0);
    assert_eq!(asked, ["GET /page HTTP/1.1"], "nothing but the page is asked for");
}

#[test]
fn the_slider_shows_what_members_were_and_what_changed() {
    let diagram = diagram();
    let leads =
        |event: &kontiki_sim::explain::Event| event.state.as_ref().is_some_and(|it| it.role == "leader");
    let elected = diagram.events.iter().position(leads).expect("there is a leader");
    let down = diagram.events.iter().position(|event| event.what.contains(" crashes")).expect("it crashes");
    let script = format!(
        "
        enter('slider', '0');
        seen.first = all('#states tbody tr');
        enter('slider', '{elected}');
        seen.elected = all('#states tbody tr.own');
        seen.changed = all('#states td.changed');
        seen.step = shown('step');
        enter('slider', '{down}');
        seen.down = all('#states tbody tr.own');
        "
    );
    let Some((seen, _)) = see(&diagram.to_html(), &script) else { return };
    let state = diagram.events[elected].state.as_ref().expect("it leads");
    let of = |name: &str| seen[name][0].as_str().unwrap_or_default().to_owned();
    assert!(of("elected").contains("L leader"), "{seen}");
    assert!(of("changed").starts_with("L leader was C candidate"), "{seen}");
    assert_eq!(number(&seen, "step"), diagram.events[elected].step);
    assert!(of("elected").contains(&format!("{}:{}", state.last.0, state.last.1)), "{seen}");
    assert!(of("down").contains("down"), "{seen}");
    assert!(!seen["first"].to_string().contains("leader"), "{seen}");
}

/// Goes through a page by its keys, its search and its filters, and notes what it shows.
const TOUR: &str = "
    const last = shown('selected');
    press('ArrowLeft');
    seen.left = shown('selected') - last;
    press('Home');
    seen.home = shown('selected');
    seen.story = ['c', 'c', 'C'].map((key) => press(key) && shown('selected'));
    press('v');
    seen.violation = shown('selected');
    press('w');
    seen.whole = shown('visible');
    press('+');
    seen.closer = shown('visible');
    press('t');
    seen.axis = text('axis');
    const theme = document.documentElement.dataset.theme;
    press('d');
    seen.themes = [theme, document.documentElement.dataset.theme].sort().join();
    press('?');
    seen.help = document.getElementById('keys').open && text('key-rows').length > 100;
    document.getElementById('keys').close();
    press('p');
    seen.relevant = shown('matches');
    press('f');
    seen.full = shown('matches');
    press('f');
    seen.again = shown('matches');
    press('p');
    press('/');
    seen.focus = document.activeElement.id;
    enter('search', 'BECOMES leader');
    seen.found = shown('matches');
    seen.listed = all('#list li');
    seen.count = text('count');
    enter('search', '');
    document.querySelector('[data-hides=heartbeat]').click();
    seen.quiet = shown('matches');
    document.querySelector('#lanes input').click();
    seen.without = shown('matches');
";

#[test]
fn the_selected_event_says_how_its_messages_were_lost() {
    let diagram = diagram();
    let lost = diagram.messages.iter().find(|message| message.lost == Some(Loss::LinkCut));
    let sent = lost.and_then(|message| message.sent).expect("one is lost so");
    let script = format!("enter('slider', '{sent}'); seen.event = text('event');");
    let Some((seen, _)) = see(&diagram.to_html(), &script) else { return };
    assert!(text(&seen, "event").contains("(lost: the link is cut)"), "{seen}");
}

#[test]
fn keys_search_and_filters_choose_what_is_shown() {
    let diagram = diagram();
    let Some((seen, _)) = see(&diagram.to_html(), TOUR) else { return };
    assert_eq!((&seen["left"], &seen["home"]), (&Value::from(-1), &Value::from(0)));
    let [first, second, ..] = diagram.story[..] else { panic!("the story is too short: {seen}") };
    assert!(first > 0, "it begins with an election");
    assert_eq!(seen["story"], serde_json::json!([first, second, first]));
    let failure = diagram.failure.as_ref().expect("as if it failed");
    assert_eq!(Some(number(&seen, "violation") as usize), failure.event);
    let events = diagram.events.len() as u64;
    assert_eq!(number(&seen, "whole"), events);
    assert!(number(&seen, "closer") < events * 7 / 10, "{seen}");
    assert_eq!((text(&seen, "axis"), text(&seen, "themes")), ("True time", "dark,light"));
    assert_eq!((seen["help"].as_bool(), text(&seen, "focus")), (Some(true), "search"));
    let led = |past: &[usize]| past.iter().chain(&diagram.story).collect::<BTreeSet<_>>().len() as u64;
    let (relevant, full) = (led(&failure.relevant), led(&failure.past));
    assert_eq!(["relevant", "full", "again"].map(|name| number(&seen, name)), [relevant, full, relevant]);
    assert!(relevant < full, "{relevant} of {full}");
    let fact = |event: &&kontiki_sim::explain::Event| {
        event.fact.as_ref().is_some_and(|fact| fact.contains("becomes leader"))
    };
    let elected = diagram.events.iter().filter(fact).count() as u64;
    assert!(elected > 0);
    assert_eq!(
        (number(&seen, "found"), seen["listed"].as_array().map(Vec::len)),
        (elected, Some(elected as usize))
    );
    assert_eq!(text(&seen, "count"), format!("{elected} of {events} events"));
    let heartbeat = serde_json::to_value(&diagram).expect("plain data");
    let is_heartbeat = |event: &&Value| event["kind"] == "heartbeat";
    let heartbeats =
        heartbeat["events"].as_array().expect("a list").iter().filter(is_heartbeat).count() as u64;
    assert!(heartbeats > 0);
    assert_eq!(number(&seen, "quiet"), events - heartbeats);
    assert!(number(&seen, "without") < number(&seen, "quiet"), "{seen}");
}

/// What is drawn does not grow with the run: where more is in view than can be told apart, some is left out.
#[test]
fn a_hundred_thousand_events_are_drawn_with_a_bounded_number_of_shapes() {
    let diagram = repeated(&diagram(), 100_000);
    let script = "
        press('w');
        Object.assign(seen, { all: shown('visible'), drawn: shown('drawn'), thinned: text('thinned') });
        seen.listed = all('#list li').length;
        let most = 0;
        for (let times = 0; times < 40; times += 1) {
            press('+');
            most = Math.max(most, shown('drawn'));
        }
        Object.assign(seen, { most, few: shown('visible') });
        enter('slider', '50000');
        seen.step = shown('step');
        enter('search', 'becomes leader');
        seen.found = shown('matches');
    ";
    let Some((seen, _)) = see(&diagram.to_html(), script) else { return };
    assert!(diagram.events.len() >= 100_000);
    assert_eq!(number(&seen, "all"), diagram.events.len() as u64);
    assert!((1_000..12_000).contains(&number(&seen, "drawn")), "{seen}");
    assert!(number(&seen, "most") < 12_000 && number(&seen, "few") < 30, "{seen}");
    assert!(text(&seen, "thinned").starts_with("One of "), "{seen}");
    assert_eq!(number(&seen, "listed"), 200);
    assert_eq!(number(&seen, "step"), diagram.events[50_000].step);
    assert!(number(&seen, "found") > 100, "{seen}");
}

/// A run again and again, until it has so many events.
fn repeated(once: &Diagram, events: usize) -> Diagram {
    let mut all = Diagram { members: once.members.clone(), title: once.title.clone(), ..Diagram::default() };
    while all.events.len() < events {
        let (event, message) = (all.events.len(), all.messages.len());
        let (at, step) = all.events.last().map_or((0, 0), |last| (last.at, last.step));
        for one in &once.events {
            let mut one = one.clone();
            (one.at, one.step) = (one.at + at, one.step + step);
            one.received = one.received.map(|number| number + message);
            one.sent.iter_mut().for_each(|number| *number += message);
            one.causes.iter_mut().for_each(|number| *number += event);
            all.events.push(one);
        }
        for one in &once.messages {
            let mut one = one.clone();
            one.sent = one.sent.map(|number| number + event);
            one.arrived.iter_mut().for_each(|number| *number += event);
            all.messages.push(one);
        }
        for one in &once.writes {
            let ended = one.ended.map(|number| number + event);
            all.writes.push(kontiki_sim::explain::Write { begun: one.begun + event, ended, ..one.clone() });
        }
    }
    all
}

#[test]
fn scripts_are_shown_with_what_they_say_of_themselves() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let mut shown = 0;
    for file in std::fs::read_dir(data).expect("tests/data can be read") {
        let path = file.expect("an entry of tests/data can be read").path();
        let script = std::fs::read_to_string(&path).expect("a script");
        let diagram = explain(&script, path.display().to_string());
        let sent = |message: &kontiki_sim::explain::Message| message.sent.is_some();
        assert!(!diagram.story.is_empty(), "{}", path.display());
        // `stray` and `release` bring messages that the script made, or that were sent before.
        let unseen = diagram.messages.iter().filter(|message| !sent(message)).count();
        assert!(unseen <= 4, "{}: {unseen} messages arrive that were not sent", path.display());
        shown += 1;
    }
    assert!(shown > 40, "only {shown} scripts are found");

    let election = include_str!("../data/election.txt");
    let diagram = explain(election, "election".to_owned());
    let tells = |number: &usize| diagram.events[*number].what.as_str();
    assert!(diagram.story.iter().map(tells).any(|told| told.contains("paper §5.2")));
    let leads =
        |event: &&kontiki_sim::explain::Event| event.state.as_ref().is_some_and(|it| it.role == "leader");
    let leader = diagram.events.iter().find(leads).expect("one is elected");
    assert_eq!(leader.member.map(|lane| diagram.members[lane].get()), Some(2));
}
