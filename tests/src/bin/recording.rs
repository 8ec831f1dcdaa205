//! What recording costs: the life of a leader of three, lived with and without. `docs/recording.md` says what
//! came out.
//!
//! ```text
//! cargo run --release -p kontiki-tests --bin recording
//! ```
//!
//! The life is that of one kernel: proposals one by one, each written, acknowledged by two followers and
//! applied before the next. It is lived again from the same beginning: by the kernel alone, with a recorder
//! in memory, and with the flight recorder.
#![allow(clippy::float_arithmetic, reason = "figures for people: nothing is decided by them")]

use clap::{Parser, ValueEnum};
use kontiki_core::action::Action;
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::{Event, Proposal};
use kontiki_core::membership::Membership;
use kontiki_core::raft::Raft;
use kontiki_core::record::{About, Recorder, begin};
use kontiki_core::replica::Watch;
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Identity, NodeId, Payload, RequestId};
use kontiki_net_tokio::record::FlightRecorder;
use serde_json::json;
use std::collections::VecDeque;
use std::hint::black_box;
use std::process::{Command, ExitCode};

/// Measures what it costs to record a kernel.
#[derive(Parser)]
struct Arguments {
    /// How many proposals.
    #[arg(long, default_value_t = 20_000)]
    n: u64,
    /// How many bytes each of them has; where not given, several sizes in turn.
    #[arg(long)]
    size: Option<usize>,
    /// Live that life once, in this way, and say nothing: for a profiler.
    #[arg(long)]
    once: Option<Way>,
    /// Count instructions too: runs itself under valgrind.
    #[arg(long)]
    callgrind: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// The kernel alone.
    Bare,
    /// With a recorder in memory.
    Memory,
    /// With the flight recorder, to a file.
    Flight,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for size in arguments.size.map_or(vec![16, 1024], |size| vec![size]) {
        let life = Life::of_a_leader(arguments.n, size);
        if let Some(way) = arguments.once {
            black_box(life.nanos(way));
            continue;
        }
        let steps = life.told.len() as f64;
        let mut line = json!({ "payload": size, "steps": life.told.len() });
        for way in Way::value_variants() {
            let best = (0..5).map(|_| life.nanos(*way)).min().unwrap_or_default();
            line[name(*way)]["ns_per_step"] = json!((best as f64 / steps).round());
            if arguments.callgrind {
                match instructions(*way, arguments.n, size) {
                    Ok(count) => {
                        line[name(*way)]["instructions_per_step"] = json!((count as f64 / steps).round());
                    }
                    Err(reason) => {
                        eprintln!("{reason}");
                        return ExitCode::FAILURE;
                    }
                }
            }
        }
        life.measure_the_file(&mut line);
        println!("{line}");
    }
    ExitCode::SUCCESS
}

fn name(way: Way) -> String {
    way.to_possible_value().expect("no way is hidden").get_name().to_owned()
}

/// What a kernel was, and what it was told.
struct Life {
    begin: Raft,
    told: Vec<(Instant, Event)>,
    /// What it has come to.
    end: Raft,
}

impl Life {
    /// That of the leader of three, in whose group this many payloads of this size are committed.
    fn of_a_leader(n: u64, size: usize) -> Self {
        let ids = [1, 2, 3].map(|id| NodeId::new(id).expect("not zero"));
        let group = Durable::bootstrap(Membership::of(ids).expect("three different members"));
        let mut members = ids.map(|id| {
            let config = Config::new(Identity::new(ClusterId(1), id), Options::default()).expect("valid");
            Raft::restore(config, group.clone(), Instant::ZERO).expect("what a disk may hold")
        });
        let position = (0..3).min_by_key(|&position| members[position].deadline()).expect("three");
        let (now, begin) = (members[position].deadline(), members[position].clone());
        let mut told = Vec::new();
        let mut events = VecDeque::from([(position, Event::Wake)]);
        let mut number = 0;
        loop {
            while let Some((to, event)) = events.pop_front() {
                if to == position {
                    told.push((now, event.clone()));
                }
                for action in members[to].step(now, event) {
                    let position = |id: NodeId| id.get() as usize - 1;
                    match action {
                        Action::Send(message) => {
                            events.push_back((position(message.to.id), Event::Receive(message)));
                        }
                        Action::Persist(write) => events.push_back((to, Event::Persisted(write.seq))),
                        Action::Apply { through } => events.push_back((to, Event::Applied(through))),
                        _ => {}
                    }
                }
            }
            if number == n {
                break;
            }
            number += 1;
            let payload = Payload::from(&vec![7; size][..]);
            let proposal = Proposal { request: RequestId(number), payload };
            events.push_back((position, Event::Propose(proposal)));
        }
        let end = members[position].clone();
        assert_eq!((end.status().role, end.status().applied.get()), (RoleKind::Leader, n + 1));
        Self { begin, told, end }
    }

    /// How long it takes to live it.
    fn nanos(&self, way: Way) -> u128 {
        let mut raft = self.begin.clone();
        let told = self.told.clone();
        let start = std::time::Instant::now();
        match way {
            Way::Bare => {
                let mut actions = Vec::new();
                measured(&mut || {
                    for (now, event) in &told {
                        raft.step_into(*now, event.clone(), &mut actions);
                        actions.clear();
                    }
                });
            }
            Way::Memory => {
                let mut recorder = Recorder::default();
                self.watched(&mut raft, &mut recorder);
                black_box(recorder.take());
            }
            Way::Flight => {
                let path = std::env::temp_dir().join(format!("kontiki-{}.rec", std::process::id()));
                let mut recorder = FlightRecorder::create(&path, 1 << 30).expect("a file");
                let start = std::time::Instant::now();
                self.watched(&mut raft, &mut recorder);
                let took = start.elapsed().as_nanos();
                let counters = recorder.close();
                std::fs::remove_file(path).expect("it was just written");
                if counters.missed > 0 {
                    eprintln!("the disk could not follow: {counters:?}");
                }
                assert!(raft == self.end, "the life was another");
                return took;
            }
        }
        let took = start.elapsed().as_nanos();
        assert!(raft == self.end, "the life was another");
        took
    }

    /// Lives it as a replica does whose kernel is watched.
    fn watched(&self, raft: &mut Raft, watch: &mut impl Watch) {
        let mut actions = Vec::new();
        measured(&mut || {
            for (now, event) in &self.told {
                let event = event.clone();
                watch.begins(*now, &event, raft);
                let (before, copy) = (raft.status(), event.clone());
                raft.step_into(*now, event, &mut actions);
                watch.step(*now, &copy, &actions, &before, raft);
                actions.clear();
            }
        });
    }

    /// How large a recording gets, and what a checkpoint costs.
    fn measure_the_file(&self, line: &mut serde_json::Value) {
        let (mut raft, mut recorder) = (self.begin.clone(), Recorder::default());
        self.watched(&mut raft, &mut recorder);
        line["bytes_per_step"] = json!((recorder.take().len() as f64 / self.told.len() as f64).round());
        let mut bytes = Vec::new();
        let start = std::time::Instant::now();
        begin(&About::default(), &self.end, &mut bytes).expect("not too large");
        let wrote = start.elapsed();
        let start = std::time::Instant::now();
        let copy = black_box(self.end.clone());
        let copied = start.elapsed();
        drop(copy);
        line["checkpoint"] = json!({
            "entries": self.end.log().last().index.get(),
            "bytes": bytes.len(),
            "copy_us": copied.as_micros() as u64,
            "write_us": wrote.as_micros() as u64,
        });
    }
}

/// Valgrind counts inside this function and nowhere else: its name is the switch.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // So that the call above is a call, and not a jump that leaves this function.
    black_box(());
}

fn instructions(way: Way, n: u64, size: usize) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*recording*measured*", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--n", &n.to_string(), "--size", &size.to_string(), "--once", &name(way)])
        .output()
        .map_err(|error| format!("cannot run valgrind, which counts the instructions: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected :"));
    match collected.and_then(|(_, count)| count.trim().parse().ok()) {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("valgrind did not count:\n{report}")),
    }
}
