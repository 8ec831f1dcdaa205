//! Simulations of a state machine of one's own.
//!
//! [`Test`] runs it on every member of simulated clusters, under faults, and demands of it what every
//! replicated state machine must have, without a line about it:
//!
//! - **The log is the specification.** Each answer to a command is what a replay of the log answers at its
//!   entry. Each answer to a query is what a replay answers after the entry as of which it was read, and that
//!   entry comes no earlier than what had been committed when the query was asked.
//! - **Exactly once.** A command of a session that is sent again takes effect once.
//! - **Determinism.** Members that have applied the same entries have the same digest, and a replay of the
//!   log has it too.
//! - **Snapshot and restore.** A state that is restored from a snapshot is the same and goes on the same.
//! - **No panic.** A panic in `apply` is reported with its command.
//!
//! What a digest does not tell, determinism cannot be checked of: [`StateMachine::digest`] must cover the
//! whole state. Raft itself is checked on the way, and that the cluster makes progress once it has healed.

mod application;
mod fault;
mod journal;
mod numbered;
mod property;
mod reference;
mod repeat;
mod report;
mod words;
mod workload;

pub use fault::CustomFault;
pub use property::Property;
pub use report::{CutShort, FailedSeed, TestError};
pub use workload::{Request, Workload};

use crate::explain;
use crate::quiet::quiet_kernel_panics;
use crate::report::{Failure, Report};
use crate::scenario::{Profile, ReplicaLimits, ReplicaSpec, Scenario, ScenarioError};
use crate::shrink::{Shrunk, shrink_by};
use crate::stream::Stream;
use crate::when::{self, Effort, When};
use crate::world::{Tracer, World};
use application::{Demands, Named, NamedFault, Simulated};
use journal::Journal;
use kontiki_core::config::Options;
use kontiki_core::machine::StateMachine;
use property::{Agreement, AtEnd, Invariant, OfAnswers};
use repeat::Watched;
use report::{Chosen, faults_of};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Once;
use words::guarded;

/// How many steps shrinking takes at most where a test does not say, all runs together: a minute of a test
/// that is not optimized.
pub const SHRINK_STEPS: u64 = 1_000_000;

/// What else is told of a failure.
#[derive(Default)]
struct More {
    /// Where runs are not the same twice: the failure of the first, and how they differ.
    varies: Option<(Failure, String)>,
    /// When it was decided.
    when: Option<When>,
    /// What stopped the search for a smaller scenario.
    cut_short: Option<CutShort>,
}

/// A workload that asks no query when it is asked so often has none.
const TRIED_QUERIES: u32 = 64;

/// Makes a property for each run.
type MakeProperty<M> = Rc<dyn Fn() -> Box<dyn Property<M>>>;

/// Makes a fault for each run.
type MakeFault<M> = Rc<dyn Fn() -> Box<dyn CustomFault<M>>>;

/// A test of a replicated state machine in simulated clusters; the [module](self) says what is demanded.
///
/// ```
/// use kontiki_core::kv::{Command, Kv};
/// use kontiki_sim::stream::Stream;
/// use kontiki_sim::test::Workload;
///
/// /// Puts one of ten keys.
/// #[derive(Clone)]
/// struct Puts;
///
/// impl Workload for Puts {
///     fn command(&mut self, _client: u64, stream: &mut Stream) -> Vec<u8> {
///         let key = [stream.below(10) as u8];
///         Command::Put { key: &key, value: b"x" }.encode()
///     }
/// }
///
/// kontiki_sim::Test::new(Kv::default())
///     .workload(Puts)
///     .invariant("there are ten keys at most", |kv: &Kv| kv.len() <= 10)
///     .seeds(0..3)
///     .check();
/// ```
pub struct Test<M, W = ()> {
    begin: Rc<dyn Fn() -> M>,
    workload: W,
    properties: Vec<(&'static str, MakeProperty<M>)>,
    faults: Vec<(&'static str, MakeFault<M>)>,
    seeds: Range<u64>,
    members: u32,
    profile: Profile,
    shrinking: Shrinking,
}

/// How long shrinking may take.
#[derive(Clone)]
struct Shrinking {
    steps: u64,
    goes_on: Rc<dyn Fn() -> bool>,
}

impl<M, W: fmt::Debug> fmt::Debug for Test<M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, seeds, members, profile, .. } = self;
        f.debug_struct("Test")
            .field("workload", workload)
            .field("seeds", seeds)
            .field("members", members)
            .field("profile", profile)
            .finish_non_exhaustive()
    }
}

impl<M: StateMachine + 'static> Test<M> {
    /// A test of a state machine that begins with this state on every member.
    ///
    /// Each member gets a copy that is restored from a snapshot, since a clone may share what two processes
    /// do not: the keys of a `HashMap`'s hasher, say.
    pub fn new(state: M) -> Self
    where
        M: Clone,
    {
        Self::of(move || reference::copy(&state).unwrap_or_else(|| state.clone()))
    }

    /// A test of a state machine that each member makes anew, as its process would.
    pub fn of(begin: impl Fn() -> M + 'static) -> Self {
        Self {
            begin: Rc::new(begin),
            workload: (),
            properties: Vec::new(),
            faults: Vec::new(),
            seeds: 0..100,
            members: 3,
            profile: Profile::Storage,
            shrinking: Shrinking { steps: SHRINK_STEPS, goes_on: Rc::new(|| true) },
        }
    }
}

impl<M: StateMachine + 'static, W> Test<M, W> {
    /// What clients ask.
    pub fn workload<V: Workload + Clone>(self, workload: V) -> Test<M, V> {
        let Self { begin, properties, faults, seeds, members, profile, shrinking, .. } = self;
        Test { begin, workload, properties, faults, seeds, members, profile, shrinking }
    }

    /// Which seeds [`check`](Test::check) runs; 0 to 99 where this is not said.
    pub fn seeds(self, seeds: Range<u64>) -> Self {
        Self { seeds, ..self }
    }

    /// Of how many members the clusters are; of 3 where this is not said.
    pub fn members(self, members: u32) -> Self {
        Self { members, ..self }
    }

    /// What the worlds around them are like; [`Profile::Storage`] where this is not said. The members are
    /// full replicas whatever the profile, so in [`Profile::Synchronous`] they meet what kernels meet there,
    /// and wait for nothing themselves.
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// How many steps shrinking takes at most, all runs together; [`SHRINK_STEPS`] where this is not said.
    /// What is found within them is the same on every machine.
    pub fn shrink_steps(self, steps: u64) -> Self {
        Self { shrinking: Shrinking { steps, ..self.shrinking }, ..self }
    }

    /// Shrinks only as long as this returns true, which is asked after each run: by a clock, say. What is
    /// found until then depends on the machine, and the report says so.
    ///
    /// ```
    /// use kontiki_core::kv::Kv;
    /// use std::time::{Duration, Instant};
    ///
    /// let deadline = Instant::now() + Duration::from_secs(120);
    /// let test = kontiki_sim::Test::new(Kv::default()).shrink_while(move || Instant::now() < deadline);
    /// # drop(test);
    /// ```
    pub fn shrink_while(self, goes_on: impl Fn() -> bool + 'static) -> Self {
        Self { shrinking: Shrinking { goes_on: Rc::new(goes_on), ..self.shrinking }, ..self }
    }

    /// What must hold of the state of every member after every entry.
    pub fn invariant(self, name: &'static str, holds: impl Fn(&M) -> bool + 'static) -> Self {
        let holds = Rc::new(holds);
        self.property(name, move || {
            let holds = holds.clone();
            Invariant(move |state: &M| holds(state))
        })
    }

    /// What must hold between the states of two members that have applied the same entries.
    pub fn agreement(self, name: &'static str, holds: impl Fn(&M, &M) -> bool + 'static) -> Self {
        let holds = Rc::new(holds);
        self.property(name, move || {
            let holds = holds.clone();
            Agreement(move |one: &M, other: &M| holds(one, other))
        })
    }

    /// What must hold of what clients asked, commands and queries, and of the answers that they got.
    pub fn answers(self, name: &'static str, holds: impl Fn(&[u8], &[u8]) -> bool + 'static) -> Self {
        let holds = Rc::new(holds);
        self.property(name, move || {
            let holds = holds.clone();
            OfAnswers(move |asked: &[u8], answer: &[u8]| holds(asked, answer))
        })
    }

    /// What must hold of the state of every member once the cluster has healed and come to rest.
    pub fn at_end(self, name: &'static str, holds: impl Fn(&M) -> bool + 'static) -> Self {
        let holds = Rc::new(holds);
        self.property(name, move || {
            let holds = holds.clone();
            AtEnd(move |state: &M| holds(state))
        })
    }

    /// A property of one's own, of which each run gets one.
    pub fn property<P: Property<M> + 'static>(
        mut self,
        name: &'static str,
        make: impl Fn() -> P + 'static,
    ) -> Self {
        self.properties.push((name, Rc::new(move || Box::new(make()))));
        self
    }

    /// A fault of one's own, of which each run gets one. It befalls members at drawn times, in some seeds.
    pub fn fault<F: CustomFault<M> + 'static>(
        mut self,
        name: &'static str,
        make: impl Fn() -> F + 'static,
    ) -> Self {
        self.faults.push((name, Rc::new(move || Box::new(make()))));
        self
    }
}

impl<M: StateMachine + 'static, W: Workload + Clone> Test<M, W> {
    /// Runs every seed, and panics with the first that fails: with what failed, the log in the smallest
    /// scenario in which it does, how it came about, and how to replay it.
    ///
    /// The environment variable `KONTIKI_SEED` names a single seed to run instead, and `KONTIKI_SCENARIO` a
    /// file with a scenario. `KONTIKI_WHEN` asks of a failure [when it was decided](when), and names how many
    /// forks are run at each point: the scenario is then not shrunk.
    ///
    /// # Panics
    ///
    /// If a seed fails, if a variable does not name what it should, if there are no seeds or no members, or
    /// if a scenario cannot be run.
    pub fn check(&self) {
        if let Err(error) = self.run() {
            panic!("{error}");
        }
    }

    /// The same, but returns how many seeds held, or what failed.
    ///
    /// # Errors
    ///
    /// If a seed fails, if a variable does not name what it should, if there are no seeds or no members, or
    /// if a scenario cannot be run.
    pub fn run(&self) -> Result<u64, TestError> {
        static QUIET: Once = Once::new();
        QUIET.call_once(quiet_kernel_panics);
        let variable = |name: &str| std::env::var_os(name);
        self.run_chosen(report::scenarios(self.seeds.clone(), variable)?, report::forks(variable)?)
    }

    /// Runs what is chosen; of a failure, it may ask by so many forks when it was decided.
    fn run_chosen(&self, chosen: Chosen, forks: Option<u32>) -> Result<u64, TestError> {
        match chosen {
            _ if self.members == 0 => Err(TestError::NoMembers),
            Chosen::Scenario(scenario) => self.try_one(&scenario, None, forks).map(|()| 1),
            Chosen::Seeds(mut seeds) => {
                let count = seeds.end - seeds.start;
                seeds.try_for_each(|seed| self.try_one(&self.scenario(seed), Some(seed), forks))?;
                Ok(count)
            }
        }
    }

    /// Runs a scenario: of a seed, or of a file.
    fn try_one(&self, scenario: &Scenario, seed: Option<u64>, forks: Option<u32>) -> Result<(), TestError> {
        let report = self.play(scenario)?;
        let Some(failure) = report.failure.clone() else { return Ok(()) };
        let watch = || self.watch(scenario, failure.step);
        let (first, second) = (watch()?, watch()?);
        if let Some(varies) = repeat::difference(&report, &first, &second) {
            let is_second = !first.fails_as(&failure) && second.fails_as(&failure);
            let watched = if is_second { second } else { first };
            let more = More { varies: Some((failure, varies)), ..More::default() };
            return Err(self.failed(scenario, seed, scenario.clone(), watched, more));
        }
        if let Some(forks) = forks {
            let effort = Effort { forks, ..Effort::default() };
            let more = More { when: self.when(scenario, effort)?, ..More::default() };
            return Err(self.failed(scenario, seed, scenario.clone(), first, more));
        }
        // A scenario of a file is as small as its owner wants it.
        let smallest = seed.and_then(|_| self.smallest(scenario));
        if let Some((Shrunk { scenario: smallest, failure, .. }, cut_short)) = smallest {
            let watched = self.watch(&smallest, failure.step)?;
            // A machine whose runs differ may fail once and not again.
            if watched.fails_as(&failure) {
                let more = More { cut_short, ..More::default() };
                return Err(self.failed(scenario, seed, smallest, watched, more));
            }
        }
        Err(self.failed(scenario, seed, scenario.clone(), first, More::default()))
    }

    /// Forks a failing scenario of this test at points of its past, and returns how many of the forks fail:
    /// how likely the failure was from each point on, and where it became inevitable. None where nothing
    /// fails. See [`crate::when`].
    ///
    /// # Errors
    ///
    /// If the scenario cannot be run.
    pub fn when(&self, scenario: &Scenario, effort: Effort) -> Result<Option<When>, TestError> {
        let run = |scenario: &Scenario, steps| Ok(self.world(scenario, None, None)?.run_for(steps));
        let told = when::when_run_by(scenario, &run, effort, &mut |_| ());
        told.map_err(|wrong| TestError::Scenario { seed: scenario.seed, wrong })
    }

    /// The smallest scenario found that fails in the same way, and what stopped the search before its end.
    /// Clients with sessions keep them: without, they fail in another way.
    fn smallest(&self, scenario: &Scenario) -> Option<(Shrunk, Option<CutShort>)> {
        let sessions = |scenario: &Scenario| scenario.replica.as_ref().map(|replica| replica.sessions);
        let run_for = |smaller: &Scenario, steps, tracer: Option<Tracer<'_>>| {
            let is_same = sessions(smaller) == sessions(scenario);
            is_same.then(|| self.world(smaller, tracer, None).ok())?.map(|world| world.run_for(steps))
        };
        let (steps, mut goes_on) = (self.shrinking.steps, true);
        let shrunk = shrink_by(scenario, &run_for, steps, &mut |_| {
            goes_on = (self.shrinking.goes_on)();
            goes_on
        })?;
        let cut_short = match shrunk.steps >= steps {
            true => Some(CutShort::Steps(steps)),
            false => (!goes_on).then_some(CutShort::Told),
        };
        Some((shrunk, cut_short))
    }

    /// Plays a scenario once more, which failed at this step, and watches every step.
    fn watch(&self, scenario: &Scenario, failing: u64) -> Result<Watched, TestError> {
        let journal = Journal::default();
        Watched::of(&journal, explain::watch(scenario, failing), |tracer| {
            let world = self.world(scenario, Some(tracer), Some(journal.clone()));
            Ok(world.map_err(|wrong| TestError::Scenario { seed: scenario.seed, wrong })?.run())
        })
    }

    /// Tells of a scenario that fails, by a run of the smallest that does. What belongs to a seed is written
    /// to files.
    fn failed(
        &self,
        scenario: &Scenario,
        seed: Option<u64>,
        smallest: Scenario,
        watched: Watched,
        more: More,
    ) -> TestError {
        let (test, More { varies, when, cut_short }) = (report::test_name(), more);
        let decided = when.as_ref().and_then(When::decided);
        let decided = decided.map(|steps| watched.lines_of(steps)).unwrap_or_default();
        let mut diagram = watched.watcher.diagram(explain::title(&smallest), watched.report.failure.clone());
        let inevitable = when.as_ref().and_then(When::inevitable);
        diagram.inevitable = inevitable.filter(|it| it.before.is_some()).map(|it| it.from.step);
        let page = diagram.to_html();
        let save = |seed| {
            let name = report::file_name(test.as_deref(), seed);
            report::save(&smallest, &watched.steps, &page, &name).ok()
        };
        let files = seed.and_then(save).unwrap_or_default();
        let (failure, varies) =
            varies.map(|(failure, varies)| (Some(failure), Some(varies))).unwrap_or_default();
        let failure = failure.or(watched.report.failure).expect("it fails");
        TestError::Failed(Box::new(FailedSeed {
            story: watched.story.filter(|story| story.failure.property == failure.property),
            files,
            seed,
            failure,
            varies,
            cut_short,
            when,
            decided,
            faults: faults_of(scenario),
            log: watched.log,
            scenario: smallest,
            test,
        }))
    }

    /// The scenario of a seed: as it is drawn for Raft's own sake, with this test's clients.
    pub fn scenario(&self, seed: u64) -> Scenario {
        let mut scenario = Scenario::draw(seed, self.members, self.profile);
        (scenario.options.synchronous_writes, scenario.options.synchronous_apply) = (false, false);
        let replica = scenario.replica.get_or_insert_with(plain_replica);
        replica.sessions = if self.workload.uses_sessions() { 10_000 } else { 0 };
        // How large queries are is for the user to say.
        let ReplicaLimits { max_query_bytes, max_waiting_query_bytes, .. } = ReplicaLimits::default();
        replica.limits = ReplicaLimits { max_query_bytes, max_waiting_query_bytes, ..replica.limits };
        scenario.workload.batch = 1;
        let (mut workload, mut stream) = (self.workload.clone(), Stream::named(seed, "tried queries", 0));
        // One that panics is asked again by the clients of the run, which say so.
        let has_none = |drawn: Result<Option<_>, _>| matches!(drawn, Ok(None));
        if (0..TRIED_QUERIES).all(|_| has_none(guarded("query", || workload.query(0, &mut stream)))) {
            scenario.workload.read = 0;
        }
        self.faults.iter().for_each(|(name, _)| scenario.add_custom_faults(name));
        scenario.options.max_payload_bytes = Options::default().max_payload_bytes;
        scenario
    }

    /// The world of a scenario, which must have full replicas.
    fn world<'t>(
        &self,
        scenario: &Scenario,
        tracer: Option<Tracer<'t>>,
        journal: Option<Journal>,
    ) -> Result<World<'t, Simulated<M, W>>, ScenarioError> {
        let limits = scenario.replica.as_ref().ok_or(ScenarioError::NoReplica)?.session_limits();
        let begin = self.begin.clone();
        let properties = self.properties.iter().map(|(name, make)| -> Named<M> { (*name, make()) });
        let faults = self.faults.iter().map(|(name, make)| -> NamedFault<M> { (*name, make()) });
        let demands = Demands { properties: properties.collect(), faults: faults.collect() };
        let simulated = Simulated::new(move || begin(), self.workload.clone(), demands, limits, journal);
        World::new(scenario, simulated, tracer)
    }

    /// Plays a scenario, and returns what it showed.
    ///
    /// # Errors
    ///
    /// If the scenario cannot be run.
    pub fn play(&self, scenario: &Scenario) -> Result<Report, TestError> {
        let world = self.world(scenario, None, None);
        Ok(world.map_err(|wrong| TestError::Scenario { seed: scenario.seed, wrong })?.run())
    }
}

/// A replica with a disk that does as it should.
fn plain_replica() -> ReplicaSpec {
    ReplicaSpec {
        segment_blocks: 64,
        cached_bytes: 1 << 26,
        apply_bytes: 1 << 20,
        chunk_bytes: 1 << 12,
        window: 4,
        keep_snapshots: 2,
        sessions: 10_000,
        session_idle: 1 << 30,
        old_wire: Vec::new(),
        forward: false,
        late: 0,
        limits: ReplicaLimits::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::kv::{Command, Kv};

    #[derive(Clone)]
    struct Puts;

    impl Workload for Puts {
        fn command(&mut self, _client: u64, stream: &mut Stream) -> Vec<u8> {
            Command::Put { key: &[stream.below(10) as u8], value: b"x" }.encode()
        }
    }

    fn puts() -> Test<Kv, Puts> {
        Test::new(Kv::default()).workload(Puts).seeds(0..3)
    }

    #[test]
    fn a_users_queries_may_be_as_large_as_they_are() {
        let test = puts().profile(Profile::Storage);
        let limits: Vec<_> =
            (0..50).map(|seed| test.scenario(seed).replica.expect("it has full replicas").limits).collect();
        let usual = ReplicaLimits::default();
        let of_queries = |limits: &ReplicaLimits| (limits.max_query_bytes, limits.max_waiting_query_bytes);
        assert!(limits.iter().all(|drawn| of_queries(drawn) == of_queries(&usual)));
        assert!(limits.iter().any(|drawn| drawn.max_requests < usual.max_requests), "the rest is drawn");
    }

    #[test]
    fn what_cannot_be_run_has_not_held() {
        assert_eq!(puts().members(0).run(), Err(TestError::NoMembers));
        let wrong = puts().members(100).run().expect_err("there are too many").to_string();
        assert!(wrong.starts_with("the scenario of seed 0 cannot be run: "), "{wrong}");
        let mut scenario = puts().scenario(1);
        scenario.replica = None;
        let wrong =
            puts().run_chosen(Chosen::Scenario(Box::new(scenario)), None).expect_err("nothing would run it");
        assert_eq!(wrong, TestError::Scenario { seed: 1, wrong: ScenarioError::NoReplica });
    }

    #[test]
    fn a_scenario_of_a_file_is_told_as_it_is() {
        let test = puts().invariant("there are three keys at most", |kv: &Kv| kv.len() <= 3);
        let scenario = test.scenario(0);
        let failed = test.run_chosen(Chosen::Scenario(Box::new(scenario.clone())), None);
        let Err(TestError::Failed(failed)) = failed else { panic!("it should fail: {failed:?}") };
        assert_eq!((&failed.scenario, failed.seed, failed.files.len()), (&scenario, None, 0));
        let text = failed.to_string();
        assert!(text.contains("The scenario in the file fails"), "{text}");
        assert!(!text.contains("KONTIKI_"), "what replays it is known: {text}");
    }
}
