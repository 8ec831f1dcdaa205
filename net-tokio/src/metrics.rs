//! The metrics of a member, for its operators.
//!
//! The driver reports events to [`Metrics`], at the cost of a few additions. [`Metrics::render`] combines
//! them with the member's current status into a page in the text format of Prometheus. All names begin with
//! `kontiki_`; units are seconds, bytes and entries.
//!
//! It also keeps the latest [`Event`]s as text, for people.

mod history;
mod text;

pub use history::{Event, MAX_EVENTS};
pub use text::{CONTENT_TYPE, Family, Kind, Sample, Value};

use crate::protocol::{MemberStatus, NodeStatus};
use crate::sync::lock;
use history::History;
use kontiki_core::membership::{MemberKind, Membership};
use kontiki_core::replica::ReplicaCounters;
use kontiki_core::status::{Drops, PauseReason, RoleKind, Space};
use kontiki_core::types::{Index, NodeId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use text::Page;

/// The metrics of one member. Clones share the same counters, which survive stops and restarts of the member.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    synced: Histogram,
    answered: Histogram,
    replicated: Histogram,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    requests: Mutex<BTreeMap<u16, u64>>,
    history: Mutex<History>,
}

/// A sample of the counters that the member keeps itself.
#[derive(Clone, Default, Debug)]
pub struct MetricsSample {
    /// The replica's counters.
    pub counters: ReplicaCounters,
    /// Messages that the kernel dropped.
    pub drops: Drops,
    /// Further families, such as the transport's.
    pub more: Vec<Family>,
}

impl Metrics {
    /// Records how long the disk took to make a batch of writes durable.
    pub fn synced(&self, took: Duration) {
        self.0.synced.observe(took);
    }

    /// Records the latency of a command, from its proposal here to its answer.
    pub fn applied(&self, took: Duration) {
        self.0.answered.observe(took);
    }

    /// Records the member's status. Call it at each change; more often does no harm.
    pub fn status(&self, status: &NodeStatus) {
        let now = Instant::now();
        let replicated = lock(&self.0.history).note(unix_millis(), now, status);
        if let Some(took) = replicated {
            self.0.replicated.observe(took);
        }
    }

    /// Records the membership in force, as far as this member knows it.
    pub fn membership(&self, me: NodeId, membership: &Membership) {
        lock(&self.0.history).note_members(unix_millis(), me, membership);
    }

    /// Counts a refused request, by the reason's code.
    pub fn refused(&self, code: &'static str) {
        add(&self.0.refused, code, 1);
    }

    /// Counts dropped messages, by the reason's code.
    pub fn dropped(&self, code: &'static str, count: u64) {
        add(&self.0.dropped, code, count);
    }

    /// Counts a response of the admin port, by HTTP status.
    #[cfg_attr(not(feature = "admin"), expect(dead_code, reason = "there is no admin port"))]
    pub(crate) fn served(&self, http_status: u16) {
        add(&self.0.requests, http_status, 1);
    }

    /// Returns the latest events, the oldest first: at most [`MAX_EVENTS`].
    pub fn events(&self) -> Vec<Event> {
        lock(&self.0.history).events().cloned().collect()
    }

    /// Returns all metrics in the text format of Prometheus ([`CONTENT_TYPE`]). `sample` is `None` if the
    /// member did not answer in time: the page says so, and shows the other metrics.
    pub fn render(
        &self,
        status: &NodeStatus,
        members: &[MemberStatus],
        sample: Option<&MetricsSample>,
    ) -> String {
        let mut page = Page::default();
        put_status(&mut page, status);
        put_members(&mut page, status, members);
        put_history(&mut page, &lock(&self.0.history));
        for (name, help, histogram) in [
            ("kontiki_fsync_seconds", "Time for the disk to make a batch of writes durable.", &self.0.synced),
            (
                "kontiki_proposal_seconds",
                "Latency of commands, from the proposal here to the answer.",
                &self.0.answered,
            ),
            (
                "kontiki_replication_seconds",
                "Time from append to commit at this leader; one entry at a time is timed.",
                &self.0.replicated,
            ),
        ] {
            page.histogram(name, help, &histogram.buckets(), histogram.sum.load(Ordering::Relaxed));
        }
        let mut put = |name, help, label, counts: Vec<(&str, u64)>| {
            for (value, count) in counts {
                page.add(name, help, Kind::Counter, &[(label, value)], Value::Whole(count));
            }
        };
        put("kontiki_refused_total", REFUSED, "code", copied(&self.0.refused));
        put("kontiki_dropped_total", DROPPED, "code", copied(&self.0.dropped));
        for (status, count) in copied(&self.0.requests) {
            put(
                "kontiki_admin_responses_total",
                "Responses of the admin port, by HTTP status.",
                "status",
                vec![(&status.to_string(), count)],
            );
        }
        let answers = u64::from(sample.is_some());
        page.add("kontiki_driver_answers", ANSWERS, Kind::Gauge, &[], Value::Whole(answers));
        if let Some(sample) = sample {
            put_sample(&mut page, sample);
        }
        page.finish()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

const REFUSED: &str = "Refused requests, by reason.";
const DROPPED: &str = "Dropped messages, by reason; the protocol tolerates loss.";
const ANSWERS: &str = "1 if the member's driver answered the admin port in time.";

fn put_status(page: &mut Page, status: &NodeStatus) {
    put_states(page, status);
    let at = Index::get;
    let gauges = [
        ("kontiki_term", "The member's current term.", status.term.get()),
        ("kontiki_leader_known", "1 if the member knows a leader.", u64::from(status.leader.is_some())),
        (
            "kontiki_leader_id",
            "The id of the leader; 0 if none is known.",
            status.leader.map_or(0, NodeId::get),
        ),
        ("kontiki_last_index", "Index of the last log entry.", at(status.last.index)),
        ("kontiki_durable_index", "Index of the last durable log entry.", at(status.durable.index)),
        ("kontiki_committed_index", "The commit index.", at(status.committed)),
        ("kontiki_applied_index", "Index of the last applied entry.", at(status.applied)),
        (
            "kontiki_snapshot_index",
            "Index of the last entry in the latest snapshot.",
            at(status.snapshot.index),
        ),
        (
            "kontiki_commit_lag_entries",
            "Log entries that are not known to be committed.",
            at(status.last.index).saturating_sub(at(status.committed)),
        ),
        (
            "kontiki_apply_lag_entries",
            "Committed entries that are not applied yet.",
            at(status.committed).saturating_sub(at(status.applied)),
        ),
    ];
    for (name, help, value) in gauges {
        page.add(name, help, Kind::Gauge, &[], Value::Whole(value));
    }
}

/// The metrics of which one is 1: identity, phase, role and space.
fn put_states(page: &mut Page, status: &NodeStatus) {
    let NodeStatus { cluster, member, .. } = status;
    let labels = [
        ("cluster", &*cluster.to_string()),
        ("member", &*member.id.to_string()),
        ("incarnation", &*member.incarnation.to_string()),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    page.add(
        "kontiki_info",
        "The member's identity and version; always 1.",
        Kind::Gauge,
        &labels,
        Value::Whole(1),
    );
    for phase in ["starting", "running", "refusing", "halted", "stopped"] {
        let value = Value::Whole(u64::from(status.phase.code() == phase));
        page.add("kontiki_phase", "1 for the member's phase.", Kind::Gauge, &[("phase", phase)], value);
    }
    for role in ROLES {
        let value = Value::Whole(u64::from(status.role == role));
        page.add(
            "kontiki_role",
            "1 for the member's role.",
            Kind::Gauge,
            &[("role", &role.to_string())],
            value,
        );
    }
    for space in Space::ALL {
        page.add(
            "kontiki_space",
            "1 for the state of the disk space, on this member and in the group.",
            Kind::Gauge,
            &[("space", space.code())],
            Value::Whole(u64::from(status.space == space)),
        );
    }
}

fn put_members(page: &mut Page, status: &NodeStatus, members: &[MemberStatus]) {
    for kind in [MemberKind::Voter, MemberKind::Witness, MemberKind::Learner] {
        let count = members.iter().filter(|member| member.kind == kind).count();
        page.add(
            "kontiki_members",
            "Members of the group, by kind.",
            Kind::Gauge,
            &[("kind", kind.code())],
            Value::Whole(count as u64),
        );
    }
    for other in members.iter().filter(|other| other.member.id != status.member.id) {
        let id = other.member.id.to_string();
        let mut put = |name, help, value: Option<Value>| {
            if let Some(value) = value {
                page.add(name, help, Kind::Gauge, &[("member", &id)], value);
            }
        };
        put(
            "kontiki_member_last_contact_seconds",
            "Time since the member was last heard from.",
            other.last_contact_ms.map(|millis| Value::Nanos(millis.saturating_mul(1_000_000))),
        );
        put(
            "kontiki_member_lag_entries",
            "Entries of the leader's log that the member lacks; on the leader only.",
            other.lag.map(Value::Whole),
        );
        put(
            "kontiki_member_matched_index",
            "Index through which the member's durable log matches the leader's; on the leader only.",
            other.matched.map(|index| Value::Whole(index.get())),
        );
        if status.leader == Some(status.member.id) {
            for reason in PauseReason::ALL {
                page.add(
                    "kontiki_member_paused",
                    "1 if the member takes no entries, by reason; on the leader only.",
                    Kind::Gauge,
                    &[("member", &id), ("reason", reason.code())],
                    Value::Whole(u64::from(other.paused == Some(reason))),
                );
            }
        }
    }
}

fn put_history(page: &mut Page, history: &History) {
    let counts = history.counts();
    for (name, help, count) in [
        ("kontiki_elections_total", "Elections in which this member was a candidate.", counts.elections),
        ("kontiki_elections_won_total", "Elections that this member won.", counts.won),
        ("kontiki_term_changes_total", "Increases of the term.", counts.terms),
        ("kontiki_leader_changes_total", "Changes of the known leader or its term.", counts.leaders),
        ("kontiki_committed_entries_total", "Entries committed.", counts.committed),
        ("kontiki_applied_entries_total", "Entries applied.", counts.applied),
    ] {
        page.add(name, help, Kind::Counter, &[], Value::Whole(count));
    }
}

fn put_sample(page: &mut Page, sample: &MetricsSample) {
    for (reason, count) in sample.drops.iter() {
        let labels = [("code", reason.code())];
        page.add("kontiki_dropped_total", DROPPED, Kind::Counter, &labels, Value::Whole(count));
    }
    let ReplicaCounters {
        bad_frames,
        unknown_versions,
        unsupported_version,
        unexpected_messages,
        pieces_sent,
        pieces_taken,
        pieces_dropped,
        pieces_asked_again,
        snapshots_taken,
        snapshots_fetched,
        snapshots_failed,
        fetches_resumed,
        forwarded,
    } = sample.counters;
    for (name, help, count) in [
        ("kontiki_bad_frames_total", "Frames that were damaged or could not be decoded.", bad_frames),
        ("kontiki_unknown_versions_total", "Frames of an unsupported version.", unknown_versions),
        (
            "kontiki_unsupported_version_total",
            "Messages not sent because the receiver supports only an older version.",
            unsupported_version,
        ),
        (
            "kontiki_unexpected_messages_total",
            "Messages from non-members, for other members, or without a matching request.",
            unexpected_messages,
        ),
        ("kontiki_snapshot_pieces_sent_total", "Snapshot chunks sent.", pieces_sent),
        ("kontiki_snapshot_pieces_taken_total", "Snapshot chunks received and used.", pieces_taken),
        ("kontiki_snapshot_pieces_dropped_total", "Snapshot chunks received and not used.", pieces_dropped),
        ("kontiki_snapshot_pieces_asked_again_total", "Snapshot chunks requested again.", pieces_asked_again),
        ("kontiki_snapshots_taken_total", "Snapshots taken by this member.", snapshots_taken),
        ("kontiki_snapshots_fetched_total", "Snapshots fetched completely.", snapshots_fetched),
        ("kontiki_snapshots_failed_total", "Snapshot fetches that failed.", snapshots_failed),
        (
            "kontiki_snapshot_fetches_resumed_total",
            "Snapshot fetches resumed from another member or after an interruption.",
            fetches_resumed,
        ),
        ("kontiki_forwarded_total", "Commands forwarded to the leader.", forwarded),
    ] {
        page.add(name, help, Kind::Counter, &[], Value::Whole(count));
    }
    sample.more.iter().for_each(|family| page.family(family));
}

const ROLES: [RoleKind; 5] =
    [RoleKind::Follower, RoleKind::PreCandidate, RoleKind::Candidate, RoleKind::Leader, RoleKind::Halted];

/// The upper bounds of the buckets, in nanoseconds and as text: from the latency of a fast disk to one that
/// no operator accepts.
const BOUNDS: [(u64, &str); 17] = [
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// A histogram of durations.
#[derive(Default)]
struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds: `u64` holds centuries.
    sum: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < nanos);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    fn buckets(&self) -> Vec<(&'static str, u64)> {
        let bounds = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        bounds.zip(&self.counts).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect()
    }
}

fn add<K: Ord>(counts: &Mutex<BTreeMap<K, u64>>, key: K, more: u64) {
    let mut counts = lock(counts);
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(more);
}

fn copied<K: Copy>(counts: &Mutex<BTreeMap<K, u64>>) -> Vec<(K, u64)> {
    lock(counts).iter().map(|(key, count)| (*key, *count)).collect()
}

/// Milliseconds since 1970 by the wall clock: shown to people, and compared with nothing.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
