//! What a sweep has shown as a JUnit report, which CI systems read: a case for each seed that failed, and one
//! for all that held.

use super::Cluster;
use super::summary::{Summary, Verdict};
use kontiki_sim::check::Check as _;
use kontiki_sim::check::bounded_work::BoundedWork;
use kontiki_sim::report::Failure;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What is violated where a mark was missed.
const REACH: &str = "Reach";

/// A case that failed.
struct Failed<'s> {
    name: String,
    property: &'s str,
    detail: String,
    /// How to see it again, or what would bring it about.
    remedy: String,
}

/// Writes the report to a file.
pub(super) fn save(verdict: &Verdict<'_>, path: &Path) -> Result<(), String> {
    fs::write(path, report(verdict)).map_err(|error| {
        format!("cannot write {}: {error}; name a file in a directory that can be written to", path.display())
    })
}

fn report(verdict: &Verdict<'_>) -> String {
    let Verdict { summary, cluster, .. } = verdict;
    let Summary { done, wall, failures, .. } = summary;
    let failed = failed(verdict);
    let class = format!("kontiki-sim.{}", cluster.profile());
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let (tests, millis) = (failed.len() + 1, wall.as_millis());
    let time = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    let _ = writeln!(
        xml,
        "<testsuite name=\"kontiki-sim, profile {}, members {}\" tests=\"{tests}\" failures=\"{}\" time=\"{time}\">",
        cluster.profile(),
        cluster.members,
        failed.len()
    );
    xml += "  <properties>\n";
    let hash = format!("{:016x}", summary.trace_hash);
    for (name, value) in [("seeds", summary.ranges()), ("trace hash", hash)] {
        let _ = writeln!(xml, "    <property name=\"{name}\" value=\"{}\"/>", escaped(&value));
    }
    xml += "  </properties>\n";
    let held = done.len() - failures.len() as u64;
    let _ =
        writeln!(xml, "  <testcase classname=\"{class}\" name=\"{held} seeds that hold\" time=\"{time}\"/>");
    for Failed { name, property, detail, remedy } in failed {
        let (property, detail, remedy) = (escaped(property), escaped(&detail), escaped(&remedy));
        let _ = writeln!(
            xml,
            "  <testcase classname=\"{class}\" name=\"{}\">\n    <failure type=\"{property}\" message=\"{property}: {detail}\">{remedy}</failure>\n  </testcase>",
            escaped(&name)
        );
    }
    xml + "</testsuite>\n"
}

fn failed<'s>(verdict: &'s Verdict<'s>) -> Vec<Failed<'s>> {
    let Verdict { summary, cluster, missed } = verdict;
    let violated = summary.failures.iter().map(|(seed, failure)| Failed {
        name: format!("seed {seed}"),
        property: &failure.property,
        detail: failure.detail.clone(),
        remedy: violated_remedy(cluster, *seed, failure),
    });
    let hung = summary.hung.iter().map(|hung| Failed {
        name: format!("seed {}", hung.seed),
        property: BoundedWork::NAME,
        detail: hung.detail(),
        remedy: cluster.command("replay", hung.seed),
    });
    let missed = missed.iter().map(|mark| Failed {
        name: format!("mark {}", mark.name()),
        property: REACH,
        detail: verdict.missed(*mark),
        remedy: mark.brought_about_by().to_owned(),
    });
    violated.chain(hung).chain(missed).collect()
}

/// Who had a part in a failure, and the commands that tell more of it, each in a line.
fn violated_remedy(cluster: &Cluster, seed: u64, failure: &Failure) -> String {
    let parts = failure.shown_parts().map(ToString::to_string);
    let commands = cluster.commands_for(seed, failure).map(|(name, command)| format!("{name}: {command}"));
    parts.chain(commands).collect::<Vec<_>>().join("\n")
}

/// A text as the value of an attribute or the content of an element. XML has no control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' => escaped += "&#10;",
            '\t' => escaped += "&#9;",
            c if c.is_control() || ['\u{fffe}', '\u{ffff}'].contains(&c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ProfileArg;
    use crate::cli::summary::MarkDemand;
    use kontiki_core::types::{NodeId, Term};
    use kontiki_sim::report::{Involvement, Mark, Part, Stamp};

    #[test]
    fn each_failure_is_a_case_and_its_text_is_escaped() {
        let mut summary = Summary::default();
        summary.done.add(0..10).unwrap();
        let detail = "entry <1:2> & \"others\"\u{1b}\nare lost".to_owned();
        let mut failure = Failure::new("Log Matching", detail, 3, 9);
        let (leader, since) = (NodeId::new(2).unwrap(), Stamp { step: 2, at: 5_000_000 });
        failure.parts.push(Part::of(leader, since, Involvement::Leads { term: Term::new(4) }));
        summary.failures.push((7, failure));
        let cluster = Cluster { members: 3, profile: ProfileArg::Storage };
        let mut verdict = summary.judge(&cluster, MarkDemand::Due);
        verdict.missed.push(Mark::Truncated);
        let xml = report(&verdict);
        let lines: Vec<_> = xml.lines().map(str::trim).collect();
        assert_eq!(
            lines[1],
            "<testsuite name=\"kontiki-sim, profile storage, members 3\" tests=\"3\" failures=\"2\" time=\"0.000\">"
        );
        assert!(lines.contains(&"<property name=\"seeds\" value=\"0..10\"/>"), "{xml}");
        assert!(xml.contains("name=\"9 seeds that hold\""), "{xml}");
        let failure = "<failure type=\"Log Matching\" message=\"Log Matching: entry &lt;1:2&gt; &amp; \
            &quot;others&quot;\u{fffd}&#10;are lost\">member 2 leads term 4, since step 2 (5.000 ms)\
            &#10;replay: cargo sim replay --seed 7 --members 3 --profile storage\
            &#10;trace: cargo sim replay --seed 7 --members 3 --profile storage --trace --from 2 --member 2\
            &#10;shrink: cargo sim shrink --seed 7 --members 3 --profile storage\
            &#10;explain: cargo sim explain --seed 7 --members 3 --profile storage\
            &#10;when: cargo sim when --seed 7 --members 3 --profile storage</failure>";
        assert!(lines.contains(&failure), "{xml}");
        assert!(xml.contains("name=\"mark truncated\"") && xml.contains("type=\"Reach\""), "{xml}");
    }
}
