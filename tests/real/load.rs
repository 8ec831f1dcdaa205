//! Clients that read and write while something is broken, and what must be true of what they were told.
//!
//! Every value is written once, by one client. So three things can be held against the log and the store when
//! all is over:
//!
//! - The history of all reads and writes is linearizable ([`kontiki_sim::history`]), a last read of every key
//!   at every member included.
//! - What was acknowledged is in the log, what was refused is not, and what was sent without a session is in
//!   it once at most.
//! - The log, played with each command counted once, gives what clients were told of each compare-and-swap,
//!   and what every member holds. A command that took effect a second time would show in both.

use crate::harness::{Group, PATIENCE, Result, within};
use kontiki_core::event::ReadVia;
use kontiki_core::kv;
use kontiki_core::types::{Index, LogId, NodeId};
use kontiki_net_tokio::client::{Again, Client, ClientOptions, Error, Swap};
use kontiki_net_tokio::protocol::{Answer, Content, LogEntry, Range, Request, Response};
use kontiki_sim::history::{self, Call, History, OperationId, Value, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Who asks for what, and how fast.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) clients: u64,
    /// How many keys all of them share.
    pub(crate) keys: u64,
    pub(crate) via: ReadVia,
    pub(crate) deadline: Duration,
    /// How long each waits between two requests.
    pub(crate) pause: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 6,
            keys: 4,
            via: ReadVia::Quorum,
            deadline: Duration::from_secs(20),
            pause: Duration::from_millis(4),
        }
    }
}

/// Clients at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    plan: Plan,
    begun: Instant,
    ends: AtomicBool,
    acknowledged: AtomicU64,
    book: Mutex<Book>,
}

/// What was asked for, and what came of it.
#[derive(Default)]
struct Book {
    history: History,
    /// By the value that each write, and no other, wrote.
    writes: BTreeMap<u64, Write>,
    failures: Vec<String>,
    wrong: Vec<String>,
    slowest: Duration,
    /// When each write that was acknowledged had begun, and when it was.
    acknowledged: Vec<(Instant, Instant)>,
}

struct Write {
    how: How,
    told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Put,
    /// Without a session.
    Once,
    Swap,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Done,
    /// It was looked at, and another value stood there, or none.
    Differs(Option<u64>),
    /// It had no effect, and never will.
    Refused,
}

/// What a load has come to, where nothing was wrong.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) acknowledged: u64,
    /// Requests that were not answered in time, or refused.
    pub(crate) failures: Vec<String>,
    /// How long the slowest of those that succeeded took.
    pub(crate) slowest: Duration,
    /// Commands that are in the log more than once, and counted once.
    pub(crate) repeated: u64,
    pub(crate) operations: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, failures, slowest, repeated, operations } = self;
        let (failed, slowest) = (failures.len(), slowest.as_millis());
        write!(
            f,
            "{operations} operations, {acknowledged} writes acknowledged, {failed} requests failed, the slowest took {slowest} ms, \
             {repeated} commands came twice and counted once"
        )
    }
}

impl Load {
    /// Clients of the whole group.
    pub(crate) fn start(group: &Group, plan: Plan) -> Self {
        let mut load = Self::idle(plan);
        for number in 0..plan.clients {
            let options = ClientOptions { deadline: plan.deadline, ..ClientOptions::default() };
            load.add(number, group.client(options));
        }
        load
    }

    /// No clients yet.
    pub(crate) fn idle(plan: Plan) -> Self {
        let shared = Shared {
            plan,
            begun: Instant::now(),
            ends: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            book: Mutex::default(),
        };
        Self { shared: Arc::new(shared), clients: Vec::new() }
    }

    fn add(&mut self, number: u64, client: Client) {
        self.clients.push(tokio::spawn(Caller::new(number, client, &self.shared).live()));
    }

    /// Readers of one member alone, whether it leads or not.
    pub(crate) fn read_at(&mut self, group: &Group, member: NodeId, readers: u64) {
        for number in 0..readers {
            let (client, shared) = (group.at_member(member), Arc::clone(&self.shared));
            let number = READERS + self.clients.len() as u64 + number;
            self.clients.push(tokio::spawn(async move {
                let mut caller = Caller::new(number, client, &shared);
                while !caller.shared.ends.load(Ordering::Relaxed) {
                    let key = caller.draw(caller.shared.plan.keys);
                    caller.read(key).await;
                    tokio::time::sleep(caller.shared.plan.pause).await;
                }
            }));
        }
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes are acknowledged; how long that took.
    pub(crate) async fn goes_on(&self, writes: u64) -> Result<Duration> {
        let (begun, before) = (Instant::now(), self.acknowledged());
        within(PATIENCE, "clients are served again", async || {
            (self.acknowledged() >= before + writes).then_some(())
        })
        .await?;
        Ok(begun.elapsed())
    }

    /// Waits until a write is acknowledged that began after this moment; how long after it that was.
    pub(crate) async fn served_since(&self, moment: Instant) -> Result<Duration> {
        within(PATIENCE, "a write is acknowledged", async || {
            let book = self.shared.book();
            let after = book.acknowledged.iter().filter(|(begun, _)| *begun >= moment);
            after.map(|(_, ended)| ended.duration_since(moment)).min()
        })
        .await
    }

    /// Lets the clients come to an end.
    pub(crate) async fn rest(&mut self) -> Result {
        self.shared.ends.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.await?;
        }
        Ok(())
    }

    /// Lets the clients come to an end, and checks everything, all members being there.
    pub(crate) async fn end(mut self, group: &Group) -> Result<Report> {
        self.rest().await?;
        let settled = group.settled().await?;
        let mut stores = BTreeMap::new();
        for member in group.ids() {
            self.read_all(group, member).await?;
            stores.insert(member, store(&group.at_member(member)).await?);
        }
        let mut logs = BTreeMap::new();
        for member in group.ids() {
            logs.insert(member, log(&group.at_member(member), settled.committed).await?);
        }
        self.verdict(&logs, &stores)
    }

    /// Reads every key once more, at one member.
    async fn read_all(&self, group: &Group, member: NodeId) -> Result {
        let keys: BTreeSet<_> = {
            let book = self.shared.book();
            book.history.operations().iter().map(|operation| operation.key).collect()
        };
        let number = READERS * 2 + member.get();
        let mut caller = Caller::new(number, group.at_member(member), &self.shared);
        for key in keys {
            let before = caller.generation;
            caller.read(key).await;
            if caller.generation != before {
                return Err(format!("member {member} does not answer reads though all is well").into());
            }
        }
        Ok(())
    }

    fn verdict(
        &self,
        logs: &BTreeMap<NodeId, Vec<LogEntry>>,
        stores: &BTreeMap<NodeId, Store>,
    ) -> Result<Report> {
        let book = self.shared.book();
        if let Some(wrong) = book.wrong.first() {
            return Err(format!("{} answers are wrong; the first: {wrong}", book.wrong.len()).into());
        }
        match history::check(&book.history, 100_000) {
            Verdict::Linearizable => {}
            other => return Err(format!("the history is not linearizable: {other:?}").into()),
        }
        let (first, entries) = logs.first_key_value().ok_or("there are members")?;
        for (member, log) in logs {
            if let Some((one, other)) = entries.iter().zip(log).find(|(one, other)| !is_same(one, other)) {
                return Err(format!("members {first} and {member} differ: {one:?}, {other:?}").into());
            }
            if log.len() != entries.len() {
                let lengths = (entries.len(), log.len());
                return Err(format!("members {first} and {member} have logs of {lengths:?} entries").into());
            }
        }
        let played = Played::of(entries)?;
        played.agree_with(&book)?;
        for (member, store) in stores {
            if *store != played.store {
                let held = &played.store;
                return Err(format!("member {member} holds {store:?}, and its log makes {held:?}").into());
            }
        }
        Ok(Report {
            acknowledged: self.acknowledged(),
            failures: book.failures.clone(),
            slowest: book.slowest,
            repeated: played.repeated,
            operations: book.history.operations().len(),
        })
    }
}

/// Numbers of those that only read begin here.
const READERS: u64 = 1000;
/// Keys that one client alone writes begin here.
const OWN: u64 = 1000;
/// Keys that are written without sessions begin here.
const ONCE: u64 = 1_000_000_000;

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// One client's life.
struct Caller {
    number: u64,
    /// Rises where the outcome of an operation is unknown: the client goes on under another name.
    generation: u64,
    client: Client,
    shared: Arc<Shared>,
    chance: u64,
    written: u64,
    /// What its own key holds.
    own: Option<u64>,
}

impl Caller {
    fn new(number: u64, client: Client, shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        Self { number, generation: 0, client, shared, chance: number + 1, written: 0, own: None }
    }

    async fn live(mut self) {
        while !self.shared.ends.load(Ordering::Relaxed) {
            let key = self.draw(self.shared.plan.keys);
            match self.draw(100) {
                0..45 => self.read(key).await,
                45..70 => self.put(key).await,
                70..80 => self.swap_shared(key).await,
                80..90 => self.swap_own().await,
                _ => self.put_once().await,
            }
            tokio::time::sleep(self.shared.plan.pause).await;
        }
        self.client.close().await;
    }

    /// Less than `end`: the same in each run.
    fn draw(&mut self, end: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % end.max(1)
    }

    fn process(&self) -> u64 {
        self.number + 1_000_000 * self.generation
    }

    fn invoke(&self, key: u64, call: Call) -> OperationId {
        let (process, now) = (self.process(), self.shared.now());
        self.shared.book().history.invoke(process, key, call, now)
    }

    async fn read(&mut self, key: u64) {
        let id = self.invoke(key, Call::Read);
        let begun = Instant::now();
        let read = self.client.kv().via(self.shared.plan.via).get(&name(key)).await;
        let at = self.shared.now();
        let mut book = self.shared.book();
        match read {
            Ok(value) => {
                book.slowest = book.slowest.max(begun.elapsed());
                match value.as_deref().map(number_in).transpose() {
                    Ok(value) => book.history.read(id, at, value.map(Value)),
                    Err(error) => book.wrong.push(error.to_string()),
                }
            }
            Err(error) => {
                book.failures.push(format!("read of {key}: {error}"));
                drop(book);
                self.generation += 1;
            }
        }
    }

    async fn put(&mut self, key: u64) {
        let (value, id) = self.begin(key, How::Put);
        let begun = Instant::now();
        let result = self.client.kv().put(&name(key), &bytes(value)).await.map(|()| Told::Done);
        self.ended(value, id, begun, result);
    }

    /// Of a key that others write: it may well fail.
    async fn swap_shared(&mut self, key: u64) {
        let Ok(found) = self.client.kv().get(&name(key)).await else { return };
        let Ok(expected) = found.as_deref().map(number_in).transpose() else { return };
        self.swap(key, expected).await;
    }

    /// Of a key that no other client writes: where it does not find what it wrote last, something has
    /// happened twice or not at all.
    async fn swap_own(&mut self) {
        let (key, expected) = (OWN * (self.generation + 1) + self.number, self.own);
        match self.swap(key, expected).await {
            Some((value, Told::Done)) => self.own = Some(value),
            Some((value, told)) => {
                let wrong =
                    format!("the only writer of {key} found {told:?} where it had {expected:?}, for {value}");
                self.shared.book().wrong.push(wrong);
            }
            None => {}
        }
    }

    async fn swap(&mut self, key: u64, expected: Option<u64>) -> Option<(u64, Told)> {
        let (value, id) = self.begin(key, How::Swap);
        let begun = Instant::now();
        let expected = expected.map(bytes);
        let swapped = self.client.kv().compare_and_swap(&name(key), expected.as_deref(), &bytes(value)).await;
        let result = match swapped {
            Ok(Swap::Done) => Ok(Told::Done),
            Ok(Swap::Differs(actual)) => match actual.as_deref().map(number_in).transpose() {
                Ok(actual) => Ok(Told::Differs(actual)),
                Err(error) => {
                    self.shared.book().wrong.push(error.to_string());
                    return None;
                }
            },
            Err(error) => Err(error),
        };
        self.ended(value, id, begun, result).map(|told| (value, told))
    }

    /// Without a session: sent once, and never again.
    async fn put_once(&mut self) {
        let key = ONCE + self.number;
        let (value, id) = self.begin(key, How::Once);
        let begun = Instant::now();
        let command = kv::Command::Put { key: &name(key), value: &bytes(value) }.encode();
        let result = self.client.command_once(&command).await.map(|_| Told::Done);
        self.ended(value, id, begun, result);
    }

    fn begin(&mut self, key: u64, how: How) -> (u64, OperationId) {
        self.written += 1;
        let value = (self.number + 1) << 40 | self.written;
        self.shared.book().writes.insert(value, Write { how, told: Told::Nothing });
        (value, self.invoke(key, Call::Write(Value(value))))
    }

    fn ended(
        &mut self,
        value: u64,
        id: OperationId,
        begun: Instant,
        result: std::result::Result<Told, Error>,
    ) -> Option<Told> {
        let at = self.shared.now();
        let mut book = self.shared.book();
        let how = book.writes[&value].how;
        let (told, unknown) = match result {
            Ok(told) => {
                book.slowest = book.slowest.max(begun.elapsed());
                book.acknowledged.push((begun, Instant::now()));
                (told, false)
            }
            Err(error) => {
                // What was sent once only may well be lost with a leader.
                let is_known = !error.may_be_done();
                if how != How::Once {
                    book.failures.push(format!("write of {value}: {error}"));
                }
                (if is_known { Told::Refused } else { Told::Nothing }, !is_known)
            }
        };
        match told {
            Told::Done => book.history.wrote(id, at),
            // A write that had no effect, to the history.
            Told::Differs(_) | Told::Refused => book.history.refused(id, at),
            Told::Nothing => {}
        }
        book.writes.insert(value, Write { how, told });
        drop(book);
        if told == Told::Done {
            self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        if unknown {
            self.generation += 1;
            self.own = None;
            return None;
        }
        (told != Told::Refused).then_some(told)
    }
}

type Store = BTreeMap<u64, u64>;

/// What a log makes, each command counted once.
#[derive(Default)]
struct Played {
    store: Store,
    /// What came of each command's first copy.
    results: BTreeMap<u64, Told>,
    copies: BTreeMap<u64, u64>,
    repeated: u64,
}

impl Played {
    fn of(log: &[LogEntry]) -> Result<Self> {
        let mut played = Self::default();
        for entry in log {
            let Content::Command(command) = &entry.content else { continue };
            let command = kv::Command::decode(command).map_err(|error| error.to_string())?;
            if is_foreign(command.key()) {
                continue;
            }
            let (key, value, expected) = match command {
                kv::Command::Put { key, value } => (key, value, None),
                kv::Command::CompareAndSwap { key, expected, value } => (key, value, Some(expected)),
                kv::Command::Delete { .. } => return Err(format!("{}: no client deletes", entry.id).into()),
            };
            let (key, value) = (number_in(key)?, number_in(value)?);
            let copies = played.copies.entry(value).or_default();
            *copies += 1;
            if *copies > 1 {
                played.repeated += 1;
                continue;
            }
            let held = played.store.get(&key).copied();
            let fits = match expected {
                Some(expected) => expected.map(number_in).transpose()? == held,
                None => true,
            };
            if fits {
                played.store.insert(key, value);
            }
            played.results.insert(value, if fits { Told::Done } else { Told::Differs(held) });
        }
        Ok(played)
    }

    fn agree_with(&self, book: &Book) -> Result {
        for (value, write) in &book.writes {
            let copies = self.copies.get(value).copied().unwrap_or_default();
            let result = self.results.get(value).copied();
            let wrong = match write.told {
                _ if write.how == How::Once && copies > 1 => "it was sent once, and is in the log twice",
                Told::Nothing => continue,
                Told::Refused if copies > 0 => "it was refused, and is in the log",
                Told::Refused => continue,
                Told::Done | Told::Differs(_) if copies == 0 => "it was acknowledged, and is not in the log",
                told if result != Some(told) => "the log makes something else of it",
                _ => continue,
            };
            return Err(format!("write of {value}: {wrong}: told {:?}, made {result:?}", write.told).into());
        }
        match self.copies.keys().find(|value| !book.writes.contains_key(value)) {
            Some(value) => Err(format!("no client has written {value}").into()),
            None => Ok(()),
        }
    }
}

/// Keys from here on are a test's own: no client of a load knows of them.
const FOREIGN: &[u8] = b"x";

fn is_foreign(key: &[u8]) -> bool {
    key >= FOREIGN
}

/// Everything of theirs that a member's state machine holds.
async fn store(client: &Client) -> Result<Store> {
    let found = client.kv().scan(b"", Some(FOREIGN), 10_000).await?;
    if found.more {
        return Err("more keys than a test writes".into());
    }
    found.entries.iter().map(|(key, value)| Ok((number_in(key)?, number_in(value)?))).collect()
}

/// A member's log from its beginning through an index.
async fn log(client: &Client, through: Index) -> Result<Vec<LogEntry>> {
    let (mut entries, mut after): (Vec<LogEntry>, _) = (Vec::new(), Index::ZERO);
    while after < through {
        let request = Request::logs(Range::Between(after, through));
        let more = match client.ask(request, Again::Safe).await? {
            Response::Answer(Answer::Entries(more)) => more,
            other => return Err(format!("no log: {other:?}").into()),
        };
        after = more.last().ok_or("the log ends too early")?.id.index;
        entries.extend(more);
    }
    Ok(entries)
}

fn is_same(one: &LogEntry, other: &LogEntry) -> bool {
    let key = |entry: &LogEntry| -> (LogId, Content) { (entry.id, entry.content.clone()) };
    key(one) == key(other)
}

fn name(key: u64) -> Vec<u8> {
    bytes(key)
}

fn bytes(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn number_in(bytes: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(bytes)?;
    text.parse().map_err(|_| format!("{text:?} is no number that a client wrote").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::types::Term;

    /// A log of commands, and what its clients were told of each value.
    fn judged(log: &[kv::Command<'_>], told: &[(u64, How, Told)]) -> std::result::Result<(), String> {
        let entry = |(index, command): (u64, &kv::Command<'_>)| LogEntry {
            id: LogId { term: Term::new(1), index: Index::new(index) },
            committed: true,
            content: Content::Command(command.encode().as_slice().into()),
        };
        let log: Vec<_> = (1..).zip(log).map(entry).collect();
        let mut book = Book::default();
        for (value, how, told) in told {
            book.writes.insert(*value, Write { how: *how, told: *told });
        }
        Played::of(&log).and_then(|played| played.agree_with(&book)).map_err(|error| error.to_string())
    }

    fn put(value: &[u8]) -> kv::Command<'_> {
        kv::Command::Put { key: b"1", value }
    }

    fn swap<'a>(expected: &'a [u8], value: &'a [u8]) -> kv::Command<'a> {
        kv::Command::CompareAndSwap { key: b"1", expected: Some(expected), value }
    }

    #[test]
    fn a_log_that_holds_what_clients_were_told_passes() {
        let log = [put(b"7"), swap(b"7", b"8"), put(b"7"), swap(b"7", b"9")];
        let told = [
            (7, How::Put, Told::Done),
            (8, How::Swap, Told::Done),
            // The second copy of 7 did not count.
            (9, How::Swap, Told::Differs(Some(8))),
            (10, How::Put, Told::Refused),
            (11, How::Once, Told::Nothing),
        ];
        assert_eq!(judged(&log, &told), Ok(()));
    }

    #[test]
    fn what_is_lost_or_came_twice_or_was_not_asked_for_is_found() {
        for (log, told, wrong) in [
            (vec![], (7, How::Put, Told::Done), "it was acknowledged, and is not in the log"),
            (vec![put(b"7")], (7, How::Put, Told::Refused), "it was refused, and is in the log"),
            (vec![put(b"7"), put(b"7")], (7, How::Once, Told::Nothing), "is in the log twice"),
            (vec![swap(b"3", b"7")], (7, How::Swap, Told::Done), "the log makes something else of it"),
            (vec![put(b"8")], (8, How::Swap, Told::Differs(None)), "the log makes something else of it"),
            (vec![put(b"7")], (8, How::Put, Told::Nothing), "no client has written 7"),
        ] {
            let error = judged(&log, &[told]).expect_err(wrong);
            assert!(error.contains(wrong), "{error}");
        }
    }
}
