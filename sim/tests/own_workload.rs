//! Workloads of users in the simulator: what they are told, what is said of one that panics or is not the
//! same twice, and what is left of them in the smallest scenario that fails.

use kontiki_core::machine::{BadSnapshot, BufferedRestore, BufferedSnapshot, StateMachine, fingerprint};
use kontiki_core::types::LogId;
use kontiki_sim::stream::Stream;
use kontiki_sim::test::{FailedSeed, Request, Test, TestError, Workload};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Remembers the last number, and the sum of all.
#[derive(Clone, Debug, Default)]
struct Sum {
    sum: u64,
    last: u8,
}

impl StateMachine for Sum {
    type Snapshot = BufferedSnapshot;
    type Restore = BufferedRestore<Self>;

    fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
        self.last = command[0];
        self.sum += u64::from(self.last);
        vec![self.last]
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        query.to_vec()
    }

    fn snapshot(&self) -> BufferedSnapshot {
        BufferedSnapshot::new([&self.sum.to_le_bytes()[..], &[self.last]].concat())
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| {
            let (sum, last) = bytes.split_first_chunk().ok_or_else(|| BadSnapshot::new("no sum"))?;
            let [last] = *last else { return Err(BadSnapshot::new("no last number")) };
            Ok(Self { sum: u64::from_le_bytes(*sum), last })
        })
    }

    fn digest(&self) -> u64 {
        fingerprint(&[&self.sum.to_le_bytes(), &[self.last]])
    }
}

/// Where a workload panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Panics {
    Nowhere,
    Command,
    Query,
    Describe,
    Answered,
}

/// Numbers up to 9, in each tenth draw a panic where it is wanted.
#[derive(Clone)]
struct Numbers {
    panics: Panics,
    drawn: u64,
}

impl Numbers {
    fn draw(&mut self, at: Panics) {
        self.drawn += 1;
        assert!(self.panics != at || !self.drawn.is_multiple_of(10), "ten were drawn");
    }
}

impl Workload for Numbers {
    fn command(&mut self, _client: u64, stream: &mut Stream) -> Vec<u8> {
        self.draw(Panics::Command);
        vec![stream.between(1, 9) as u8]
    }

    fn query(&mut self, _client: u64, _stream: &mut Stream) -> Option<Vec<u8>> {
        self.draw(Panics::Query);
        Some(b"last".to_vec())
    }

    fn answered(&mut self, _client: u64, _request: Request<'_>, _answer: &[u8]) {
        self.draw(Panics::Answered);
    }

    fn describe(&self, command: &[u8]) -> String {
        assert!(self.panics != Panics::Describe || command[0] < 9, "nine has no name");
        format!("add {}", command[0])
    }

    fn describe_query(&self, _query: &[u8]) -> String {
        "of the last".to_owned()
    }

    fn describe_answer(&self, request: Request<'_>, answer: &[u8]) -> String {
        match request {
            Request::Command(_) => format!("added {}", answer[0]),
            Request::Query(_) => "found".to_owned(),
        }
    }
}

fn numbers(panics: Panics) -> Test<Sum, Numbers> {
    Test::new(Sum::default()).workload(Numbers { panics, drawn: 0 }).seeds(0..20)
}

fn failed<W: Workload + Clone>(test: &Test<Sum, W>) -> FailedSeed {
    match test.run() {
        Err(TestError::Failed(failed)) => *failed,
        other => panic!("it should fail: {other:?}"),
    }
}

#[test]
fn a_panic_of_the_workload_is_a_failure_with_its_seed_and_command() {
    for (panics, says) in [
        (Panics::Command, ["command panicked: ten were drawn", "for client "]),
        (Panics::Query, ["query panicked: ten were drawn", "for client "]),
        (Panics::Answered, ["answered panicked: ten were drawn", "for client "]),
        (Panics::Describe, ["command [9]", "describe panicked: nine has no name"]),
    ] {
        let found = failed(&numbers(panics));
        assert_eq!((&*found.failure.property, found.varies.as_deref()), ("Workload", None), "{found}");
        let text = found.to_string();
        for said in says {
            assert!(text.contains(said), "{panics:?}: {said:?} is not in: {text}");
        }
        let seed = found.seed.expect("a seed fails");
        assert!(text.contains(&format!("KONTIKI_SEED={seed} cargo test ")), "{text}");
    }
    assert_eq!(numbers(Panics::Nowhere).seeds(0..5).run(), Ok(5));
}

/// Each client names itself in what it asks, and remembers what it waits for.
#[derive(Clone)]
struct Named {
    waits: BTreeMap<(u64, Vec<u8>), u32>,
    /// How many answers came to commands, and to queries.
    answers: Rc<Cell<(u64, u64)>>,
    with_sessions: bool,
}

impl Named {
    fn asks(&mut self, client: u64, stream: &mut Stream) -> Vec<u8> {
        let asked = vec![client as u8, stream.below(256) as u8];
        *self.waits.entry((client, asked.clone())).or_default() += 1;
        asked
    }
}

impl Workload for Named {
    fn command(&mut self, client: u64, stream: &mut Stream) -> Vec<u8> {
        self.asks(client, stream)
    }

    fn query(&mut self, client: u64, stream: &mut Stream) -> Option<Vec<u8>> {
        Some(self.asks(client, stream))
    }

    fn answered(&mut self, client: u64, request: Request<'_>, answer: &[u8]) {
        let (commands, queries) = self.answers.get();
        let asked = match request {
            Request::Command(command) => {
                self.answers.set((commands + 1, queries));
                assert_eq!(answer, &command[..1], "the machine answers a command with its first byte");
                command
            }
            Request::Query(query) => {
                self.answers.set((commands, queries + 1));
                assert_eq!(answer, query);
                query
            }
        };
        assert_eq!(asked[0], client as u8, "it is the answer of another client");
        let waits = self.waits.get_mut(&(client, asked.to_vec())).expect("it was asked");
        *waits = waits.checked_sub(1).expect("it was answered once already");
    }

    fn uses_sessions(&self) -> bool {
        self.with_sessions
    }
}

#[test]
fn a_client_is_told_once_of_each_answer_to_what_it_asked() {
    for with_sessions in [true, false] {
        let answers = Rc::new(Cell::new((0, 0)));
        let named = Named { waits: BTreeMap::new(), answers: answers.clone(), with_sessions };
        assert_eq!(Test::new(Sum::default()).workload(named).seeds(0..20).run(), Ok(20));
        let (commands, queries) = answers.get();
        assert!(commands > 100 && queries > 100, "{commands} {queries}");
    }
}

/// Numbers that no stream has drawn.
#[derive(Clone)]
struct Shared;

static SHARED: AtomicU8 = AtomicU8::new(1);

impl Workload for Shared {
    fn command(&mut self, _client: u64, _stream: &mut Stream) -> Vec<u8> {
        vec![SHARED.fetch_add(1, Ordering::Relaxed)]
    }
}

#[test]
fn a_workload_that_is_not_the_same_twice_is_named_and_not_made_smaller() {
    let test = Test::new(Sum::default()).workload(Shared).seeds(0..1);
    let test = test.invariant("the sum is small", |sum: &Sum| sum.sum < 5);
    let found = failed(&test);
    assert_eq!(found.scenario, test.scenario(0));
    let text = found.to_string();
    for said in ["is not the same run twice: the first step that differs", "propose", "hash map", "clock"] {
        assert!(text.contains(said), "{said:?} is not in: {text}");
    }
    assert!(text.starts_with("Seed 0 is not the same run twice"), "{text}");
    assert!(text.contains("the scenario:") && !text.contains("the smallest:"), "{text}");
}

#[test]
fn sessions_stay_where_a_failure_was_found_with_them() {
    let test = numbers(Panics::Nowhere).invariant("nine is not added", |sum: &Sum| sum.last != 9);
    let FailedSeed { scenario, .. } = failed(&test);
    assert_eq!(scenario.replica.expect("members are whole").sessions, 10_000);
}

/// One, two, three, and so on.
#[derive(Clone)]
struct Counting(u8);

impl Workload for Counting {
    fn command(&mut self, _client: u64, _stream: &mut Stream) -> Vec<u8> {
        self.0 += 1;
        vec![self.0]
    }

    fn describe(&self, command: &[u8]) -> String {
        format!("add {}", command[0])
    }
}

#[test]
fn commands_that_do_not_matter_are_left_out_and_the_failing_one_is_marked() {
    let test = Test::new(Sum::default()).workload(Counting(0)).seeds(0..1);
    let found = failed(&test.invariant("seven is not added", |sum: &Sum| sum.last != 7));
    let commands: Vec<_> = found.log.iter().filter(|line| line.contains("command add ")).collect();
    let [only] = &commands[..] else { panic!("one command is enough: {found}") };
    assert!(only.starts_with("> ") && only.contains("command add 7"), "{found}");
    assert_eq!(found.scenario.workload.left_out[..6], [1, 2, 3, 4, 5, 6], "{found}");
}

#[test]
fn queries_and_answers_are_told_in_the_words_of_the_workload() {
    let test = numbers(Panics::Nowhere).answers("nine is not found", |_, answer| answer != [9]);
    let found = failed(&test);
    assert!(found.failure.detail.ends_with("the answer added 9 to command add 9"), "{found}");
    let test = numbers(Panics::Nowhere).answers("nothing is asked", |asked, _| asked != b"last");
    let found = failed(&test);
    assert!(found.failure.detail.ends_with("the answer found to query of the last"), "{found}");
}
