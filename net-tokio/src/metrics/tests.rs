use super::*;
use crate::protocol::NodePhase;
use kontiki_core::types::{ClusterId, Incarnation, LogId, Member, Term};

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

fn follower() -> NodeStatus {
    NodeStatus {
        cluster: ClusterId(7),
        member: Member::new(id(1), Incarnation(9)),
        phase: NodePhase::Running,
        role: RoleKind::Follower,
        kind: MemberKind::Voter,
        term: Term::new(1),
        vote: None,
        leader: None,
        last: LogId::new(1, 5),
        durable: LogId::new(1, 5),
        committed: Index::new(3),
        applied: Index::new(2),
        snapshot: LogId::ZERO,
        configured: LogId::new(1, 1),
        space: Space::Free,
    }
}

fn texts(history: &History) -> Vec<&str> {
    history.events().map(|event| event.text.as_str()).collect()
}

#[test]
fn a_life_is_told_in_events_and_counted() {
    let (mut history, now) = (History::default(), Instant::now());
    let mut status = follower();
    let mut note = |change: &dyn Fn(&mut NodeStatus)| {
        change(&mut status);
        history.note(0, now, &status)
    };
    note(&|_| {});
    note(&|it| (it.role, it.term) = (RoleKind::Candidate, Term::new(2)));
    note(&|it| it.term = Term::new(3));
    note(&|_| {});
    note(&|it| (it.role, it.leader) = (RoleKind::Leader, Some(id(1))));
    note(&|it| it.committed = Index::new(5));
    note(&|it| (it.role, it.leader) = (RoleKind::Follower, None));
    note(&|it| (it.term, it.leader) = (Term::new(4), Some(id(2))));
    note(&|it| it.leader = None);
    note(&|it| it.leader = Some(id(2)));
    note(&|it| it.snapshot = LogId::new(3, 5));
    note(&|it| it.kind = MemberKind::Learner);
    note(&|it| it.phase = NodePhase::Halted("the disk failed".to_owned()));
    let told = [
        "this member is running",
        "this member is a candidate (term 3)",
        "this member was elected leader (term 3)",
        "this member stopped leading",
        "member 2 was elected leader (term 4)",
        "the leader was lost",
        "member 2 leads again",
        "the latest snapshot covers the log through entry 5",
        "this member is a learner of its group: it does not vote",
        "this member halted: the disk failed",
    ];
    assert_eq!(texts(&history), told);
    assert_eq!(history.events().nth(1).map(|event| event.times), Some(2), "two elections, told as one event");
    let counts = history.counts();
    assert_eq!((counts.elections, counts.won, counts.terms, counts.leaders), (2, 1, 3, 2));
    assert_eq!((counts.committed, counts.applied), (2, 0));
}

#[test]
fn changes_of_the_membership_are_told_by_member() {
    let mut history = History::default();
    let group = |voters: &[u64], learners: &[u64]| {
        let ids = |ids: &[u64]| ids.iter().map(|number| id(*number)).collect::<Vec<_>>();
        Membership::new(ids(voters), ids(learners)).unwrap()
    };
    for (voters, learners) in [
        (&[1, 2, 3][..], &[][..]),
        (&[1, 2, 3], &[4]),
        (&[1, 2, 3, 4], &[]),
        (&[1, 2, 4], &[]),
        (&[2, 4], &[]),
    ] {
        history.note_members(0, id(1), &group(voters, learners));
    }
    let back = Member::new(id(2), Incarnation(9));
    history.note_members(0, id(1), &Membership::of([back, Member::from(id(4))]).unwrap());
    let told = [
        "the members of the group: 1, 2, 3",
        "member 4 was added as a learner",
        "member 4 is a voter now",
        "member 3 was removed",
        "member 2 was added again, with an empty directory",
    ];
    assert_eq!(texts(&history), told, "what becomes of this member its own status tells");
}

#[test]
fn an_election_between_two_looks_is_counted_all_the_same() {
    let (mut history, now) = (History::default(), Instant::now());
    history.note(0, now, &follower());
    let won = NodeStatus { role: RoleKind::Leader, leader: Some(id(1)), term: Term::new(2), ..follower() };
    history.note(0, now, &won);
    assert_eq!((history.counts().elections, history.counts().won), (1, 1));
}

#[test]
fn only_the_latest_events_are_remembered() {
    let metrics = Metrics::default();
    for term in 1..=3 * MAX_EVENTS as u64 {
        metrics.status(&NodeStatus { term: Term::new(term), leader: Some(id(2)), ..follower() });
    }
    let events = metrics.events();
    assert_eq!(events.len(), MAX_EVENTS);
    assert_eq!(events[MAX_EVENTS - 1].text, "member 2 was elected leader (term 300)");
}

#[test]
fn a_leader_times_its_own_entries_until_they_are_committed() {
    let (mut history, start) = (History::default(), Instant::now());
    let at = |millis| start + Duration::from_millis(millis);
    let leader = |last, committed| NodeStatus {
        role: RoleKind::Leader,
        leader: Some(id(1)),
        last: LogId::new(1, last),
        committed: Index::new(committed),
        ..follower()
    };
    assert_eq!(history.note(0, at(0), &leader(5, 5)), None);
    assert_eq!(history.note(0, at(10), &leader(7, 5)), None, "entry 7 is timed from here");
    assert_eq!(history.note(0, at(12), &leader(9, 6)), None, "only one at a time");
    assert_eq!(history.note(0, at(15), &leader(9, 8)), Some(Duration::from_millis(5)));
    assert_eq!(history.note(0, at(20), &leader(10, 8)), None, "entry 10");
    let follower = NodeStatus { role: RoleKind::Follower, ..leader(10, 10) };
    assert_eq!(history.note(0, at(25), &follower), None, "who has lost the lead times nothing");
}

#[test]
fn each_measurement_is_in_the_bucket_that_bounds_it() {
    let histogram = Histogram::default();
    let micros = [1, 50, 51, 10_000_000, 10_000_001];
    micros.iter().for_each(|micros| histogram.observe(Duration::from_micros(*micros)));
    let filled: Vec<_> = histogram.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(filled, [("0.00005", 2), ("0.0001", 1), ("10", 1), ("+Inf", 1)]);
    assert_eq!(histogram.sum.load(Ordering::Relaxed), 20_000_103_000);
}

#[test]
fn every_sample_of_the_page_has_a_type_and_every_histogram_is_cumulative() {
    let metrics = Metrics::default();
    metrics.status(&follower());
    metrics.synced(Duration::from_micros(120));
    metrics.applied(Duration::from_millis(3));
    metrics.refused("busy");
    metrics.dropped("late", 3);
    metrics.served(401);
    let other = MemberStatus {
        member: Member::from(id(2)),
        address: None,
        kind: MemberKind::Voter,
        leads: false,
        last_contact_ms: Some(1500),
        matched: Some(Index::new(4)),
        lag: Some(1),
        paused: Some(PauseReason::DiskFull),
    };
    let family = Family {
        name: "kontiki_transport_bytes_total",
        help: "Bytes.",
        kind: Kind::Counter,
        samples: vec![Sample { labels: vec![("way", "sent".to_owned())], value: Value::Whole(8) }],
    };
    let sample = MetricsSample { more: vec![family], ..MetricsSample::default() };
    let page = metrics.render(&follower(), &[other], Some(&sample));
    check(&page).unwrap_or_else(|error| panic!("{error}\n{page}"));
    for line in [
        "kontiki_role{role=\"follower\"} 1",
        "kontiki_commit_lag_entries 2",
        "kontiki_apply_lag_entries 1",
        "kontiki_member_last_contact_seconds{member=\"2\"} 1.500000000",
        "kontiki_fsync_seconds_bucket{le=\"0.00025\"} 1",
        "kontiki_fsync_seconds_count 1",
        "kontiki_refused_total{code=\"busy\"} 1",
        "kontiki_dropped_total{code=\"late\"} 3",
        "kontiki_admin_responses_total{status=\"401\"} 1",
        "kontiki_transport_bytes_total{way=\"sent\"} 8",
        "kontiki_driver_answers 1",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is missing in:\n{page}");
    }
}

#[test]
fn a_member_that_does_not_answer_still_has_a_page() {
    let page = Metrics::default().render(&follower(), &[], None);
    check(&page).unwrap_or_else(|error| panic!("{error}\n{page}"));
    assert!(page.contains("\nkontiki_driver_answers 0\n") && !page.contains("kontiki_forwarded_total"));
}

/// The rules of the format, as far as this crate makes use of it.
fn check(page: &str) -> Result<(), String> {
    let (mut types, mut seen) = (BTreeMap::new(), std::collections::BTreeSet::new());
    let mut buckets: BTreeMap<&str, u64> = BTreeMap::new();
    let mut helped = None;
    if !page.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    for line in page.lines() {
        let wrong = |what: &str| Err(format!("{what}: {line}"));
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').map(|(name, _)| name);
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            if helped != Some(name) || types.insert(name, kind).is_some() {
                return wrong("the type does not follow the help, or is there twice");
            }
            continue;
        }
        let Some((series, value)) = line.rsplit_once(' ') else { return wrong("no value") };
        let name = series.split('{').next().unwrap_or_default();
        let bare =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let Some(kind) = types.get(name).or(types.get(bare)) else { return wrong("no type") };
        let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with("kontiki_") || !name.chars().all(is_legal) {
            return wrong("an ill-formed name");
        }
        if !seen.insert(series) {
            return wrong("a series that is there twice");
        }
        if (*kind == "counter") != name.ends_with("_total") {
            return wrong("counters alone end in _total");
        }
        if value.split('.').any(|part| part.parse::<u64>().is_err()) {
            return wrong("no number");
        }
        if name.ends_with("_bucket") {
            let count: u64 = value.parse().map_err(|_| format!("no count: {line}"))?;
            if buckets.insert(bare, count).is_some_and(|before| before > count) {
                return wrong("a bucket with less than the one before");
            }
        } else if *kind == "histogram"
            && name.ends_with("_count")
            && buckets.get(bare) != value.parse().ok().as_ref()
        {
            return wrong("the last bucket does not hold all");
        }
    }
    if types.is_empty() { Err("an empty page".to_owned()) } else { Ok(()) }
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let head = "# HELP kontiki_a A.\n# TYPE kontiki_a gauge\n";
    assert_eq!(check(&format!("{head}kontiki_a 1\n")), Ok(()));
    for wrong in ["kontiki_b 1\n", "kontiki_a 1\nkontiki_a 1\n", "kontiki_a one\n", "kontiki_a 1"] {
        assert!(check(&format!("{head}{wrong}")).is_err(), "{wrong}");
    }
    let head = "# HELP kontiki_a A.\n# TYPE kontiki_a histogram\n";
    let bucket = |le, count| format!("kontiki_a_bucket{{le=\"{le}\"}} {count}\n");
    assert!(check(&format!("{head}{}{}", bucket(1, 2), bucket(2, 1))).is_err());
    assert!(check(&format!("{head}{}kontiki_a_count 3\n", bucket(1, 2))).is_err());
}
