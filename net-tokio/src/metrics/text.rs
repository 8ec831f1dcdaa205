//! The text format of Prometheus, version 0.0.4. It is written by hand because durations must be exact: they
//! are counted in whole nanoseconds and written as decimal fractions, which no client library does.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// The media type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only grows, and restarts with the process. Its name ends in `_total`.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Measurements counted by buckets.
    Histogram,
}

/// A metric with its samples under various labels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Family {
    /// The name: `kontiki_`, the metric, its unit, and `_total` for a counter.
    pub name: &'static str,
    /// The help text, one sentence.
    pub help: &'static str,
    /// The type.
    pub kind: Kind,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// A value with its labels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Label names and values. Keep the values few: the monitoring system keeps a time series for each set of
    /// them.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// A value with its unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// A count, or bytes.
    Whole(u64),
    /// A duration in nanoseconds, written in seconds.
    Nanos(u64),
}

/// The samples of one name, keyed by their labels, so that none occurs twice.
#[derive(Default)]
struct Written {
    help: &'static str,
    kind: &'static str,
    lines: BTreeMap<String, Value>,
    histograms: String,
}

/// A page under construction. It is always well-formed: each name occurs once, and each set of labels occurs
/// once under its name.
#[derive(Default)]
pub(super) struct Page(BTreeMap<&'static str, Written>);

impl Page {
    /// Adds the samples of a family. A sample with the labels of an earlier one is added to it.
    pub(super) fn family(&mut self, family: &Family) {
        for sample in &family.samples {
            let labels: Vec<_> = sample.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            self.add(family.name, family.help, family.kind, &labels, sample.value);
        }
    }

    /// Adds one sample.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: &[(&str, &str)],
        value: Value,
    ) {
        let written = self.written(name, help, kind);
        let line = written.lines.entry(labels_of(labels)).or_insert(Value::Whole(0));
        *line = line.plus(value);
    }

    /// Adds a histogram: the count of each bucket with its upper bound, and the sum in nanoseconds. The last
    /// bucket has no bound.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        buckets: &[(&str, u64)],
        sum: u64,
    ) {
        let written = self.written(name, help, Kind::Histogram);
        let (out, mut count) = (&mut written.histograms, 0_u64);
        for (bound, more) in buckets {
            count = count.saturating_add(*more);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_sum {}", Value::Nanos(sum));
        let _ = writeln!(out, "{name}_count {count}");
    }

    fn written(&mut self, name: &'static str, help: &'static str, kind: Kind) -> &mut Written {
        let written = self.0.entry(name).or_default();
        (written.help, written.kind) = (help, kind.word());
        written
    }

    /// Returns the whole page.
    pub(super) fn finish(self) -> String {
        let mut out = String::new();
        for (name, written) in &self.0 {
            let help = written.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", written.kind);
            for (labels, value) in &written.lines {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
            out.push_str(&written.histograms);
        }
        out
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Value {
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Self::Whole(a.saturating_add(b)),
            (Self::Nanos(a) | Self::Whole(a), Self::Nanos(b) | Self::Whole(b)) => {
                Self::Nanos(a.saturating_add(b))
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Nanos(nanos) => write!(f, "{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000),
        }
    }
}

fn labels_of(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let each: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", each.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_well_formed_however_it_is_filled() {
        let mut page = Page::default();
        page.add("b_total", "Two\nlines.", Kind::Counter, &[("why", "a \"b\" \\ c\nd")], Value::Whole(1));
        page.add("a_seconds", "A.", Kind::Gauge, &[], Value::Nanos(1_500_000_000));
        page.add("b_total", "Two\nlines.", Kind::Counter, &[("why", "a \"b\" \\ c\nd")], Value::Whole(2));
        page.histogram("c_seconds", "C.", &[("0.1", 2), ("+Inf", 1)], 7);
        let text = "# HELP a_seconds A.\n\
                    # TYPE a_seconds gauge\n\
                    a_seconds 1.500000000\n\
                    # HELP b_total Two\\nlines.\n\
                    # TYPE b_total counter\n\
                    b_total{why=\"a \\\"b\\\" \\\\ c\\nd\"} 3\n\
                    # HELP c_seconds C.\n\
                    # TYPE c_seconds histogram\n\
                    c_seconds_bucket{le=\"0.1\"} 2\n\
                    c_seconds_bucket{le=\"+Inf\"} 3\n\
                    c_seconds_sum 0.000000007\n\
                    c_seconds_count 3\n";
        assert_eq!(page.finish(), text);
    }
}
