//! The node as seen by the admin port.

use crate::admin::{AdminBackend, BoxFuture};
use crate::metrics::{Family, Kind, Metrics, MetricsSample, Sample, Value};
use crate::node::{Node, begin, service};
use crate::protocol::{NodeStatus, Refused, Request, Response, Who};
use crate::record;
use crate::tls::Reloads;
use crate::transport::{self, PeerCounters};
use kontiki_core::log::Span;
use kontiki_core::raft::Retention;
use std::collections::BTreeMap;
use std::sync::PoisonError;

impl AdminBackend for Node {
    fn ask(&self, request: Request) -> BoxFuture<'_, Response> {
        let handle = self.0.handle.read().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            match handle {
                Some((handle, host)) => service::answer(request, &handle, &host).await,
                None => Response::refused(stopped()),
            }
        })
    }

    fn status(&self) -> NodeStatus {
        self.status()
    }

    fn sample(&self) -> BoxFuture<'_, MetricsSample> {
        Box::pin(async move {
            let counters = self.counters().await.unwrap_or_default();
            let mut more = vec![Family {
                name: "kontiki_waiting_requests",
                help: "Requests that wait for an answer.",
                kind: Kind::Gauge,
                samples: vec![whole(Vec::new(), counters.waiting as u64)],
            }];
            more.extend(of_log(&counters.retention, counters.segments));
            more.extend(counters.recorder.iter().flat_map(of_recorder));
            if let Some(host) = self.host()
                && let Some(transport) = host.transport()
            {
                more.extend(of_transport(&transport.counters()));
                more.extend(host.tls().map(|tls| of_tls(&tls.reloads())));
            }
            MetricsSample { counters: counters.replica, drops: counters.drops, more }
        })
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(self.options()).unwrap_or_default()
    }

    fn find<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Who, String>> {
        Box::pin(async move {
            let host = self.host().ok_or_else(|| stopped().text)?;
            let found = begin::who(address, host.tls()).await;
            found.map_err(|error| format!("cannot ask the member at {address}: {error}"))
        })
    }

    fn metrics(&self) -> &Metrics {
        self.metrics()
    }
}

fn stopped() -> Refused {
    let error = crate::node::Error::Stopped;
    Refused { code: error.code().to_owned(), text: error.to_string(), retry: true, leader: None }
}

fn whole(labels: Vec<(&'static str, String)>, value: u64) -> Sample {
    Sample { labels, value: Value::Whole(value) }
}

fn of_recorder(counters: &record::RecorderCounters) -> [Family; 5] {
    let family = |name, help, count| {
        let samples = vec![whole(Vec::new(), count)];
        Family { name, help, kind: Kind::Counter, samples }
    };
    [
        family("kontiki_recordings_total", "Recordings started.", counters.recordings),
        family("kontiki_recorded_bytes_total", "Bytes of recordings written.", counters.bytes),
        family("kontiki_recording_missed_total", "Steps not recorded.", counters.missed),
        family(
            "kontiki_recording_too_large_total",
            "Steps not recorded because the ring is too small.",
            counters.too_large,
        ),
        family("kontiki_recording_failures_total", "Failed writes of recordings.", counters.failures),
    ]
}

fn of_log(kept: &Retention, segments: usize) -> [Family; 3] {
    let runs = [
        ("snapshot_fetched", kept.fetching),
        ("retained_tail", kept.tail),
        ("next_snapshot", kept.applied),
        ("unapplied", kept.unapplied),
    ];
    let samples = |count: fn(&Span) -> u64| {
        runs.iter().map(|(why, span)| whole(vec![("why", (*why).to_owned())], count(span))).collect()
    };
    let family = |name, help, samples| Family { name, help, kind: Kind::Gauge, samples };
    [
        family(
            "kontiki_log_kept_bytes",
            "Bytes of entries retained in the log, by reason.",
            samples(|span| span.bytes),
        ),
        family(
            "kontiki_log_kept_entries",
            "Entries retained in the log, by reason.",
            samples(|span| span.entries),
        ),
        family("kontiki_log_segments", "Segment files of the log.", vec![whole(Vec::new(), segments as u64)]),
    ]
}

fn of_tls(reloads: &Reloads) -> Family {
    let sample = |result: &str, count| whole(vec![("result", result.to_owned())], count);
    Family {
        name: "kontiki_tls_reloads_total",
        help: "Changes of the TLS files, by whether the new material was accepted.",
        kind: Kind::Counter,
        samples: vec![sample("taken", reloads.taken), sample("refused", reloads.refused)],
    }
}

/// One metric of a peer: name, help text, kind and value.
type OfPeer = (&'static str, &'static str, Kind, fn(&PeerCounters) -> u64);

const OF_PEERS: [OfPeer; 7] = [
    ("kontiki_transport_sent_frames_total", "Frames sent to the member.", Kind::Counter, |it| it.sent_frames),
    ("kontiki_transport_sent_bytes_total", "Bytes sent to the member.", Kind::Counter, |it| it.sent_bytes),
    ("kontiki_transport_received_frames_total", "Frames received from the member.", Kind::Counter, |it| {
        it.received_frames
    }),
    ("kontiki_transport_received_bytes_total", "Bytes received from the member.", Kind::Counter, |it| {
        it.received_bytes
    }),
    (
        "kontiki_transport_failed_dials_total",
        "Failed attempts to connect to the member.",
        Kind::Counter,
        |it| it.failed_dials,
    ),
    ("kontiki_transport_outbound_connections", "Open connections to the member.", Kind::Gauge, |it| {
        it.outbound as u64
    }),
    ("kontiki_transport_inbound_connections", "Open connections from the member.", Kind::Gauge, |it| {
        it.inbound as u64
    }),
];

fn of_transport(counters: &transport::TransportCounters) -> Vec<Family> {
    let transport::TransportCounters { refused, peers, clients } = counters;
    let mut families: Vec<_> = OF_PEERS
        .into_iter()
        .map(|(name, help, kind, count)| {
            let sample = |(id, of): (_, &PeerCounters)| whole(vec![("member", format!("{id}"))], count(of));
            Family { name, help, kind, samples: peers.iter().map(sample).collect() }
        })
        .collect();
    let mut dropped = BTreeMap::new();
    for (why, count) in peers.values().flat_map(|peer| &peer.dropped) {
        *dropped.entry(why.as_str()).or_insert(0_u64) += count;
    }
    families.push(Family {
        name: "kontiki_transport_dropped_total",
        help: "Frames dropped before sending or on arrival, by reason.",
        kind: Kind::Counter,
        samples: dropped
            .into_iter()
            .map(|(why, count)| whole(vec![("code", why.to_owned())], count))
            .collect(),
    });
    families.push(Family {
        name: "kontiki_transport_refused_total",
        help: "Connections refused or closed, by reason.",
        kind: Kind::Counter,
        samples: refused
            .iter()
            .map(|(why, count)| whole(vec![("code", why.as_str().to_owned())], *count))
            .collect(),
    });
    families.push(Family {
        name: "kontiki_transport_clients",
        help: "Connected clients.",
        kind: Kind::Gauge,
        samples: vec![whole(Vec::new(), *clients as u64)],
    });
    families
}
