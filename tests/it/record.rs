//! Recordings: whatever a member lives through, it lives through again, from any step on, and comes to the
//! same.

use kontiki_core::config::Options;
use kontiki_core::raft::Raft;
use kontiki_core::record::{self, About, End, Recorder};
use kontiki_core::status::RoleKind;
use kontiki_core::wire;
use kontiki_sim::recording::{Replayed, Wrong, replay};
use kontiki_sim::scenario::{Profile, Scenario};

/// Lives of every kind: bare kernels and whole replicas, calm and not, and of one to seven members.
const LIVES: [(u64, u32, Profile); 9] = [
    (1, 1, Profile::Swarm),
    (2, 3, Profile::Calm),
    (3, 3, Profile::Chaos),
    (4, 5, Profile::Flaky),
    (5, 5, Profile::Swarm),
    (6, 7, Profile::Swarm),
    (7, 3, Profile::Storage),
    (8, 5, Profile::Storage),
    (9, 4, Profile::Storage),
];

fn recorded(seed: u64, members: u32, profile: Profile) -> Vec<Vec<u8>> {
    let scenario = Scenario::draw(seed, members, profile);
    let (report, lives) = kontiki_sim::run_recorded(&scenario).expect("every seed can be run");
    let unrecorded = kontiki_sim::run(&scenario).expect("every seed can be run");
    assert_eq!(report, unrecorded, "whether it is recorded makes no difference");
    assert_eq!(report.failure, None);
    assert_eq!(lives.len(), members as usize);
    lives
}

fn silently(bytes: &[u8]) -> Vec<Replayed> {
    replay(bytes, &mut |_| {}).expect("a recording")
}

/// A kernel as bytes, and what is read back from them.
fn through_bytes(raft: &Raft) -> Raft {
    let mut bytes = Vec::new();
    record::begin(&About::default(), raft, &mut bytes).expect("a small kernel");
    let found = record::recordings(&bytes).expect("a recording");
    found[0].play().expect("a whole beginning").raft().clone()
}

#[test]
fn every_simulated_life_is_lived_again_and_a_kernel_is_the_same_after_being_bytes() {
    let (mut steps, mut led, mut kernels) = (0, 0, 0_u64);
    for (seed, members, profile) in LIVES {
        for (life, number) in recorded(seed, members, profile).iter().zip(1..) {
            let of = format!("member {number} of seed {seed}, {members} members, {profile}");
            for recording in record::recordings(life).expect("a recording") {
                assert_eq!(recording.end(), End::Whole, "{of}");
                let mut player = recording.play().unwrap_or_else(|error| panic!("{of}: {error}"));
                while let Some(step) = player.next() {
                    let step = step.unwrap_or_else(|error| panic!("{of}: {error}"));
                    assert_eq!(step.difference(), None, "{of}");
                    steps += 1;
                    led += u64::from(step.replayed.after.role == RoleKind::Leader);
                    // All of them would take as long as the lives are long, squared.
                    if step.recorded.number % 16 == seed % 16 {
                        kernels += 1;
                        assert_eq!(
                            &through_bytes(player.raft()),
                            player.raft(),
                            "{of}, step {}",
                            step.recorded.number
                        );
                    }
                }
            }
        }
    }
    assert!(
        steps > 10_000 && led > 1_000 && kernels > 500,
        "{steps} steps, {led} of leaders, {kernels} kernels"
    );
}

#[test]
fn a_recording_can_begin_in_the_middle_of_a_life() {
    let life = &recorded(2, 3, Profile::Calm)[0];
    let mut player = record::recordings(life).expect("a recording")[0].play().expect("a beginning");
    let mut recorder = Recorder::default();
    let mut steps = 0;
    while let Some(recorded) = player.next_recorded() {
        let recorded = recorded.expect("a step");
        let late = recorded.number > 60;
        if late {
            recorder.begins(recorded.now, &recorded.event, player.raft());
        }
        let step = player.replay(recorded);
        if late {
            recorder.ends(&step.actions, player.raft());
            steps += 1;
        }
    }
    let replayed = silently(&recorder.take());
    assert!(steps > 20);
    assert_eq!((replayed.len(), replayed[0].same, &replayed[0].wrong), (1, steps, &None));
}

/// The frames of a recording, beside what it begins with.
fn frames(recording: &[u8]) -> Vec<&[u8]> {
    let mut rest = &recording[record::MAGIC.len()..];
    let mut frames = Vec::new();
    while !rest.is_empty() && !record::is_recording(rest) {
        let frame = wire::open(rest, usize::MAX).expect("a whole frame");
        frames.push(&rest[..frame.length]);
        rest = &rest[frame.length..];
    }
    frames
}

/// What a kernel with a mistake would do: the same steps, taken by a kernel that is a little different.
#[test]
fn a_kernel_that_behaves_differently_is_found_at_the_first_step_where_it_does() {
    let lives = recorded(2, 3, Profile::Calm);
    let led = |life: &&Vec<u8>| silently(life)[0].roles.iter().any(|(_, role)| *role == RoleKind::Leader);
    let whole = lives.iter().find(led).expect("a member led");
    let steps = frames(whole);
    let player = record::recordings(whole).expect("a recording")[0].play().expect("a beginning");
    let mut found = 0;
    let changes: [fn(&mut Options); 3] = [
        |options| options.seed ^= 1,
        |options| options.pre_vote = !options.pre_vote,
        |options| options.priority = 0,
    ];
    for change in changes {
        let mut options = player.raft().config().options().clone();
        change(&mut options);
        let identity = player.raft().config().identity();
        let config = kontiki_core::config::Config::new(identity, options).expect("legal options");
        let begin = Scenario::draw(2, 3, Profile::Calm).membership().expect("a legal group");
        let begin = kontiki_core::durable::Durable::bootstrap(begin);
        let now = player.clone().next().expect("a step").expect("a whole one").recorded.now;
        let other = Raft::restore(config, begin, now).expect("a whole disk");
        let mut bytes = Vec::new();
        record::begin(&About::default(), &other, &mut bytes).expect("a small kernel");
        bytes.extend(steps[2..].concat());
        match &silently(&bytes)[0].wrong {
            Some(Wrong::Different { difference, line }) => {
                found += 1;
                assert_eq!(difference.number, silently(&bytes)[0].same + 1);
                assert_ne!(difference.recorded, difference.replayed);
                assert!(line.contains(" => ") || line.contains(" t"), "{line}");
            }
            // What it is told is what another kernel would be told: it may see that as a breach of its
            // contract.
            Some(Wrong::Panicked { again: false, .. }) => found += 1,
            wrong => panic!("{wrong:?}"),
        }
    }
    assert_eq!(found, 3);
}

#[test]
fn a_flipped_bit_is_refused_and_a_torn_end_is_said() {
    let life = &recorded(2, 3, Profile::Calm)[1];
    let whole = silently(life);
    assert!(whole[0].held() && whole[0].end == End::Whole, "{}", whole[0]);
    for position in (0..life.len()).step_by(life.len() / 50 + 1) {
        let mut damaged = life.clone();
        damaged[position] ^= 0x10;
        let noticed = replay(&damaged, &mut |_| {})
            .map_or(true, |replayed| replayed.iter().any(|one| !one.held() || one.end != End::Whole));
        assert!(noticed, "byte {position} of {}", life.len());
    }
    let torn = silently(&life[..life.len() - 5]);
    let torn = torn.last().expect("one");
    assert!(torn.held() && torn.to_string().contains("its end is torn"), "{torn}");
}

#[test]
fn recordings_that_should_join_and_do_not_are_found() {
    let life = &recorded(2, 3, Profile::Calm)[0];
    let recording = record::recordings(life).expect("a recording")[0];
    let mut player = recording.play().expect("a beginning");
    let cut = 40;
    let before: Vec<_> = frames(life)[..2 + cut].concat();
    (&mut player).take(cut).for_each(drop);
    let goes_on = About { missed: Some(0), ..About::default() };
    for (steps, joins) in [(0, true), (1, false)] {
        (&mut player).take(steps).for_each(drop);
        let mut bytes = [&record::MAGIC, &before[..]].concat();
        record::begin(&goes_on, player.raft(), &mut bytes).expect("a small kernel");
        let replayed = silently(&bytes);
        assert_eq!((replayed.len(), replayed[0].same), (2, cut as u64));
        assert_eq!(replayed[1].held(), joins, "{}", replayed[1]);
        assert_eq!(replayed[1].wrong == Some(Wrong::Elsewhere), !joins);
    }
}
