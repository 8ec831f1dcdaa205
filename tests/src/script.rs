//! Scripts: what is done to a cluster, `----`, and what the cluster did.
//!
//! A script is read like a play. A line that is not indented says what happened, the indented ones below it
//! what the member did about it. `deliver` shows every message once, as it arrives; the other commands also
//! show messages as they are sent. The commands are those of `play_line`.

use crate::lab::{Cast, Lab, disk_of, id};
use kontiki_core::config::Options;
use kontiki_core::event::ReadVia;
use kontiki_core::membership::Change;
use kontiki_core::status::FlowKind;
use kontiki_core::time::Nanos;
use kontiki_core::types::{Ballot, Incarnation, Index, LogId, Member, NodeId, Term};
use kontiki_sim::explain::{Clock, Diagram};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// The script with what the cluster really did.
pub fn play(script: &str) -> String {
    let (mut lab, mut played, mut lines) = (None, String::new(), script.lines());
    while let Some(line) = lines.next() {
        let _ = writeln!(played, "{line}");
        if line == "----" {
            played += &lab.as_mut().map_or(String::new(), Lab::take_transcript);
            if lines.by_ref().find(|line| line.is_empty()).is_some() {
                played.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            let scene = catch_unwind(AssertUnwindSafe(|| run(&mut lab, line)));
            if let Err(panic) = scene {
                played += &lab.as_mut().map_or(String::new(), Lab::take_transcript);
                eprintln!("the play stops in the middle of {line:?}:\n{played}");
                resume_unwind(panic);
            }
        }
    }
    played
}

/// The cluster of a script as it is at the end, and nothing written down.
///
/// # Panics
///
/// If the script has a line that is no command, or none that begins with `cluster`.
pub fn perform(script: &str) -> Lab {
    let mut lab = None;
    let is_command = |line: &&str| !line.is_empty() && !line.starts_with('#') && *line != "----";
    script.lines().filter(is_command).for_each(|line| run(&mut lab, line));
    lab.expect("a script begins with `cluster`")
}

/// A diagram of what the cluster did. Its story is what the script says of itself.
///
/// # Panics
///
/// If the script has a line that is no command, or none that begins with `cluster`.
pub fn explain(script: &str, title: String) -> Diagram {
    let (mut lab, mut comment, mut comments) = (None::<Lab>, String::new(), Vec::new());
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        if line == "----" {
            lines.by_ref().find(|line| line.is_empty());
        } else if let Some(words) = line.strip_prefix('#') {
            comment += words;
        } else if !line.is_empty() {
            if let Some(lab) = &mut lab {
                if !comment.is_empty() {
                    comments.push(std::mem::take(&mut comment).trim().to_owned());
                    lab.narrate(&comments[comments.len() - 1]);
                }
                lab.narrate(line);
            }
            let earlier = lab.as_mut().filter(|_| line.starts_with("cluster ")).and_then(Lab::take_watched);
            run(&mut lab, line);
            if line.starts_with("cluster ") {
                lab.as_mut().expect("there is one now").watch(earlier);
            }
        }
    }
    let watched = lab.as_mut().and_then(Lab::take_watched).expect("a script begins with `cluster`");
    let mut diagram = watched.watcher.diagram(title, None);
    let is_comment = |number: &usize| comments.contains(&diagram.events[*number].what);
    diagram.story = (0..diagram.events.len()).filter(is_comment).collect();
    Diagram { outcome: "played as it is written".to_owned(), clock: Clock::Order, ..diagram }
}

/// Carries out one line of a script, which begins with `cluster`.
fn run(lab: &mut Option<Lab>, line: &str) {
    if let Some(words) = line.strip_prefix("cluster ") {
        *lab = Some(cluster(words));
        return;
    }
    play_line(lab.as_mut().expect("a script begins with `cluster`"), line);
}

/// A line of a script: a command, and the words behind it.
struct Line<'a> {
    text: &'a str,
    command: &'a str,
    rest: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn new(text: &'a str) -> Self {
        let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
        Self { text, command, rest, words: rest.split_whitespace().collect() }
    }

    fn number(&self, position: usize) -> u64 {
        let Self { text, words, .. } = self;
        let word = words.get(position).unwrap_or_else(|| panic!("{text:?} needs a number more"));
        word.parse().unwrap_or_else(|_| panic!("{text:?}: {word:?} is no number"))
    }

    /// The number behind the first; 1 if there is none.
    fn count(&self) -> u64 {
        if self.words.len() > 1 { self.number(1) } else { 1 }
    }

    fn span(&self) -> Nanos {
        Nanos::from(milliseconds(self.rest))
    }

    /// Members, as many as are named.
    fn members(&self) -> impl Iterator<Item = u64> {
        self.words.iter().map(|word| word.parse().expect("a member"))
    }

    /// A command that names messages means at least one.
    fn some(&self, count: usize) {
        assert!(count > 0, "{:?}: no such message is in flight", self.text);
    }
}

fn play_line(lab: &mut Lab, text: &str) {
    let line = Line::new(text);
    let is_known = play_of_time(lab, &line)
        || play_of_clients(lab, &line)
        || play_of_network(lab, &line)
        || play_of_hosts(lab, &line)
        || question(lab, &line);
    assert!(is_known, "{text:?} is no command; see `play_line` in tests/src/script.rs");
}

/// What is there before the play, and what the clock brings.
fn play_of_time(lab: &mut Lab, line: &Line<'_>) -> bool {
    match line.command {
        // Before the play: `member 2 log=1,1,4 term=5 vote=1 priority=3`.
        "member" => member(lab, line.number(0), &line.words[1..]),
        // A command whose effects are not what the script is about.
        "quietly" => lab.quietly(|lab| play_line(lab, line.rest)),
        // A whole election, with all messages delivered: tests/data/election.txt shows what that takes.
        "elect" => elect(lab, line.number(0)),
        // Timers: a member's, the one that is due first, or time that passes without any going off. A beat is
        // a heartbeat and all that follows from it.
        "campaign" => lab.campaign(line.number(0)),
        "heartbeat" => (0..line.count()).for_each(|_| lab.heartbeat(line.number(0))),
        "beat" => (0..line.count()).for_each(|_| lab.beat(line.number(0))),
        "wait" => lab.wait(),
        "pass" => lab.pass(line.span()),
        // The same for all clocks alike, with every timer when it is due; messages wait.
        "run" => lab.run(line.span()),
        _ => return false,
    }
    true
}

/// What clients and operators ask.
fn play_of_clients(lab: &mut Lab, line: &Line<'_>) -> bool {
    let words = &line.words[..];
    match line.command {
        // Several words are one batch.
        "propose" if words.len() > 2 => {
            lab.propose_batch(line.number(0), &words[1..]);
        }
        "propose" => {
            lab.propose(line.number(0), words[1]);
        }
        // Reads: by quorum unless `lease` is said.
        "read" => {
            let via = if words.get(1) == Some(&"lease") { ReadVia::Lease } else { ReadVia::Quorum };
            lab.read(line.number(0), via);
        }
        // Operators: `reconfigure 1 add-voter 4, remove 2 if=3:1`; with `force` at the end, no heartbeat asks
        // first who is there, and the new voters are in the log at once; `cancel 1`, `transfer 1`, `transfer
        // 1 3`.
        "reconfigure" => reconfigure(lab, line.number(0), &words[1..]),
        "cancel" => {
            lab.cancel_change(line.number(0));
        }
        "transfer" => {
            lab.transfer(line.number(0), words.get(1).map(|_| line.number(1)));
        }
        _ => return false,
    }
    true
}

/// What becomes of messages.
fn play_of_network(lab: &mut Lab, line: &Line<'_>) -> bool {
    match line.command {
        // Everything until all is quiet, or only the messages that are in flight and match; of those that are
        // word for word what stands between quotes, the first.
        "deliver" if line.rest.is_empty() => lab.deliver(),
        "deliver" => line.some(lab.deliver_only(line.rest)),
        "lose" => line.some(lab.lose(line.rest)),
        "duplicate" => line.some(lab.duplicate(line.rest)),
        // Messages that are late, and messages of another cluster.
        "hold" => line.some(lab.hold(line.rest)),
        "release" => line.some(lab.release(line.rest)),
        "stray" => line.some(lab.stray(line.rest)),
        "cut" => lab.cut(line.number(0), line.number(1)),
        "isolate" => lab.isolate(line.number(0)),
        "heal" => lab.heal(),
        "unreachable" => lab.unreachable(line.number(0), line.number(1)),
        _ => return false,
    }
    true
}

/// What befalls the hosts of members.
fn play_of_hosts(lab: &mut Lab, line: &Line<'_>) -> bool {
    match line.command {
        // Disks and power.
        "slow-disk" => lab.slow_disk(line.number(0)),
        "fast-disk" => lab.fast_disk(line.number(0)),
        // `flush 1 2`: two writes reach the disk, and the member crashes before it hears of them.
        "flush" => lab.flush(line.number(0), line.count() as usize),
        "persist" => lab.persist(line.number(0), line.count() as usize),
        "crash" => line.members().for_each(|member| lab.crash(member)),
        "wipe" => lab.wipe(line.number(0)),
        "shutdown" => lab.shutdown(line.number(0)),
        // `damage 1 2`: it crashes, and has lost what was in entry 2 when it starts again.
        "damage" => lab.damage(line.number(0), &[line.number(1)]),
        "restart" => line.members().for_each(|member| lab.restart(member)),
        // State machines and snapshots.
        "slow-apply" => lab.slow_apply(line.number(0)),
        "apply" => lab.apply(line.number(0)),
        "snapshot" => lab.snapshot(line.number(0), line.number(1)),
        "slow-transfers" => lab.slow_transfers(line.number(0)),
        "fetch" => lab.fetch(line.number(0)),
        "fail-fetch" => lab.fail_fetch(line.number(0)),
        "load" => lab.load(line.number(0), true),
        "fail-load" => lab.load(line.number(0), false),
        _ => return false,
    }
    true
}

fn question(lab: &mut Lab, line: &Line<'_>) -> bool {
    match line.command {
        "status" => status(lab),
        "progress" => progress(lab, line.number(0)),
        "timers" => timers(lab),
        "in-flight" => in_flight(lab),
        _ => return false,
    }
    true
}

fn elect(lab: &mut Lab, member: u64) {
    lab.quietly(|lab| lab.elect(member));
    let term = lab.status(member).term;
    lab.note(format_args!("{member}: is elected in term {term}"));
}

/// `cluster 3 witnesses=1 learners=1 spares=2 pre_vote=false`: 3 voters, then the others, numbered in this
/// order.
fn cluster(line: &str) -> Lab {
    let words: Vec<_> = line.split_whitespace().collect();
    let voters = words[0].parse().expect("a number of voters");
    let (mut options, mut cast) = (Options::default(), Cast { voters, ..Cast::default() });
    for word in &words[1..] {
        let count = |number: &str| number.parse().expect("a number of members");
        match word.split_once('=') {
            Some(("witnesses", number)) => cast.witnesses = count(number),
            Some(("learners", number)) => cast.learners = count(number),
            Some(("spares", number)) => cast.spares = count(number),
            _ => set(&mut options, word),
        }
    }
    Lab::with(cast, &options)
}

/// `add-voter 4, add-witness 5, add-learner 6@2, promote 6, demote 1, remove 2 if=3:1`
fn reconfigure(lab: &mut Lab, member: u64, words: &[&str]) {
    let (words, expected, force) = match words.split_last() {
        Some((last, rest)) if last.starts_with("if=") => (rest, log_id(&last[3..]), false),
        Some((&"force", rest)) => (rest, None, true),
        _ => (words, None, false),
    };
    let mut changes = Vec::new();
    for pair in words.chunks(2) {
        let [what, whom] = pair else { panic!("{words:?}: what, and whom?") };
        let whom = whom.trim_end_matches(',');
        let (number, incarnation) = match whom.split_once('@') {
            Some((number, incarnation)) => (number, incarnation.parse().ok().map(Incarnation)),
            None => (whom, None),
        };
        let number: u64 = number.parse().expect("a member");
        // In the incarnation that it is in, unless another is named.
        let known = || lab.identity(number).member.incarnation;
        let newcomer = || Member::new(id(number), incarnation.unwrap_or_else(known));
        changes.push(match *what {
            "add-voter" => Change::AddVoter(newcomer()),
            "add-witness" => Change::AddWitness(newcomer()),
            "add-learner" => Change::AddLearner(newcomer()),
            "promote" => Change::Promote(id(number)),
            "demote" => Change::Demote(id(number)),
            "remove" => Change::Remove(id(number)),
            _ => panic!("{what:?} is no change of the membership"),
        });
    }
    if force {
        lab.force_reconfigure(member, &changes);
    } else {
        lab.reconfigure(member, &changes, expected);
    }
}

/// Written `index:term`.
fn log_id(word: &str) -> Option<LogId> {
    let (index, term) = word.split_once(':')?;
    Some(LogId::new(term.parse().ok()?, index.parse().ok()?))
}

fn member(lab: &mut Lab, member: u64, words: &[&str]) {
    let mut disk = lab.disk(member).clone();
    for word in words {
        match word.split_once('=') {
            Some(("log", terms)) => {
                let terms: Vec<_> = terms.split(',').map(|term| term.parse().expect("a term")).collect();
                disk = disk_of(&terms);
            }
            Some(("term", term)) => disk.ballot = Ballot::new(Term::new(term.parse().expect("a term")), None),
            Some(("vote", id)) => {
                disk.ballot = Ballot::new(disk.ballot.term(), id.parse().ok().and_then(NodeId::new));
            }
            _ => lab.set_options(member, |options| set(options, word)),
        }
    }
    lab.set_disk(member, disk);
}

fn set(options: &mut Options, word: &str) {
    let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("{word:?} is not name=value"));
    let number = || value.parse().unwrap_or_else(|_| panic!("{word:?} needs a number"));
    match name {
        "pre_vote" => options.pre_vote = value == "true",
        "check_quorum" => options.check_quorum = value == "true",
        "priority" => options.priority = value.parse().expect("a priority"),
        "max_append_bytes" => options.max_append_bytes = number(),
        "max_in_flight_messages" => options.max_in_flight_messages = value.parse().expect("a number"),
        "max_in_flight_bytes" => options.max_in_flight_bytes = number(),
        "max_waiting_reads" => options.max_waiting_reads = value.parse().expect("a number"),
        "retained_bytes" => options.retained_bytes = number(),
        "retained_entries" => options.retained_entries = number(),
        "max_cached_bytes" => options.max_cached_bytes = number(),
        "lease_reads" => options.lease_reads = value == "true",
        "max_clock_drift_ppm" => options.max_clock_drift_ppm = value.parse().expect("a ratio"),
        "catch_up_timeout" => options.catch_up_timeout = milliseconds(value),
        "witness" => options.witness = value == "true",
        _ => panic!("{name:?} is no option that scripts know"),
    }
}

fn milliseconds(word: &str) -> Duration {
    let number = word.strip_suffix("ms").and_then(|number| number.parse().ok());
    Duration::from_millis(number.unwrap_or_else(|| panic!("{word:?} is no time: write it as 150ms")))
}

fn status(lab: &mut Lab) {
    for member in lab.up().collect::<Vec<_>>() {
        let status = lab.status(member);
        let terms: Vec<_> = lab.terms(member).iter().map(u64::to_string).collect();
        let (role, term, committed, log) = (status.role, status.term, status.committed, terms.join(" "));
        let mut line = format!("{member}: {role} in term {term}, committed {committed}, log [{log}]");
        let raft = lab.raft(member);
        if raft.log().base() > Index::ZERO {
            let _ = write!(line, " after {}", raft.log().base());
        }
        if status.configured > LogId::ZERO {
            let _ = write!(line, ", group {}", raft.membership());
        } else if raft.membership().voters().is_empty() {
            line.push_str(", of no group");
        }
        lab.note(line);
    }
}

fn progress(lab: &mut Lab, leader: u64) {
    let peers: Vec<_> = lab.raft(leader).leader().expect("only a leader knows").peers().collect();
    for peer in peers {
        let flow = match peer.flow {
            FlowKind::Probe => "probe",
            FlowKind::Stream => "stream",
            FlowKind::Snapshot => "snapshot",
        };
        let (id, matched, next, in_flight) = (peer.id, peer.matched, peer.next, peer.in_flight);
        let paused = peer.paused.map_or_else(String::new, |reason| format!(", paused: {reason}"));
        lab.note(format_args!("{id}: {flow}, matched {matched}, next {next}, {in_flight} in flight{paused}"));
    }
}

fn timers(lab: &mut Lab) {
    let mut timers: Vec<_> = lab.up().map(|member| (lab.time_to_deadline(member), member)).collect();
    timers.sort_unstable();
    for (left, member) in timers {
        lab.note(format_args!("{member} in {} ms", left.get() / 1_000_000));
    }
}

fn in_flight(lab: &mut Lab) {
    for message in lab.in_flight().clone() {
        lab.note(message);
    }
}
