//! State machines of users in the simulator: what is right holds, and each mistake is found under its name.

#[expect(dead_code, reason = "an example has a main function of its own")]
#[path = "../examples/hash_map.rs"]
mod hash_map;
#[expect(dead_code, reason = "an example has a main function of its own")]
#[path = "../examples/inventory.rs"]
mod inventory;

use kontiki_core::machine::{BadSnapshot, BufferedRestore, BufferedSnapshot, StateMachine, fingerprint};
use kontiki_core::types::{LogId, NodeId};
use kontiki_sim::scenario::Profile;
use kontiki_sim::stream::Stream;
use kontiki_sim::test::{CutShort, FailedSeed, Property, Test, TestError, Workload};
use kontiki_sim::when::Effort;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is wrong with a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    Nothing,
    /// It panics when it gets to a number.
    Panics,
    /// Its snapshot leaves out what was added last.
    ForgetsLast,
    /// The same, and its digest does not tell.
    ForgetsLastQuietly,
    /// It answers with what it has seen of the world outside.
    HasClock,
    /// A query does.
    HasClockInQuery,
}

/// Counts, and remembers what it counted last.
#[derive(Clone, Debug)]
struct Counter {
    mistake: Mistake,
    sum: u64,
    last: u8,
}

/// The clock of the host, which is another one at every reading.
static CLOCK: AtomicU8 = AtomicU8::new(0);

impl Counter {
    fn new(mistake: Mistake) -> Self {
        Self { mistake, sum: 0, last: 0 }
    }

    fn bytes(&self) -> Vec<u8> {
        let last = match self.mistake {
            Mistake::ForgetsLast | Mistake::ForgetsLastQuietly => 0,
            _ => self.last,
        };
        [&self.sum.to_le_bytes()[..], &[last, self.mistake as u8]].concat()
    }
}

impl StateMachine for Counter {
    type Snapshot = BufferedSnapshot;
    type Restore = BufferedRestore<Self>;

    fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
        let before = std::mem::replace(&mut self.last, command[0]);
        self.sum += u64::from(command[0]);
        assert!(self.mistake != Mistake::Panics || self.sum < 40, "the sum is {}", self.sum);
        match self.mistake {
            Mistake::HasClock => vec![CLOCK.fetch_add(1, Ordering::Relaxed)],
            _ => vec![before],
        }
    }

    fn query(&self, _query: &[u8]) -> Vec<u8> {
        match self.mistake {
            Mistake::HasClockInQuery => vec![CLOCK.fetch_add(1, Ordering::Relaxed)],
            _ => self.sum.to_le_bytes().to_vec(),
        }
    }

    fn snapshot(&self) -> BufferedSnapshot {
        BufferedSnapshot::new(self.bytes())
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| {
            let (sum, rest) = bytes.split_first_chunk().ok_or_else(|| BadSnapshot::new("no sum"))?;
            let [last, mistake] = *rest else { return Err(BadSnapshot::new("no last number")) };
            let all = [
                Mistake::Nothing,
                Mistake::Panics,
                Mistake::ForgetsLast,
                Mistake::ForgetsLastQuietly,
                Mistake::HasClock,
                Mistake::HasClockInQuery,
            ];
            Ok(Counter { sum: u64::from_le_bytes(*sum), last, ..Counter::new(all[usize::from(mistake)]) })
        })
    }

    fn digest(&self) -> u64 {
        match self.mistake {
            Mistake::ForgetsLastQuietly => self.sum,
            _ => fingerprint(&[&self.sum.to_le_bytes(), &[self.last]]),
        }
    }
}

/// Adds up to 9, and asks for the sum.
#[derive(Clone, Debug)]
struct Additions;

impl Workload for Additions {
    fn command(&mut self, _client: u64, stream: &mut Stream) -> Vec<u8> {
        vec![stream.between(1, 9) as u8]
    }

    fn query(&mut self, _client: u64, _stream: &mut Stream) -> Option<Vec<u8>> {
        Some(b"sum".to_vec())
    }

    fn describe(&self, command: &[u8]) -> String {
        format!("add {}", command[0])
    }
}

fn counter(mistake: Mistake) -> Test<Counter, Additions> {
    Test::of(move || Counter::new(mistake)).workload(Additions).seeds(0..20)
}

fn failed<M: StateMachine + 'static, W: Workload + Clone>(test: &Test<M, W>) -> FailedSeed {
    match test.run() {
        Err(TestError::Failed(failed)) => *failed,
        other => panic!("it should fail: {other:?}"),
    }
}

#[track_caller]
fn is_found(mistake: Mistake, property: &str, says: &[&str]) {
    let FailedSeed { failure, .. } = failed(&counter(mistake));
    assert_eq!(failure.property, property, "{failure}");
    for said in says {
        assert!(failure.detail.contains(said), "{said:?} is not in: {failure}");
    }
}

#[test]
fn a_machine_without_mistakes_holds_in_every_profile() {
    for profile in Profile::ALL {
        for members in [1, 3, 5] {
            let held = counter(Mistake::Nothing).members(members).profile(profile).seeds(0..6).run();
            assert_eq!(held, Ok(6), "{profile} {members}");
        }
    }
}

/// Asks a query in one of ten cases, or none at all.
#[derive(Clone)]
struct RareQueries {
    asks: bool,
}

impl Workload for RareQueries {
    fn command(&mut self, client: u64, stream: &mut Stream) -> Vec<u8> {
        Additions.command(client, stream)
    }

    fn query(&mut self, _client: u64, stream: &mut Stream) -> Option<Vec<u8>> {
        (self.asks && stream.chance(1_000)).then(|| b"sum".to_vec())
    }
}

#[test]
fn clients_ask_only_what_the_workload_draws() {
    for asks in [false, true] {
        let test = Test::new(Counter::new(Mistake::Nothing)).workload(RareQueries { asks });
        let only_these = move |asked: &[u8], _: &[u8]| asked.len() == 1 || asked == b"sum" && asks;
        let looks = test.answers("what is asked", only_these).seeds(0..25);
        assert_eq!(looks.run(), Ok(25), "{asks}");
    }
}

#[test]
fn a_panic_is_reported_with_its_command() {
    is_found(Mistake::Panics, "State Machine", &["panicked at entry", "command add ", "the sum is 4"]);
}

#[test]
fn a_snapshot_that_leaves_something_out_is_found() {
    is_found(Mistake::ForgetsLast, "Snapshot and Restore", &["command add "]);
}

#[test]
fn a_snapshot_that_leaves_out_what_no_digest_tells_is_found_by_the_answers() {
    is_found(Mistake::ForgetsLastQuietly, "Snapshot and Restore", &["answers", "command add "]);
}

#[test]
fn a_clock_in_apply_is_found_and_named() {
    is_found(Mistake::HasClock, "Deterministic State Machine", &["is not deterministic", "command add "]);
}

#[test]
fn a_clock_in_query_is_found_and_named() {
    is_found(Mistake::HasClockInQuery, "Deterministic State Machine", &["is not deterministic", "query"]);
}

#[test]
fn an_iteration_over_a_hash_set_is_found_and_named() {
    let FailedSeed { failure, .. } = failed(&hash_map::test(false));
    assert_eq!(failure.property, "Deterministic State Machine", "{failure}");
    assert!(
        failure.detail.contains("is not deterministic") && failure.detail.contains("command key"),
        "{failure}"
    );
    assert_eq!(hash_map::test(true).seeds(0..10).run(), Ok(10));
}

#[test]
fn an_order_that_is_sent_again_without_a_session_is_booked_twice() {
    let found = failed(&inventory::test(false));
    assert_eq!(found.failure.property, "no order is booked twice");
    assert!(found.scenario.faults.len() <= 1 && found.scenario.members.len() <= 3, "{found}");
    let text = found.to_string();
    for said in [
        "KONTIKI_SEED=",
        "cargo test an_order_that_is_sent_again_without_a_session_is_booked_twice -- --exact",
        "KONTIKI_SCENARIO=",
        "order [",
        "again, to member",
        "How it came about",
    ] {
        assert!(text.contains(said), "{said:?} is not in: {text}");
    }
    assert_eq!(inventory::test(true).seeds(0..10).run(), Ok(10));
}

/// Sees that every kind of look comes about.
#[derive(Default)]
struct Looks {
    applied: bool,
    met: bool,
    answered: bool,
    wanted: u8,
}

impl Property<Counter> for Looks {
    fn applied(&mut self, _: NodeId, _: LogId, _: &Counter) -> Result<(), String> {
        self.applied = true;
        Ok(())
    }

    fn met(&mut self, one: (NodeId, &Counter), other: (NodeId, &Counter)) -> Result<(), String> {
        assert!(one.0 != other.0 && one.1.sum == other.1.sum);
        self.met = true;
        Ok(())
    }

    fn answered(&mut self, asked: &[u8], answer: &[u8]) -> Result<(), String> {
        assert_eq!(answer.len(), if asked == b"sum" { 8 } else { 1 });
        self.answered = true;
        Ok(())
    }

    fn ended(&mut self, states: &[(NodeId, &Counter)]) -> Result<(), String> {
        assert!(!states.is_empty());
        let seen = u8::from(self.applied) + u8::from(self.met) + u8::from(self.answered);
        if seen == self.wanted { Ok(()) } else { Err(format!("{seen} kinds of looks")) }
    }
}

#[test]
fn a_property_is_shown_states_pairs_answers_and_the_end() {
    let test = |wanted| {
        let property = move || Looks { wanted, ..Looks::default() };
        counter(Mistake::Nothing).profile(Profile::Calm).property("looks", property).seeds(0..2)
    };
    assert_eq!(test(3).run(), Ok(2));
    let FailedSeed { failure, .. } = failed(&test(2));
    assert_eq!(failure.property, "looks");
    assert!(failure.detail.ends_with("kinds of looks"), "{failure}");
}

#[test]
fn each_closure_is_a_property_under_its_name() {
    let test = || counter(Mistake::Nothing).profile(Profile::Calm).seeds(0..1);
    let tests = [
        ("state", test().invariant("state", |counter| counter.sum < 20)),
        ("pair", test().agreement("pair", |one, other| one.sum + other.sum < 20)),
        ("answer", test().answers("answer", |_, answer| answer.first() != Some(&5))),
        ("end", test().at_end("end", |counter| counter.sum == 0)),
        ("panic", test().invariant("panic", |counter| panic!("at {}", counter.sum))),
    ];
    for (name, test) in tests {
        let FailedSeed { failure, .. } = failed(&test);
        assert_eq!(failure.property, name, "{failure}");
    }
}

/// It fails in the first runs, and in a few of the smaller scenarios, and then never again: as a machine may
/// whose runs are not the same twice.
#[test]
fn a_smaller_scenario_that_fails_once_and_not_again_is_not_told_of() {
    let failures = Arc::new(AtomicU64::new(0));
    let holds = move |_: &Counter| failures.fetch_add(1, Ordering::Relaxed) >= 8;
    let test = counter(Mistake::Nothing).seeds(0..1).invariant("fickle", holds);
    let FailedSeed { failure, scenario, seed, .. } = failed(&test);
    assert_eq!((failure.property.as_str(), seed), ("fickle", Some(0)), "{failure}");
    assert_eq!(scenario.seed, 0, "it is the scenario of the seed itself");
}

#[test]
#[should_panic(expected = "the range of seeds is empty")]
fn a_test_without_seeds_does_not_pass() {
    counter(Mistake::Nothing).seeds(3..3).check();
}

#[test]
fn shrinking_within_a_number_of_steps_is_the_same_each_time_and_says_what_stopped_it() {
    let test = || counter(Mistake::ForgetsLast);
    let (whole, few) = (failed(&test()), failed(&test().shrink_steps(200)));
    assert_eq!((whole.cut_short, few.cut_short), (None, Some(CutShort::Steps(200))));
    assert!(few.failure.step > whole.failure.step, "{few}");
    assert!(few.to_string().contains("\nShrinking stopped after 200 steps; `shrink_steps`"), "{few}");
    assert_eq!(failed(&test().shrink_steps(200)), few);
    let brief = failed(&test().shrink_while(|| false));
    assert_eq!(brief.cut_short, Some(CutShort::Told));
    assert!(brief.to_string().contains("\nShrinking stopped when `shrink_while`"), "{brief}");
}

/// Whether some sum is exactly this depends on the order in which additions come to be committed.
fn unlucky() -> Test<Counter, Additions> {
    counter(Mistake::Nothing).invariant("no sum is 40", |counter| counter.sum != 40).shrink_steps(1)
}

#[test]
fn a_failure_of_a_test_is_forked_to_see_when_it_was_decided() {
    let test = unlucky();
    let scenario = test.scenario(failed(&test).seed.expect("it is drawn from a seed"));
    let effort = Effort { forks: 4, points: 8 };
    let when = test.when(&scenario, effort).expect("it can be run").expect("it fails");
    assert_eq!((when.failure.property.as_str(), when.points.len()), ("no sum is 40", 8));
    let (first, last) = (when.points[0], when.points[7]);
    assert_eq!((first.step, last.step, last.failed), (0, when.failure.step - 1, 4), "{when}");
    assert!(first.failed < 4, "it is a matter of luck at the beginning: {when}");
    assert_eq!(test.when(&scenario, effort), Ok(Some(when)));
    assert_eq!(counter(Mistake::Nothing).when(&scenario, effort), Ok(None), "nothing fails");
}

/// This test is run once more, as its report says, in a process of its own.
#[test]
fn the_report_says_how_to_ask_when_a_failure_was_decided() {
    if std::env::var_os("KONTIKI_WHEN").is_some() {
        return unlucky().check();
    }
    let text = failed(&unlucky()).to_string();
    let line = text.lines().find(|line| line.starts_with("  when it was decided:  KONTIKI_SEED="));
    let line = line.unwrap_or_else(|| panic!("it does not say how: {text}"));
    let words: Vec<_> = line.split_whitespace().skip(4).collect();
    let [seed, when, "cargo", "test", test, "--", exact] = words[..] else { panic!("{line}") };
    assert_eq!(when, "KONTIKI_WHEN=32");
    let (_, seed) = seed.split_once('=').expect("a variable");
    let executable = std::env::current_exe().expect("it is known");
    let mut again = Command::new(executable);
    let again = again.args([test, exact]).env("KONTIKI_SEED", seed).env("KONTIKI_WHEN", "4");
    let output = again.output().expect("it is run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("\nWhen it was decided:\n    step              forks that fail\n"), "{said}");
    assert!(said.contains("inevitable by step "), "{said}");
    let page = said.lines().find_map(|line| line.trim_start().strip_prefix("see it in a browser:"));
    let page = std::fs::read_to_string(page.expect("it names the page").trim()).expect("a page");
    assert!(page.contains("\"inevitable\":") && !page.contains("\"inevitable\":null"));
}
