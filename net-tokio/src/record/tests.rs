//! A group of one, whose life is recorded onto disks of every kind.

use super::*;
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::Proposal;
use kontiki_core::membership::Membership;
use kontiki_core::record::{End, Recording};
use kontiki_core::types::{ClusterId, Identity, NodeId, Payload, RequestId};
use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A member that does whatever is asked of it at once.
struct Life {
    raft: Raft,
    now: Instant,
    steps: u64,
    requests: u64,
}

impl Life {
    fn new(max_cached_bytes: u64) -> Self {
        let id = NodeId::new(1).unwrap();
        let options = Options { max_cached_bytes, ..Options::default() };
        let config = Config::new(Identity::new(ClusterId(7), id), options).unwrap();
        let group = Durable::bootstrap(Membership::of([id]).unwrap());
        let raft = Raft::restore(config, group, Instant::ZERO).unwrap();
        Self { raft, now: Instant::ZERO, steps: 0, requests: 0 }
    }

    /// One that leads already.
    fn leading(recorder: &mut FlightRecorder, max_cached_bytes: u64) -> Self {
        let mut life = Self::new(max_cached_bytes);
        life.now = life.raft.deadline();
        life.live(recorder, Event::Wake);
        life
    }

    /// Lives through an event, and whatever follows from it.
    fn live(&mut self, recorder: &mut FlightRecorder, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let before = self.raft.status();
            Watch::begins(recorder, self.now, &event, &self.raft);
            let actions = self.raft.step(self.now, event.clone());
            recorder.step(self.now, &event, &actions, &before, &self.raft);
            self.steps += 1;
            for action in actions {
                match action {
                    Action::Persist(write) => events.push_back(Event::Persisted(write.seq)),
                    Action::Apply { through } => events.push_back(Event::Applied(through)),
                    _ => {}
                }
            }
        }
    }

    fn propose(&mut self, recorder: &mut FlightRecorder, bytes: usize) {
        self.requests += 1;
        let payload = Payload::from(&vec![7; bytes][..]);
        self.live(recorder, Event::Propose(Proposal { request: RequestId(self.requests), payload }));
    }

    fn pass(&mut self, span: Nanos) {
        self.now = self.now + span;
    }
}

/// Waits until the writer has written everything.
fn settle(recorder: &FlightRecorder) {
    let begun = std::time::Instant::now();
    while !recorder.shared.lock().idle {
        assert!(begun.elapsed() < Duration::from_secs(60), "the writer is stuck");
        thread::yield_now();
    }
}

/// How many steps there are in a recording, all of them the same again, and the kernel after them.
fn replayed(recording: &Recording<'_>) -> (u64, Raft) {
    let mut player = recording.play().unwrap();
    let steps = player.by_ref().map(|step| assert_eq!(step.unwrap().difference(), None)).count();
    (steps as u64, player.raft().clone())
}

/// How many steps each recording holds, and what it says was missed before.
fn all_replayed(bytes: &[u8]) -> Vec<(u64, Option<u64>)> {
    let found = record::recordings(bytes).unwrap();
    found.iter().map(|one| (replayed(one).0, one.play().unwrap().about().missed)).collect()
}

fn paths() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("life.rec");
    let previous = directory.path().join("life.rec.previous");
    (directory, path, previous)
}

#[test]
fn what_is_recorded_is_lived_again() {
    let (_directory, path, previous) = paths();
    let mut recorder = FlightRecorder::create(&path, 1 << 20).unwrap();
    let mut life = Life::leading(&mut recorder, u64::MAX);
    (0..20).for_each(|_| life.propose(&mut recorder, 100));
    let counters = recorder.close();
    let bytes = fs::read(&path).unwrap();
    let length = bytes.len() as u64;
    assert_eq!(counters, RecorderCounters { recordings: 1, bytes: length, ..RecorderCounters::default() });
    let found = record::recordings(&bytes).unwrap();
    assert_eq!((found.len(), replayed(&found[0])), (1, (life.steps, life.raft)));
    let about = found[0].play().unwrap().about().clone();
    assert_eq!(about.missed, None);
    assert!(about.unix_millis.is_some_and(|millis| millis > 1_700_000_000_000), "{about}");
    assert!(!previous.exists());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_ring_does_not_grow_and_its_recordings_join() {
    let (_directory, path, previous) = paths();
    let mut recorder = FlightRecorder::create(&path, MIN_BYTES).unwrap();
    let mut life = Life::leading(&mut recorder, 4_000);
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    for round in 0..400 {
        (0..5).for_each(|_| life.propose(&mut recorder, 300));
        settle(&recorder);
        let (now, before) = (length(&path), length(&previous));
        assert!(now + before <= MIN_BYTES, "{now} and {before} bytes in round {round}");
    }
    let counters = recorder.close();
    assert!(counters.recordings > 10 && counters.bytes > 4 * MIN_BYTES, "{counters:?}");
    assert_eq!((counters.missed, counters.failures), (0, 0));
    let both = [fs::read(&previous).unwrap(), fs::read(&path).unwrap()].concat();
    let found = record::recordings(&both).unwrap();
    assert_eq!(found.len(), 2);
    let [first, last] = [replayed(&found[0]).1, replayed(&found[1]).1];
    assert_eq!((found[1].play().unwrap().raft(), last), (&first, life.raft));
    assert_eq!(found[1].play().unwrap().about().missed, Some(0));
}

#[test]
fn a_member_that_starts_again_leaves_the_life_before_alone() {
    let (_directory, path, previous) = paths();
    let mut steps = Vec::new();
    for life in 0..3 {
        let mut recorder = FlightRecorder::create(&path, 1 << 20).unwrap();
        let mut raft = Life::leading(&mut recorder, u64::MAX);
        (0..=life).for_each(|_| raft.propose(&mut recorder, 100));
        steps.push((raft.steps, None));
        drop(recorder);
        if life == 1 {
            // This one was killed while it wrote.
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(fs::metadata(&path).unwrap().len() - 3).unwrap();
            steps[1].0 -= 1;
        }
    }
    let bytes = fs::read(&path).unwrap();
    assert_eq!(all_replayed(&bytes), steps);
    let ends: Vec<_> =
        record::recordings(&bytes).unwrap().iter().map(|one| matches!(one.end(), End::Torn { .. })).collect();
    assert_eq!(ends, [false, true, false]);
    assert!(!previous.exists());
}

#[test]
fn the_event_that_a_kernel_did_not_survive_is_there() {
    let (_directory, path, _) = paths();
    let mut recorder = FlightRecorder::create(&path, 1 << 20).unwrap();
    let life = Life::leading(&mut recorder, u64::MAX);
    let fatal = Event::PeerUnreachable(NodeId::new(9).unwrap());
    Watch::begins(&mut recorder, life.now, &fatal, &life.raft);
    drop(recorder);
    let bytes = fs::read(&path).unwrap();
    let found = record::recordings(&bytes).unwrap();
    let last = found[0].play().unwrap().last().unwrap().unwrap();
    assert_eq!(
        (last.recorded.number, last.recorded.event, last.recorded.footprint),
        (life.steps + 1, fatal, None)
    );
}

#[test]
fn what_cannot_be_recorded_into_is_refused_and_left_alone() {
    let (_directory, path, previous) = paths();
    let kind =
        |path: &Path, bytes| FlightRecorder::create(path, bytes).map(drop).map_err(|error| error.kind());
    assert_eq!(kind(&path, MIN_BYTES - 1), Err(ErrorKind::InvalidInput));
    for foreign in [&path, &previous] {
        fs::write(foreign, "precious").unwrap();
        assert_eq!(kind(&path, MIN_BYTES), Err(ErrorKind::AlreadyExists));
        assert_eq!(fs::read(foreign).unwrap(), b"precious");
        fs::remove_file(foreign).unwrap();
    }
    assert_eq!(kind(&path.join("nowhere"), MIN_BYTES), Err(ErrorKind::NotFound));
    let first = FlightRecorder::create(&path, MIN_BYTES).unwrap();
    assert_eq!(kind(&path, MIN_BYTES), Err(ErrorKind::ResourceBusy));
    drop(first);
    assert_eq!(kind(&path, MIN_BYTES), Ok(()));
}

#[test]
fn a_kernel_that_is_too_large_for_the_ring_is_recorded_once_it_is_not() {
    let (_directory, path, _) = paths();
    let mut recorder = FlightRecorder::create(&path, MIN_BYTES).unwrap();
    let mut unrecorded = FlightRecorder::create(path.with_extension("other"), 1 << 20).unwrap();
    let mut life = Life::leading(&mut unrecorded, 100_000);
    let before = life.steps;
    (0..30).for_each(|_| life.propose(&mut unrecorded, 1_000));
    let large = life.steps - before;
    life.steps = 0;
    (0..3).for_each(|_| life.propose(&mut recorder, 1_000));
    assert_eq!((recorder.counters().missed, recorder.counters().too_large), (life.steps, life.steps));
    assert_eq!((recorder.counters().recordings, unrecorded.close().missed), (0, 0));
    assert!(large > 60);
    // One that has just started is small.
    let small = Life::leading(&mut recorder, 100_000);
    assert_eq!(recorder.close().recordings, 1);
    assert_eq!(all_replayed(&fs::read(&path).unwrap()), [(small.steps, Some(life.steps))]);
}

#[test]
fn a_step_that_is_too_large_for_the_ring_is_a_gap() {
    let (_directory, path, _) = paths();
    let mut recorder = FlightRecorder::create(&path, MIN_BYTES).unwrap();
    let mut life = Life::leading(&mut recorder, 0);
    life.propose(&mut recorder, 10);
    settle(&recorder);
    let before = life.steps;
    life.propose(&mut recorder, 9_000);
    let missed = recorder.counters();
    assert_eq!((missed.missed, missed.too_large), (life.steps - before, 1));
    life.pass(PAUSE);
    let begin = life.steps;
    life.propose(&mut recorder, 10);
    assert_eq!(recorder.close().missed, missed.missed);
    let expected = [(before, None), (life.steps - begin, Some(missed.missed))];
    assert_eq!(all_replayed(&fs::read(&path).unwrap()), expected);
}

#[test]
fn a_kernel_that_is_as_large_as_the_defaults_allow_fits_into_a_ring_of_256_mib() {
    let (limits, options) = (Limits::of(256 << 20), Options::default());
    assert!(options.max_cached_bytes + options.max_uncommitted_bytes / 4 <= limits.kernel);
    for bytes in [MIN_BYTES, 1 << 20, 256 << 20, 1 << 40] {
        let limits = Limits::of(bytes);
        let left = limits.file - limits.kernel - 2 * limits.waiting as u64;
        assert!(left >= bytes / 16, "{limits:?} leaves {left} bytes for steps");
    }
}

/// A disk that does one write for each leave that it is given, and then fails it or not.
struct Slow {
    leave: Receiver<bool>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Tape for Slow {
    fn begin(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.append(bytes).map(|()| bytes.len() as u64)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Once writes are no longer held up, it is as fast as any.
        let good = self.leave.recv().unwrap_or(true);
        let half = if good { bytes.len() } else { bytes.len() / 2 };
        self.written.lock().unwrap().extend_from_slice(&bytes[..half]);
        if good { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
    }
}

fn slow() -> (FlightRecorder, Sender<bool>, Arc<Mutex<Vec<u8>>>) {
    let (sender, leave) = channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let tape = Slow { leave, written: written.clone() };
    (FlightRecorder::over(tape, Limits::of(MIN_BYTES)).unwrap(), sender, written)
}

#[test]
fn a_slow_disk_makes_a_gap_and_delays_no_step() {
    let (mut recorder, leave, written) = slow();
    let mut life = Life::leading(&mut recorder, 0);
    // No write has been done: a caller that waited for one would wait for ever.
    (0..100).for_each(|_| life.propose(&mut recorder, 300));
    let gap = recorder.counters();
    assert!(gap.missed > 100 && gap.bytes == 0, "{gap:?}");
    drop(leave);
    settle(&recorder);
    life.pass(PAUSE);
    (0..3).for_each(|_| life.propose(&mut recorder, 300));
    let counters = recorder.close();
    assert_eq!((counters.missed, counters.failures, counters.recordings), (gap.missed, 0, 2));
    let recordings = all_replayed(&written.lock().unwrap());
    assert_eq!(recordings.len(), 2);
    assert_eq!(recordings[1].1, Some(gap.missed));
    assert_eq!(recordings[0].0 + gap.missed + recordings[1].0, life.steps);
}

#[test]
fn a_write_that_fails_is_counted_and_another_recording_follows() {
    for failing in 0..3 {
        let (mut recorder, leave, written) = slow();
        (0..failing).for_each(|_| leave.send(true).unwrap());
        leave.send(false).unwrap();
        drop(leave);
        let mut life = Life::leading(&mut recorder, 0);
        for _ in 0..10 {
            life.propose(&mut recorder, 300);
            settle(&recorder);
            life.pass(PAUSE);
        }
        let counters = recorder.close();
        assert_eq!(counters.failures, 1, "{counters:?}");
        assert!(counters.failure.is_some() && counters.missed > 0, "{counters:?}");
        let written = written.lock().unwrap();
        let found = record::recordings(&written).unwrap();
        let whole: Vec<_> = found.iter().filter_map(|one| one.play().ok().map(|_| replayed(one).0)).collect();
        let said: u64 = found.iter().filter_map(|one| one.play().ok()?.about().missed).sum();
        assert_eq!(said, counters.missed, "the gap is in the recording that follows it");
        // Those of a write that was half done are both there and missed.
        let steps = whole.iter().sum::<u64>() + counters.missed;
        assert!((life.steps..life.steps + 5).contains(&steps), "{whole:?} of {}", life.steps);
        assert_eq!(replayed(found.last().unwrap()).1, life.raft);
    }
}
