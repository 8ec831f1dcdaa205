//! A map under `proptest`: `cargo run -p kontiki-sim --features proptest --example proptest`.
//!
//! With `--believe` it is also believed that there are never ten keys, and the scenario is printed that shows
//! otherwise, once it has shrunk.

use kontiki_core::kv::{Command, Kv};
use kontiki_sim::Test;
use kontiki_sim::strategy;
use kontiki_sim::stream::Stream;
use kontiki_sim::test::Workload;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::rc::Rc;

/// Puts one of ten keys.
#[derive(Clone)]
struct Puts;

impl Workload for Puts {
    fn command(&mut self, _client: u64, stream: &mut Stream) -> Vec<u8> {
        Command::Put { key: &[stream.below(10) as u8], value: b"x" }.encode()
    }
}

fn main() {
    let most = if std::env::args().any(|argument| argument == "--believe") { 9 } else { 10 };
    let test = Test::new(Kv::default()).workload(Puts);
    let test = Rc::new(test.invariant("there are not too many keys", move |kv: &Kv| kv.len() <= most));
    let drawing = test.clone();
    let scenarios = strategy::scenarios_by(move |seed| drawing.scenario(seed));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(50) });
    let ran = runner.run(&scenarios, |scenario| {
        let report = test.play(&scenario).map_err(|error| TestCaseError::reject(error.to_string()))?;
        report.failure.map_or(Ok(()), |failure| Err(TestCaseError::fail(failure.to_string())))
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}
