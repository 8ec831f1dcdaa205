//! The program, as a person or a script meets it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kontiki-sim")).args(arguments).output().expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(arguments: &[&str]) -> Value {
    let output = sim(arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else")
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_run_in_json_is_one_object_with_the_promised_fields() {
    let report = json(&["run", "--seeds", "0..6", "--members", "3", "--format", "json"]);
    let fields = ["steps", "virtual_seconds", "elections", "commits"];
    assert!(fields.iter().all(|field| report[field].as_u64().is_some_and(|number| number > 0)), "{report}");
    assert_eq!(report["seeds"], 6);
    assert!(report["wall_seconds"].is_number());
    assert_eq!(report["failures"], Value::Array(vec![]));
    assert!(report["faults"]["crash"].is_u64());
    assert_eq!(report["trace_hash"].as_str().map(str::len), Some(16));
}

#[test]
fn the_trace_hash_of_a_range_does_not_depend_on_the_number_of_jobs() {
    let hash =
        |jobs| json(&["run", "--seeds", "0..12", "--format", "json", "--jobs", jobs])["trace_hash"].clone();
    assert_eq!(hash("1"), hash("4"));
}

#[test]
fn a_run_for_people_ends_with_what_was_found() {
    let text = stdout(&sim(&["run", "--seeds", "3"]));
    for words in
        ["1 seeds of 5 members, profile swarm: all properties held", "times real time", "crash_mid_step"]
    {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
}

#[test]
fn a_scenario_can_be_saved_edited_and_replayed() {
    let saved = stdout(&sim(&["scenario", "--seed", "9", "--members", "3"]));
    let file = scratch("nine.json");
    std::fs::write(&file, &saved).unwrap();
    let from_file = stdout(&sim(&["replay", file.to_str().unwrap()]));
    let from_seed = stdout(&sim(&["replay", "--seed", "9", "--members", "3"]));
    assert!(from_file.starts_with("all properties held"), "{from_file}");
    assert_eq!(from_file, from_seed);

    let mut edited: Value = serde_json::from_str(&saved).unwrap();
    edited["faults"] = Value::Array(vec![]);
    std::fs::write(&file, edited.to_string()).unwrap();
    assert_ne!(stdout(&sim(&["replay", file.to_str().unwrap()])), from_seed);
}

#[test]
fn a_trace_has_a_legend_a_line_a_step_and_an_end() {
    let text = stdout(&sim(&["replay", "--seed", "2", "--members", "3", "--trace", "--until", "50"]));
    assert!(text.starts_with("# step"), "{text}");
    let steps = text.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    assert!(steps.eq(1..=50), "{text}");
}

#[test]
fn a_trace_in_json_is_one_object_a_step() {
    let text =
        stdout(&sim(&["replay", "--seed", "2", "--members", "3", "--trace", "json", "--until", "300ms"]));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let step = lines.iter().find(|line| line["step"] == 1).expect("a first step");
    for field in
        ["time_ns", "member", "event", "actions", "role", "term", "vote", "last", "durable", "committed"]
    {
        assert!(step.get(field).is_some(), "{field} in {step}");
    }
    let times: Vec<_> = lines.iter().map(|line| line["time_ns"].as_u64().unwrap()).collect();
    assert!(times.is_sorted() && times.iter().all(|&time| time <= 300_000_000));
}

#[test]
fn a_wrong_call_says_in_one_line_what_to_do() {
    let file = scratch("broken.json");
    std::fs::write(&file, "{\"seed\": 1}").unwrap();
    let mut wrong: Value = serde_json::from_str(&stdout(&sim(&["scenario", "--seed", "1"]))).unwrap();
    wrong["workload"]["clients"] = 0.into();
    let no_clients = scratch("no_clients.json");
    std::fs::write(&no_clients, wrong.to_string()).unwrap();
    wrong["workload"]["clients"] = 1.into();
    wrong["faults"] =
        serde_json::json!([{"at_us": 1, "for_us": 1, "fault": {"isolate": {"member": "leaderr"}}}]);
    let no_target = scratch("no_target.json");
    std::fs::write(&no_target, wrong.to_string()).unwrap();
    wrong["faults"] = Value::Array(vec![]);
    wrong["options"]["heartbeat_interval"] = "50".into();
    let no_unit = scratch("no_unit.json");
    std::fs::write(&no_unit, wrong.to_string()).unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["replay"], "the following required arguments were not provided"),
        (
            &["replay", no_target.to_str().unwrap()],
            "expected the number of a member, from 1, or \"leader\" or \"next_leader\"",
        ),
        (&["replay", no_unit.to_str().unwrap()], "a time needs a unit: write it as 500ms, 10s or 2m"),
        (&["run", "--seeds", "9..3"], "write the smaller number first"),
        (&["run", "--seeds", "many"], "write 0..1000, or one seed"),
        (&["replay", "--seed", "1", "--until", "soon"], "write 1500ms, 2s, or the number of a step"),
        (&["replay", "/nowhere/at/all"], "name a file that"),
        (&["replay", file.to_str().unwrap()], "compare it with"),
        (&["replay", no_clients.to_str().unwrap()], "set at least 1"),
    ];
    for (arguments, mend) in cases {
        let output = sim(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.lines().next().is_some_and(|line| line.contains(mend)), "{arguments:?}: {said}");
    }
}

/// Runs the program with a standard output whose reader has gone.
fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki-sim"));
    command.args(arguments).stdout(writer).output().expect("the program runs")
}

/// Each line of a trace with a step is `STEP TIME MEMBER ...`.
#[test]
fn a_trace_shows_commands_as_what_they_are_and_only_what_was_asked_for() {
    let trace = |filters: &[&str]| {
        let all = ["replay", "--seed", "5", "--members", "3", "--trace", "--until", "300"];
        stdout(&sim(&[&all[..], filters].concat()))
    };
    assert!(trace(&[]).contains(":1 put k"), "{}", trace(&[]));
    let steps = |text: &str| {
        let fields = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.nth(1)?.to_owned()))
        });
        fields.collect::<Vec<(u64, String)>>()
    };
    let (all, some) = (steps(&trace(&[])), steps(&trace(&["--from", "120", "--member", "2"])));
    let wanted = |(step, member): &&(u64, String)| *step >= 120 && member == "2";
    assert!(!some.is_empty() && some.len() < all.len());
    assert_eq!(some, all.iter().filter(wanted).cloned().collect::<Vec<_>>());
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    for arguments in [
        &["scenario", "--seed", "5"][..],
        &["run", "--seeds", "0..2", "--members", "3"],
        &["replay", "--seed", "2", "--members", "3", "--trace"],
        &["--help"],
    ] {
        let output = unread(arguments);
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_call_that_names_nothing_to_run_hears_of_both_ways() {
    for (verb, ways) in [
        ("run", "<--seeds <SEEDS>|--for <TIME>>"),
        ("when", "<--seed <SEED>|FILE>"),
        ("replay", "<--seed <SEED>|FILES>"),
        ("shrink", "<--seed <SEED>|FILE>"),
    ] {
        let output = sim(&[verb]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(ways), "{said}");
    }
}

/// Commands that are larger than members take are never served: a failure that can be had from a correct
/// kernel, to see that failures are reported as they should be.
/// Writes a scenario whose one member refuses every proposal, so that its clients are never served.
fn unserved() -> PathBuf {
    let mut unserved: Value =
        serde_json::from_str(&stdout(&sim(&["scenario", "--seed", "1", "--members", "1"]))).unwrap();
    unserved["options"]["max_payload_bytes"] = 1.into();
    unserved["workload"]["read"] = 0.into();
    // Soon over, since an unoptimised build searches for the smallest.
    unserved["workload"]["timeout_us"] = 300_000.into();
    unserved["options"]["election_timeout_min"] = "150ms".into();
    unserved["options"]["election_timeout_max"] = "300ms".into();
    unserved["options"]["heartbeat_interval"] = "50ms".into();
    unserved["chaos_us"] = 300_000.into();
    (unserved["heal"], unserved["quiet"]) = ("everything".into(), false.into());
    let file = scratch("unserved.json");
    std::fs::write(&file, unserved.to_string()).unwrap();
    file
}

#[test]
fn a_failure_names_its_property_and_exits_with_one() {
    let file = unserved();
    let output = sim(&["replay", file.to_str().unwrap()]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|line| line.starts_with("FAILED  Liveness at step ")), "{text}");
    assert!(text.starts_with("# step"), "the last steps are shown under their legend:\n{text}");

    // Both searches come to their end: neither is cut short by the clock.
    let shrink = ["shrink", file.to_str().unwrap(), "--shrink-time", "10m"];
    let output = sim(&shrink);
    assert_eq!(output.status.code(), Some(1));
    let again = unread(&shrink);
    assert_eq!((again.status.code(), again.stderr), (Some(1), output.stderr));
    let smallest = scratch("smallest.json");
    std::fs::write(&smallest, &output.stdout).unwrap();
    assert!(stdout(&sim(&["replay", smallest.to_str().unwrap()])).contains("FAILED  Liveness at step "));

    let page = scratch("smallest.html");
    let explain = ["explain", file.to_str().unwrap(), "--shrink", "--when", "-o", page.to_str().unwrap()];
    let output = sim(&[&explain[..], &["--shrink-time", "10m"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).starts_with("Liveness at step "), "{output:?}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("\"property\":\"Liveness\""));

    let few = ["when", smallest.to_str().unwrap(), "--forks", "3", "--points", "3"];
    let when = sim(&few);
    assert_eq!(when.status.code(), Some(1), "it fails");
    let table = stdout(&when);
    assert!(table.contains("       0  ##########  3 of 3\n"), "{table}");
    assert!(table.contains("inevitable from the beginning: luck has no part in it"), "{table}");
    assert_eq!(stdout(&sim(&few)), table, "the same forks, the same table");
    let output = sim(&[&few[..], &["--format", "json"]].concat());
    let when: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&when["property"], &when["inevitable"]["from_step"]), (&"Liveness".into(), &0.into()));
    let output = sim(&["when", "--seed", "1", "--members", "3"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("violates nothing"), "{said}");

    let told = stdout(&sim(&["replay", smallest.to_str().unwrap(), "--story"]));
    assert!(told.contains("member 1 becomes leader of term 1") && told.contains(" Liveness: "), "{told}");

    let test = stdout(&sim(&["shrink", smallest.to_str().unwrap(), "--test", "--shrink-time", "10m"]));
    assert!(test.contains("#[test]\nfn liveness_holds_in_seed_"), "{test}");
    let (_, rest) = test.split_once("r#\"").expect("the scenario");
    let (scenario, _) = rest.split_once("\"#.parse()").expect("its end");
    let scenario: kontiki_sim::scenario::Scenario = scenario.parse().expect("a scenario");
    let failure = kontiki_sim::run(&scenario).expect("it can be run").failure.expect("it fails");
    assert_eq!(failure.property, "Liveness");
}

#[test]
fn a_page_is_written_of_a_seed_a_scenario_and_a_recording_and_of_nothing_else() {
    let page = scratch("page.html");
    let path = page.to_str().unwrap();
    let written = |arguments: &[&str]| {
        let output = sim(&[&["explain"], arguments, &["-o", path]].concat());
        assert!(output.status.success(), "{output:?}");
        assert!(stdout(&output).contains("page.html: "), "{output:?}");
        let page = std::fs::read_to_string(&page).expect("the page");
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{}", page.len());
        page
    };
    let of_seed = written(&["--seed", "5", "--members", "3"]);
    let file = scratch("explained.json");
    std::fs::write(&file, &sim(&["scenario", "--seed", "5", "--members", "3"]).stdout).unwrap();
    assert!(written(&[file.to_str().unwrap()]) == of_seed, "it is the same run");
    assert!(of_seed.contains("seed 5, 3 members"));

    let dir = scratch("explained");
    let record = ["replay", "--seed", "5", "--members", "3", "--record", dir.to_str().unwrap()];
    assert!(sim(&record).status.success());
    assert!(
        written(&[dir.join("member-2.rec").to_str().unwrap()]).contains(" of member 2 · Kontiki</title>")
    );

    let refused = |arguments: &[&str]| {
        let output = sim(&[&["explain"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let script = scratch("script.txt");
    std::fs::write(&script, "# A script.\ncluster 3\n").unwrap();
    let [script, file] = [&script, &file].map(|path| path.to_str().unwrap());
    assert!(refused(&[script]).contains("cargo run -p kontiki-tests --bin explain -- "));
    assert!(refused(&[file, file]).contains("name one file"));
    assert!(
        refused(&["--seed", "5", "-o", "/nowhere/page.html"]).contains("cannot write /nowhere/page.html")
    );
    assert!(refused(&[page.to_str().unwrap()]).contains("is no scenario"));
    assert!(refused(&["../README.md"]).contains("is no scenario"), "its first line begins like a comment");
    assert!(refused(&[]).contains("--seed"));
    let recording = dir.join("member-2.rec");
    assert!(refused(&[recording.to_str().unwrap(), "--when"]).contains("leave --when out"));
}

/// No seed ends in so short a time: what is said of one that does not end at all.
#[test]
fn a_seed_that_does_not_end_in_time_is_a_failure_with_the_command_that_replays_it() {
    let late = ["--seeds", "0..1000", "--members", "7", "--seed-timeout", "1ms"];
    let output = sim(&[&["run"], &late[..]].concat());
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let failed = text.split_once("FAILED  Bounded Work in seed ").expect("it is told").1;
    let (seed, _) = failed.split_once(':').expect("what is wrong with it");
    assert!(failed.contains(&format!("replay:  cargo sim replay --seed {seed} --members 7\n")), "{text}");

    let output = sim(&[&["run", "--format", "json"], &late[..]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["failures"][0]["property"], "Bounded Work");

    let output = sim(&["run", "--seeds", "1", "--seed-timeout", "60"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("unit"), "{said}");
}

/// Runs shards of 0..12, each of which keeps a report, and returns the paths of the reports.
fn shards(name: &str, count: u64) -> Vec<String> {
    let run = |number: u64| {
        let path = scratch(&format!("{name}-{number}.json"));
        let _ = std::fs::remove_file(&path);
        let path = path.to_str().unwrap().to_owned();
        let shard = format!("{number}/{count}");
        let output =
            sim(&["run", "--seeds", "0..12", "--members", "3", "--shard", &shard, "--report", &path]);
        assert!(output.status.success(), "{output:?}");
        path
    };
    (1..=count).map(run).collect()
}

fn merge<'a>(reports: impl IntoIterator<Item = &'a String>) -> Output {
    let mut arguments = vec!["merge", "--format", "json"];
    arguments.extend(reports.into_iter().map(String::as_str));
    sim(&arguments)
}

/// A report without what may differ from run to run.
fn totals(mut report: Value) -> Value {
    for field in ["wall_seconds", "processor_seconds"] {
        report.as_object_mut().unwrap().remove(field).expect("it was told");
    }
    report
}

#[test]
fn merged_shards_have_the_totals_and_the_trace_hash_of_one_run() {
    let whole = json(&["run", "--seeds", "0..12", "--members", "3", "--format", "json"]);
    let reports = shards("merged", 3);
    let output = merge(&reports);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(totals(serde_json::from_slice(&output.stdout).unwrap()), totals(whole));

    let output = merge(&reports[..2]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("seeds are missing: 8..12;"), "{said}");

    let output = merge([&reports[0], &reports[1], &reports[2], &reports[1]]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("seed 4 is doubled"), "{said}");
}

/// A killed shard leaves the report that it last wrote.
#[test]
fn a_shard_goes_on_where_its_report_ends() {
    let reports = shards("resumed", 1);
    let whole: Value = serde_json::from_slice(&merge(&reports).stdout).unwrap();
    let resume = |seeds: &str| sim(&["run", "--seeds", seeds, "--members", "3", "--report", &reports[0]]);
    // Nothing is to be done: a total that was edited stays.
    let mut edited: Value = serde_json::from_slice(&std::fs::read(&reports[0]).unwrap()).unwrap();
    edited["summary"]["counters"]["steps"] = 7.into();
    std::fs::write(&reports[0], edited.to_string()).unwrap();
    assert!(stdout(&resume("0..12")).contains("steps         7,"));
    // Seeds that are not done are run, and no others.
    edited["summary"]["done"] = serde_json::json!([[0, 4], [5, 12]]);
    std::fs::write(&reports[0], edited.to_string()).unwrap();
    assert!(resume("0..12").status.success());
    let one = json(&["run", "--seeds", "4", "--members", "3", "--format", "json"]);
    let resumed: Value = serde_json::from_slice(&merge(&reports).stdout).unwrap();
    assert_eq!(resumed["seeds"], whole["seeds"]);
    assert_eq!(resumed["steps"].as_u64(), one["steps"].as_u64().map(|steps| steps + 7));

    let output = resume("0..13");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("ranges of seeds differ"));
}

#[test]
fn a_report_that_does_not_fit_is_refused() {
    let reports = shards("refused", 2);
    let text: Value = serde_json::from_slice(&std::fs::read(&reports[1]).unwrap()).unwrap();
    let other = scratch("refused-other.json").to_str().unwrap().to_owned();
    let cases: [(&str, Value, &str); 8] = [
        ("/sweep/version", "0.0.0".into(), "versions of the program differ"),
        ("/sweep/program", 1.into(), "builds of the program differ"),
        ("/sweep/seeds/end", 13.into(), "ranges of seeds differ"),
        ("/sweep/cluster/members", 5.into(), "numbers of members differ"),
        ("/sweep/cluster/profile", "calm".into(), "profiles differ"),
        ("/sweep/cluster/members", 65.into(), "65 members are not between 1 and 64"),
        ("/shard", "1/2".into(), "it holds seeds that are not of shard 1/2"),
        ("/summary/done", serde_json::json!([[6, 8], [7, 9]]), "seed 7 is listed twice"),
    ];
    for (place, value, mend) in cases {
        let mut edited = text.clone();
        *edited.pointer_mut(place).expect(place) = value;
        std::fs::write(&other, edited.to_string()).unwrap();
        let output = merge([&reports[0], &other]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{place}: {said}");
        assert!(said.contains(mend), "{place}: {said}");
    }
    std::fs::write(&other, "{").unwrap();
    assert!(String::from_utf8(merge([&other]).stderr).unwrap().contains("is no report"));
}

/// The path of a file that is not there yet.
fn fresh(name: &str) -> String {
    let path = scratch(name);
    let _ = std::fs::remove_file(&path);
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_run_for_a_time_says_which_new_seeds_it_ran() {
    let report = fresh("timed.json");
    let timed = ["run", "--for", "1s", "--members", "3", "--format", "json", "--report", &report];
    let first = json(&timed);
    let range = |report: &Value| {
        let ranges = report["seed_ranges"].as_array().expect("ranges");
        assert_eq!(ranges.len(), 1, "{report}");
        (ranges[0][0].as_u64().unwrap(), ranges[0][1].as_u64().unwrap())
    };
    let (start, end) = range(&first);
    assert!(end > start);
    let again = json(&["run", "--seeds", &format!("{start}..{end}"), "--members", "3", "--format", "json"]);
    assert_eq!(totals(again), totals(first.clone()), "what it ran can be run again");
    assert_eq!(totals(json(&timed)), totals(first), "the time is up, so the report stays as it is");
    let merged = sim(&["merge", "--format", "json", &report]);
    assert_eq!(merged.status.code(), Some(0), "no seed is missing: {merged:?}");

    // As if it had had no time yet: another second is left.
    let mut edited: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    edited["summary"]["wall"] = serde_json::json!({ "secs": 0, "nanos": 0 });
    std::fs::write(&report, edited.to_string()).unwrap();
    let longer = json(&timed);
    let (goes_on, longer_end) = range(&longer);
    assert!(goes_on == start && longer_end > end, "the report goes on: {longer}");
    let other = json(&["run", "--for", "1s", "--members", "3", "--format", "json"]);
    assert!(range(&other).0 > longer_end, "another run begins behind it");

    let output = sim(&["run", "--for", "1ns"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("no seed was run in this time"), "{said}");
    let output = sim(&["run", "--for", "1s", "--shard", "1/2"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("--seeds"), "{said}");
    let output = sim(&["run", "--seeds", "0..12", "--members", "3", "--report", &report]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("differ"));
}

/// Starts a run, waits until it has ended a seed, and sends it SIGINT.
#[cfg(unix)]
fn interrupted(arguments: &[&str]) -> Output {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::Stdio;
    let mut run = Command::new(env!("CARGO_BIN_EXE_kontiki-sim"));
    run.args(["run", "--members", "3", "--progress", "1ms"]).args(arguments);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let mut stderr = BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains(" a second"), "a line says how far it is: {line}");
    // It writes on while it ends, and must not wait for us.
    let rest = std::thread::spawn(move || {
        let mut rest = Vec::new();
        stderr.read_to_end(&mut rest).map(|_| rest)
    });
    let killed = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut output = run.wait_with_output().unwrap();
    output.stderr = rest.join().unwrap().unwrap();
    output
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_finishes_its_seeds_and_prints_what_was_found() {
    let output = interrupted(&["--seeds", "7..", "--format", "json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "without an end, this is the end: {said}");
    assert!(said.contains("stopping"), "{said}");
    let totals: Value = serde_json::from_slice(&output.stdout).expect("the totals");
    assert_eq!(totals["seed_ranges"][0][0], 7);

    let report = fresh("interrupted.json");
    let run = ["--seeds", "0..1000000", "--format", "json", "--report", &report];
    let output = interrupted(&run);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "seeds are missing: {said}");
    assert!(said.contains("the same command goes on where its report ends"), "{said}");
    let first: Value = serde_json::from_slice(&output.stdout).expect("the totals");
    let output = interrupted(&run);
    let second: Value = serde_json::from_slice(&output.stdout).expect("the totals");
    assert!(second["seeds"].as_u64() > first["seeds"].as_u64(), "{first} {second}");
}

#[test]
fn a_junit_report_is_written_by_run_and_merge() {
    let (own, merged) = (fresh("own.xml"), fresh("merged.xml"));
    let reports = shards("junit", 2);
    assert!(sim(&["run", "--seeds", "0..12", "--members", "3", "--junit", &own]).status.success());
    assert!(sim(&["merge", "--junit", &merged, &reports[0], &reports[1]]).status.success());
    let [own, merged] = [own, merged].map(|path| std::fs::read_to_string(path).expect("it was written"));
    let without_times = |xml: &str| {
        let parts = xml.split(" time=\"").map(|part| part.split_once('"').map_or(part, |(_, rest)| rest));
        parts.collect::<String>()
    };
    assert!(own.contains("name=\"12 seeds that hold\""), "{own}");
    assert_eq!(without_times(&own), without_times(&merged));
    let output = sim(&["run", "--seeds", "1", "--members", "3", "--junit", "/nowhere/at/all.xml"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write /nowhere/at/all.xml"));
}

/// The command of a manifest in docs/sweeps, as words.
fn words(manifest: &str, text: &str) -> Vec<String> {
    let split = |command: &str| command.split_whitespace().map(|word| word.replace('"', "")).collect();
    match manifest.rsplit_once('.').expect("an extension").1 {
        "sbatch" => split(text.lines().find_map(|line| line.strip_prefix("exec ")).expect("a command")),
        "yaml" => {
            let command = text.lines().find_map(|line| line.trim().strip_prefix("command: "));
            serde_json::from_str(command.expect("a command")).expect("a list of words")
        }
        _ => {
            let job: Value = serde_json::from_str(text).expect("JSON");
            let shell = job["containerOverrides"]["command"].as_array().expect("a command");
            assert_eq!((shell.len(), &shell[0], &shell[1]), (3, &"sh".into(), &"-c".into()));
            split(shell[2].as_str().and_then(|line| line.strip_prefix("exec ")).expect("a command"))
        }
    }
}

/// Variables of the environment, and their values.
type Variables<'v> = &'v [(&'v str, &'v str)];

/// Each is run as task 2 of its array, over fewer seeds.
#[test]
fn the_manifests_run_the_shard_of_their_task() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sweeps");
    let slurm =
        [("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_MIN", "0"), ("SLURM_ARRAY_TASK_COUNT", "64")];
    let cases: [(&str, &str, Variables<'_>); 3] = [
        ("slurm.sbatch", "#SBATCH --array=0-63\n", &slurm),
        ("kubernetes.yaml", "completions: 64\n", &[("JOB_COMPLETION_INDEX", "2")]),
        ("aws-batch.json", "\"size\": 64 ", &[("AWS_BATCH_JOB_ARRAY_INDEX", "2")]),
    ];
    for (manifest, tasks, variables) in cases {
        let text = std::fs::read_to_string(docs.join(manifest)).expect("the manifest");
        assert!(text.contains(tasks), "{manifest} has 64 tasks");
        let mut command = words(manifest, &text);
        assert_eq!(command.remove(0), "kontiki-sim");
        let report = fresh(&format!("{manifest}.json"));
        let place = |option: &str| command.iter().position(|word| word == option).expect(option) + 1;
        let (seeds, path) = (place("--seeds"), place("--report"));
        assert!(
            command[path].contains(variables[0].0),
            "each task has a report of its own: {}",
            command[path]
        );
        command[seeds] = "0..128".to_owned();
        command[path] = report.clone();
        let mut run = Command::new(env!("CARGO_BIN_EXE_kontiki-sim"));
        let output = run.args(&command).envs(variables.iter().copied()).output().expect("the program runs");
        assert!(output.status.success(), "{manifest}: {output:?}");
        let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        assert_eq!((&report["shard"], &report["summary"]["done"][0][0]), (&"3/64".into(), &4.into()));
    }

    let output = sim(&["run", "--seeds", "0..128", "--shard", "auto"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("none of SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX and"), "{said}");
}

#[test]
fn a_sweep_that_misses_marks_fails_and_says_what_brings_them_about() {
    let small = ["run", "--seeds", "0..3", "--members", "3"];
    assert_eq!(sim(&small).status.code(), Some(0), "so few seeds must reach nothing");
    let output = sim(&[&small[..], &["--marks", "all"]].concat());
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let missed =
        "MISSED  mark `joint_left_by_another` was not reached in 3 seeds; it is due in 20,000\n  Depose ";
    assert!(text.contains(missed), "{text}");

    // A report in which one mark was never reached, as if many seeds had missed it.
    let report = fresh("missed.json");
    assert!(sim(&[&small[..], &["--report", &report]].concat()).status.success());
    let mut edited: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    edited["sweep"]["seeds"]["end"] = 300.into();
    edited["summary"]["done"] = serde_json::json!([[0, 300]]);
    let marks = edited["summary"]["counters"]["marks"].as_object_mut().unwrap();
    marks.values_mut().for_each(|count| *count = 1.into());
    std::fs::write(&report, edited.to_string()).unwrap();
    assert_eq!(sim(&["merge", &report]).status.code(), Some(0));
    edited["summary"]["counters"]["marks"]["thawed"] = 0.into();
    std::fs::write(&report, edited.to_string()).unwrap();
    let output = sim(&["merge", &report, "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let merged: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(merged["marks_missed"][0]["mark"], "thawed");
    assert_eq!(merged["marks_missed"].as_array().map(Vec::len), Some(1));
    assert_eq!(sim(&["merge", &report, "--marks", "none"]).status.code(), Some(0));
}

/// What an exploration has found is read by the commands that read a scenario.
#[test]
fn a_counterexample_is_replayed_explained_and_written_as_a_script() {
    let [file, page, script] = ["way.json", "way.html", "way.txt"].map(scratch);
    let way = r#"{"bounds": {"members": 2, "voters": 2, "terms": 1, "elections": 1, "proposals": 0, "crashes": 1},
        "path": [{"timeout": 0}, {"persisted": 0}, {"deliver": 0}, {"crash": [1, 1]}]}"#;
    std::fs::write(&file, way).unwrap();
    let [file, page, script] = [&file, &page, &script].map(|path| path.to_str().expect("text"));
    let lines = stdout(&sim(&["replay", file, "--trace"]));
    assert!(
        lines.contains("1>2 t1 RequestVote") && lines.contains("all properties held: 4 events"),
        "{lines}"
    );
    let told = stdout(&sim(&["explore", "--replay", file, "--script", script]));
    assert!(told.contains("     4  member 2 crashes with 1 of 1 writes on its disk"), "{told}");
    let script = std::fs::read_to_string(script).unwrap();
    assert!(script.contains("flush 2 1\ncrash 2\nrestart 2\n"), "{script}");
    assert!(stdout(&sim(&["explain", file, "-o", page])).contains("5 events"));
    assert!(std::fs::read_to_string(page).unwrap().contains("explored, 2 members, 4 events"));
    let refused = sim(&["explain", file, "--shrink", "-o", page]);
    let error = String::from_utf8(refused.stderr).expect("text");
    assert!(error.contains("what an exploration has found is shown as it is: leave --shrink out"), "{error}");
}

/// A search that is stopped goes on from its checkpoint, and ends as one that was not stopped.
#[test]
fn an_exploration_goes_on_from_its_checkpoint() {
    let file = scratch("exploration");
    let file = file.to_str().expect("text");
    let bounds = ["explore", "--members", "2", "--crashes", "1", "--instant-disks", "--format", "json"];
    let whole = json(&bounds);
    let stopped = json(&[&bounds[..], &["--max-states", "1000", "--checkpoint", file]].concat());
    assert_eq!((&stopped["complete"], &whole["complete"]), (&Value::Bool(false), &Value::Bool(true)));
    let resumed = json(&["explore", "--resume", file, "--format", "json"]);
    for field in ["states", "transitions", "depth", "complete"] {
        assert_eq!(resumed[field], whole[field], "{field}");
    }
    std::fs::write(file, "{}").unwrap();
    let refused = sim(&["explore", "--resume", file]);
    let error = String::from_utf8(refused.stderr).expect("text");
    assert!(error.contains("it is no checkpoint of this version of explore"), "{error}");
}
