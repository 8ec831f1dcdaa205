//! The binary `kontiki` as used from a terminal: processes, signals, exit codes.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A bound for any wait on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn kontiki() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
    command.env_remove("KONTIKI_AT").env_remove("KONTIKI_LOG").env_remove("XDG_RUNTIME_DIR");
    command
}

/// Waits for a condition, and fails with its last description.
#[track_caller]
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match found() {
            Ok(found) => return found,
            Err(instead) if Instant::now() > until => panic!("{what} did not come about: {instead}"),
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}

/// A process that ends with the test, however the test ends.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the binary can be started"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.0.id()), signal).expect("the process is there");
    }

    fn exit(&mut self) -> ExitStatus {
        wait_for("the end of a process", || match self.0.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
    }

    fn kill(&mut self) {
        // A process that has already ended needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid(number: u32) -> Pid {
    i32::try_from(number).ok().and_then(Pid::from_raw).expect("the id of a process")
}

/// The output of a command, and its exit code.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let code = output.status.code().expect("no signal");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error} in {:?}, {:?}", self.out, self.err))
    }

    #[track_caller]
    fn is(&self, code: i32, out: &str) {
        assert_eq!((self.code, &*self.out), (code, out), "{}", self.err);
    }
}

/// Members of one group, each a process.
struct Group {
    directory: TempDir,
    addresses: Vec<String>,
    members: Vec<Option<Process>>,
    /// Arguments of all members and clients.
    more: Vec<String>,
    /// A library preloaded into members: system calls that hang.
    preload: Option<PathBuf>,
}

impl Group {
    /// Describes a group, and starts no member.
    fn of(count: usize, more: &[String]) -> Self {
        // All are bound before any is released, so that none is used twice.
        let held: Vec<_> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound port").to_string();
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            addresses: held.iter().map(address).collect(),
            members: (0..count).map(|_| None).collect(),
            more: more.to_vec(),
            preload: None,
        }
    }

    fn started(count: usize) -> Self {
        let mut group = Self::of(count, &[]);
        (1..=count).for_each(|id| group.start(id, &[]));
        group
    }

    fn data(&self, id: usize) -> PathBuf {
        self.directory.path().join(id.to_string())
    }

    /// Starts a member as one of the first of the group.
    fn start(&mut self, id: usize, more: &[&str]) {
        let peers: Vec<_> =
            (1..).zip(&self.addresses).map(|(id, address)| format!("{id}={address}")).collect();
        let peers = peers.join(",");
        self.start_with(id, &[&["--peers", &peers], more].concat());
    }

    fn start_with(&mut self, id: usize, more: &[&str]) {
        let log = self.directory.path().join(format!("{id}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = kontiki();
        command.args(["serve", "--id", &id.to_string(), "--listen", &self.addresses[id - 1], "--data"]);
        command.arg(self.data(id)).args(more).args(&self.more).stderr(log);
        if let Some(preload) = &self.preload {
            command.env("LD_PRELOAD", preload).env("HANG", self.hang(id));
        }
        self.members[id - 1] = Some(Process::spawn(&mut command));
    }

    /// While this file exists, the member's disk hangs.
    fn hang(&self, id: usize) -> PathBuf {
        self.directory.path().join(format!("{id}.hang"))
    }

    fn member(&mut self, id: usize) -> &mut Process {
        self.members[id - 1].as_mut().expect("it was started")
    }

    fn kill(&mut self, id: usize) {
        self.member(id).kill();
        self.members[id - 1] = None;
    }

    fn log(&self, id: usize) -> String {
        fs::read_to_string(self.directory.path().join(format!("{id}.log"))).expect("a log")
    }

    /// Runs a client's command.
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = kontiki();
        command.args(arguments).args(&self.more).env("KONTIKI_AT", self.addresses.join(","));
        Ran::of(command.stdin(Stdio::null()).output().expect("the binary can be run"))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--format", "json"]].concat()).json()
    }

    fn leader(&self) -> usize {
        wait_for("a leader", || {
            let status = self.json(&["status", "--timeout", "2s"]);
            status["leader"]
                .as_u64()
                .ok_or_else(|| format!("{status}"))
                .map(|id| usize::try_from(id).expect("small"))
        })
    }

    /// Returns a member's own status.
    fn status(&self, id: usize) -> Value {
        self.json(&["status", "--timeout", "2s", "--at", &self.addresses[id - 1]])
    }
}

#[test]
fn a_group_of_processes_serves_its_clients_and_survives_its_leader() {
    let mut group = Group::started(3);
    group.run(&["put", "colour", "red", "--timeout", "60s"]).is(0, "done\n");
    group.run(&["get", "colour"]).is(0, "red\n");
    group.run(&["get", "colour", "--raw", "--via", "lease"]).is(0, "red");
    group.run(&["get", "nothing"]).is(1, "");
    assert_eq!(group.json(&["get", "nothing"])["found"], false);
    group.run(&["cas", "colour", "--expect", "green", "blue"]).is(1, "not done: its value is red\n");
    group.run(&["cas", "colour", "--expect", "red", "green"]).is(0, "done\n");
    group.run(&["cas", "size", "--absent", "big"]).is(0, "done\n");
    group.run(&["scan"]).is(0, "KEY     VALUE\ncolour  green\nsize    big\n");
    let scanned = group.json(&["scan", "--limit", "1"]);
    assert_eq!((&scanned["entries"][0]["key"], &scanned["more"]), (&"colour".into(), &true.into()));
    group.run(&["scan", "d"]).is(0, "KEY   VALUE\nsize  big\n");
    group.run(&["delete", "size"]).is(0, "done\n");
    group.run(&["delete", "size"]).is(1, "it had no value\n");

    let before = group.leader();
    let members = group.json(&["members"]);
    let members = members["members"].as_array().expect("a list");
    let leads: Vec<_> =
        members.iter().filter(|member| member["is_leader"] == true).map(|member| &member["id"]).collect();
    assert_eq!((members.len(), leads), (3, vec![&Value::from(before)]));
    let last = group.json(&["logs", "-n", "1000"]);
    let contents: Vec<_> =
        last["entries"].as_array().expect("a list").iter().map(|entry| &entry["command"]).collect();
    assert!(contents.contains(&&serde_json::json!({ "put": "colour", "value": "red" })), "{contents:?}");
    assert!(contents.contains(&&serde_json::json!({ "delete": "size" })), "{contents:?}");

    group.kill(before);
    group.run(&["put", "colour", "blue", "--timeout", "60s"]).is(0, "done\n");
    group.run(&["get", "colour", "--timeout", "60s"]).is(0, "blue\n");
    let each = group.run(&["status", "--each", "--timeout", "5s"]);
    assert_eq!(each.code, 3, "one does not answer: {}", each.out);
    assert!(
        each.out.contains("no answer") && each.out.lines().all(|line| line.chars().count() <= 100),
        "{}",
        each.out
    );
    assert_ne!(group.leader(), before);

    group.start(before, &[]);
    wait_for("the return of the killed member", || {
        let status = group.status(before);
        let leader = group.status(group.leader());
        let same = status["phase"] == "running" && status["applied_index"] == leader["applied_index"];
        if same { Ok(()) } else { Err(format!("{status} of {leader}")) }
    });
    assert_eq!(group.run(&["status", "--each"]).code, 0);

    // Each stops when asked to, and reports it by its exit code.
    for id in 1..=3 {
        group.member(id).signal(Signal::TERM);
        assert_eq!(group.member(id).exit().code(), Some(0), "{}", group.log(id));
    }
}

#[test]
fn a_member_stops_in_time_also_when_its_disk_hangs() {
    let mut group = Group::of(3, &[]);
    let preload = group.directory.path().join("hang.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hang.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&preload).args([source, "-ldl"]).status();
    if !compiled.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no C compiler to make a disk hang with");
        return;
    }
    group.preload = Some(preload);
    (1..=3).for_each(|id| group.start(id, &["--shutdown-timeout", "1s"]));
    group.run(&["put", "a", "1", "--timeout", "60s"]).is(0, "done\n");
    let leader = group.leader();
    fs::write(group.hang(leader), "").expect("a file");
    group.run(&["put", "b", "2", "--timeout", "60s"]).is(0, "done\n");
    group.member(leader).signal(Signal::TERM);
    assert_eq!(group.member(leader).exit().code(), Some(4));
    let log = group.log(leader);
    assert!(log.contains("its disk has not finished writing"), "{log}");

    fs::remove_file(group.hang(leader)).expect("it was there");
    group.start(leader, &["--shutdown-timeout", "600s"]);
    wait_for("the member is back", || match group.status(leader) {
        status if status["leader"].is_u64() => Ok(()),
        status => Err(status.to_string()),
    });
    fs::write(group.hang(leader), "").expect("a file");
    group.run(&["put", "c", "3", "--timeout", "60s"]).is(0, "done\n");
    let stops = group.log(leader).matches(" stops ").count();
    group.member(leader).signal(Signal::TERM);
    wait_for("it stops", || match group.log(leader) {
        log if log.matches(" stops ").count() > stops => Ok(()),
        log => Err(log),
    });
    group.member(leader).signal(Signal::TERM);
    assert_eq!(group.member(leader).exit().code(), Some(4));
    assert!(group.log(leader).contains("ends at once"), "{}", group.log(leader));

    // Nothing that was acknowledged is lost, whatever the disk had not written.
    fs::remove_file(group.hang(leader)).expect("it was there");
    group.start(leader, &[]);
    for (key, value) in [("a", "1\n"), ("b", "2\n"), ("c", "3\n")] {
        group.run(&["get", key, "--timeout", "60s"]).is(0, value);
    }
}

#[test]
fn a_value_may_be_any_bytes_from_a_file() {
    let group = Group::started(1);
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut put = kontiki();
    put.args(["put", "bytes", "-", "--timeout", "60s", "--at", &group.addresses[0]]).stdin(Stdio::piped());
    let mut put = Process(put.spawn().expect("the binary can be run"));
    put.0.stdin.take().expect("a pipe").write_all(&bytes).expect("it reads");
    assert_eq!(put.exit().code(), Some(0));
    let mut raw = kontiki();
    let got = raw.args(["get", "bytes", "--raw", "--at", &group.addresses[0]]).output().expect("it runs");
    assert!(got.stdout == bytes, "{} bytes, {}", got.stdout.len(), String::from_utf8_lossy(&got.stderr));
    assert!(
        group.json(&["get", "bytes"])["value"]["base64"]
            .as_str()
            .is_some_and(|text| text.starts_with("AAEC"))
    );
}

#[test]
fn members_come_and_go_and_hand_over() {
    let mut group = Group::started(3);
    group.run(&["put", "colour", "red", "--timeout", "60s"]).is(0, "done\n");
    // The fourth is in no list, and joins.
    let seed = group.addresses[0].clone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    group.addresses.push(listener.local_addr().expect("a bound port").to_string());
    group.members.push(None);
    drop(listener);
    group.start_with(4, &["--join", &seed]);
    let kind = |group: &Group, id: u64| {
        let members = group.json(&["members"])["members"].as_array().cloned().unwrap_or_default();
        members.into_iter().find(|member| member["id"] == id).map(|member| member["kind"].clone())
    };
    let becomes = |group: &Group, id, wanted: Option<&str>| {
        wait_for("another kind", || match kind(group, id) {
            found if found.as_ref().and_then(Value::as_str) == wanted => Ok(()),
            found => Err(format!("{found:?} instead of {wanted:?}; its log:\n{}", group.log(4))),
        });
    };
    becomes(&group, 4, Some("voter"));
    let address = group.addresses[3].clone();
    let again = group.run(&["add", "4", "--address", &address]);
    assert_eq!(again.code, 1, "{}", again.out);
    let other = group.json(&["add", "5", "--address", &address]);
    assert_eq!(other["error"]["code"], "other_member", "{other}");
    assert_eq!(group.run(&["demote", "4"]).code, 0);
    becomes(&group, 4, Some("learner"));
    assert_eq!(group.run(&["promote", "4"]).code, 0);
    becomes(&group, 4, Some("voter"));

    let (before, next) = (group.leader(), group.leader() % 3 + 1);
    let transferred = group.run(&["transfer", &next.to_string()]);
    assert_eq!(transferred.code, 0, "{}", transferred.err);
    assert_ne!(next, before);
    let snapshot = group.json(&["snapshot", "--at", &address]);
    assert!(snapshot["snapshot"]["index"].as_u64().is_some_and(|index| index > 0), "{snapshot}");
    assert_eq!(group.json(&["remove", "4"])["done"], "removed");
    becomes(&group, 4, None);
    let gone = group.json(&["remove", "4"]);
    assert_eq!(gone["error"]["outcome"], "not_done", "{gone}");
    group.run(&["get", "colour"]).is(0, "red\n");
}

#[test]
fn when_no_member_is_reached_the_exit_code_and_the_message_say_so() {
    let group = Group::of(1, &[]);
    let put = group.run(&["put", "a", "b", "--timeout", "200ms", "--format", "json"]);
    let error = &put.json()["error"];
    assert_eq!((put.code, &error["code"], &error["outcome"]), (3, &"deadline".into(), &"not_done".into()));
    let put = group.run(&["put", "a", "b", "--timeout", "200ms"]);
    assert!(
        put.err.starts_with("error: not done within ") && put.err.contains(&group.addresses[0]),
        "{}",
        put.err
    );

    // There is no other way to find a group: no address, and no running `kontiki dev`.
    let nowhere = TempDir::new().expect("a directory");
    let mut command = kontiki();
    command.env("XDG_RUNTIME_DIR", nowhere.path()).args(["get", "a"]);
    let ran = Ran::of(command.output().expect("it runs"));
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("KONTIKI_AT") && ran.err.contains("kontiki dev"), "{}", ran.err);
}

#[test]
fn a_member_that_cannot_start_or_go_on_says_why() {
    let mut group = Group::started(3);
    group.run(&["put", "a", "b", "--timeout", "60s"]).is(0, "done\n");
    // A second process on the same directory.
    let elsewhere =
        TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("a bound port");
    let mut second = kontiki();
    second.args(["serve", "--id", "1", "--listen", &elsewhere.to_string(), "--data"]).arg(group.data(1));
    let second = Ran::of(second.output().expect("it runs"));
    assert_eq!(second.code, 1);
    assert!(second.err.contains("in use"), "{}", second.err);
    // Another member's directory.
    group.kill(1);
    let mut other = kontiki();
    other.args(["serve", "--id", "2", "--listen", &elsewhere.to_string(), "--data"]).arg(group.data(1));
    let other = Ran::of(other.output().expect("it runs"));
    assert_eq!(other.code, 1);
    assert!(other.err.contains("member 1"), "{}", other.err);
    // It is a voter to its group, and returns configured as a witness: it refuses all requests, and reports
    // this to every client.
    group.start(1, &["--witness"]);
    let address = group.addresses[0].clone();
    wait_for("its refusal", || {
        let status = group.run(&["status", "--timeout", "2s", "--at", &address]);
        let refuses = status.code == 4 && status.out.contains("refuses all requests: ");
        if refuses { Ok(()) } else { Err(format!("{} {}", status.out, status.err)) }
    });
    // One that is configured as a first member of a group that was founded without it.
    let mut late = Group::of(4, &[]);
    late.addresses[..3].clone_from_slice(&group.addresses);
    late.start(4, &[]);
    assert_eq!(late.member(4).exit().code(), Some(4), "{}", late.log(4));
    assert!(late.log(4).contains("error: member 4 halted: group "), "{}", late.log(4));
}

#[test]
fn a_member_reads_its_configuration_and_refuses_a_wrong_one() {
    let mut group = Group::of(1, &[]);
    let file = group.directory.path().join("kontiki.toml");
    fs::write(&file, "[raft]\nelection_timeout_min = \"20ms\"\nelection_timeout_max = \"40ms\"\nheartbeat_interval = \"5ms\"\n")
        .expect("it can be written");
    let file = file.display().to_string();
    group.start(1, &["--config", &file]);
    group.run(&["put", "a", "b", "--timeout", "60s"]).is(0, "done\n");
    group.kill(1);
    // Each is valid by itself, but not together.
    for (options, words) in [
        (
            "[raft]\nelection_timeout_min = \"400ms\"\n",
            "election_timeout_min 400ms is not below election_timeout_max",
        ),
        ("[transport]\nidle_timeout = \"1s\"\n", "keep_alive"),
        ("[raft]\nelection_timeout_max = \"500\"\n", "\"500\": a time needs a unit"),
    ] {
        fs::write(&file, options).expect("it can be written");
        group.start(1, &["--config", &file]);
        assert_eq!(group.member(1).exit().code(), Some(2), "{}", group.log(1));
        assert!(group.log(1).contains(words), "{words}: {}", group.log(1));
    }
    fs::write(&file, "[raft]\nelection_timeout = \"20ms\"\n").expect("it can be written");
    group.start(1, &["--config", &file]);
    assert_eq!(group.member(1).exit().code(), Some(2));
    assert!(
        group.log(1).contains("kontiki.toml") && group.log(1).contains("election_timeout_min"),
        "{}",
        group.log(1)
    );
}

#[test]
fn with_certificates_only_those_are_served_who_have_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let flags = |name: &str| {
        let path = |name: &str| directory.path().join(name).display().to_string();
        [
            "--tls-ca",
            &path("ca.pem"),
            "--tls-cert",
            &path(&format!("{name}.pem")),
            "--tls-key",
            &path(&format!("{name}.key")),
        ]
        .map(str::to_owned)
    };
    certificates(directory.path());
    let mut group = Group::of(1, &flags("member"));
    group.start(1, &[]);
    group.more = flags("client").to_vec();
    group.run(&["put", "a", "b", "--timeout", "60s"]).is(0, "done\n");
    group.more.clear();
    let stranger = group.run(&["get", "a", "--timeout", "1s"]);
    assert_eq!((stranger.code, &*stranger.out), (3, ""), "{}", stranger.err);
    group.more = flags("missing").to_vec();
    let wrong = group.run(&["get", "a", "--timeout", "1s"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    assert!(wrong.err.contains("missing.pem"), "{}", wrong.err);
}

#[test]
fn certificates_are_replaced_while_the_member_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let flags = |name: &str| {
        let [ca, certificate, key] = ["ca.pem", &format!("{name}.pem"), &format!("{name}.key")].map(path);
        ["--tls-ca".to_owned(), ca, "--tls-cert".to_owned(), certificate, "--tls-key".to_owned(), key]
    };
    certificates(directory.path());

    // A client's certificate does not make a member.
    let mut group = Group::of(1, &flags("client"));
    group.start(1, &[]);
    assert_eq!(group.member(1).exit().code(), Some(2), "{}", group.log(1));
    assert!(group.log(1).contains("it lacks the DNS name member.kontiki"), "{}", group.log(1));

    let config = path("kontiki.toml");
    for (interval, signals) in [("20ms", false), ("1440m", true)] {
        fs::write(&config, format!("[transport]\ntls_interval = \"{interval}\"\n"))
            .expect("it can be written");
        group.more = flags("member").to_vec();
        group.start(1, &["--config", &config]);
        group.more = flags("client").to_vec();
        group.run(&["put", "a", "b", "--timeout", "60s"]).is(0, "done\n");
        // Another authority, and everything signed by it.
        certificates(directory.path());
        if signals {
            group.member(1).signal(Signal::HUP);
        }
        group.run(&["get", "a", "--timeout", "60s"]).is(0, "b\n");
        // The key of another certificate is refused, and reported.
        fs::copy(path("client.key"), path("member.key")).expect("it can be written");
        if signals {
            group.member(1).signal(Signal::HUP);
        }
        wait_for("word of the broken files", || {
            let log = group.log(1);
            if log.contains("the old is kept") { Ok(()) } else { Err(log) }
        });
        group.run(&["get", "a"]).is(0, "b\n");
        group.kill(1);
        certificates(directory.path());
        fs::remove_file(group.directory.path().join("1.log")).expect("a log");
    }
}

/// A certificate for a member and one for a client, of one authority.
fn certificates(directory: &Path) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, key).expect("a certificate");
    fs::write(directory.join("ca.pem"), authority.pem()).expect("it can be written");
    for (name, names) in [("member", vec!["member.kontiki".to_owned()]), ("client", vec![])] {
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).expect("it can be written");
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).expect("it can be written");
    }
}

#[test]
fn a_group_goes_on_from_one_survivor() {
    let mut group = Group::started(3);
    group.run(&["put", "colour", "red", "--timeout", "60s"]).is(0, "done\n");
    let survivor = group.leader();
    // With a snapshot below its log, and entries above it.
    assert_eq!(group.run(&["snapshot"]).code, 0);
    group.run(&["put", "size", "big"]).is(0, "done\n");
    let (id, data) = (survivor.to_string(), group.data(survivor));
    let recover = |more: &[&str]| {
        let mut command = kontiki();
        command.args(["recover", "--force-new-cluster", "--id", &id, "--data"]).arg(&data).args(more);
        Ran::of(command.stdin(Stdio::null()).output().expect("it runs"))
    };
    let yes = "--yes-i-lose-what-others-had";
    let running = recover(&[yes]);
    assert_eq!(running.code, 1, "{}", running.out);
    assert!(running.err.contains("in use"), "{}", running.err);
    (1..=3).for_each(|id| group.kill(id));
    let unasked = recover(&[]);
    assert_eq!(unasked.code, 2, "{}", unasked.out);
    let recovered = recover(&[yes, "--format", "json"]);
    assert_eq!(recovered.code, 0, "{}{}", recovered.out, recovered.err);
    let kept = PathBuf::from(recovered.json()["kept"].as_str().expect("a path"));
    assert!(kept.join("identity.json").is_file() && kept != data);

    group.start_with(survivor, &[]);
    group.run(&["get", "colour", "--timeout", "60s"]).is(0, "red\n");
    group.run(&["get", "size"]).is(0, "big\n");
    group.run(&["put", "colour", "blue"]).is(0, "done\n");
    let members = group.json(&["members"]);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1), "{members}");
    // If one of the others returns after all, it is of another group, and does not disturb this one.
    let other = survivor % 3 + 1;
    group.start(other, &[]);
    wait_for("the return of a dead member", || match group.status(other)["phase"].as_str() {
        Some("running") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let own = group.addresses[survivor - 1].clone();
    group.run(&["get", "colour", "--at", &own]).is(0, "blue\n");
    assert_ne!(group.status(other)["cluster_id"], group.status(survivor)["cluster_id"]);
}

/// `kontiki dev`, and the processes it may leave behind.
struct Dev {
    runtime: TempDir,
    process: Process,
}

impl Dev {
    fn start(more: &[&str]) -> Self {
        let runtime = tempfile::tempdir().expect("a directory");
        let mut command = kontiki();
        command.args(["dev", "--format", "json"]).args(more);
        command.env("XDG_RUNTIME_DIR", runtime.path()).env("TMPDIR", runtime.path());
        let file = |name| File::create(runtime.path().join(name)).expect("a file");
        command.stdout(file("out")).stderr(file("err"));
        Self { process: Process::spawn(&mut command), runtime }
    }

    /// Returns what it prints once there is a leader.
    fn introduction(&self) -> Value {
        wait_for("an introduction", || {
            let text =
                fs::read_to_string(self.runtime.path().join("out")).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| format!("{error} in {text:?}"))
        })
    }

    /// Waits for a line on its error stream.
    fn says(&self, words: &str) {
        wait_for(words, || {
            let text =
                fs::read_to_string(self.runtime.path().join("err")).map_err(|error| error.to_string())?;
            if text.contains(words) { Ok(()) } else { Err(text) }
        });
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = kontiki();
        command
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.runtime.path())
            .env("TMPDIR", self.runtime.path());
        Ran::of(command.output().expect("it runs"))
    }
}

/// Returns the admin port's answer to a request without a token.
fn http(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text
}

fn pids(introduction: &Value) -> Vec<u32> {
    let members = introduction["running"]["members"].as_array().expect("a list");
    members
        .iter()
        .map(|member| u32::try_from(member["pid"].as_u64().expect("a number")).expect("small"))
        .collect()
}

fn wait_for_the_end_of(pids: &[u32]) {
    wait_for("the end of all members", || {
        let left: Vec<_> = pids.iter().filter(|number| test_kill_process(pid(**number)).is_ok()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) }
    });
}

#[test]
fn dev_runs_a_group_that_other_commands_find_and_leaves_nothing_behind() {
    let mut dev = Dev::start(&[]);
    let introduction = dev.introduction();
    let pids = pids(&introduction);
    assert_eq!(pids.len(), 3);
    dev.run(&["put", "colour", "red"]).is(0, "done\n");
    let admin = introduction["running"]["members"][0]["admin"].as_str().expect("an address");
    let page = http(admin, "/status");
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("</html>"), "{page}");
    assert!(http(admin, "/info").starts_with("HTTP/1.1 401 "), "a request without a token gets nothing");
    let leader = introduction["leader"].as_u64().expect("a number");
    let victim = pids[usize::try_from(leader).expect("small") - 1];
    kill_process(pid(victim), Signal::KILL).expect("it runs");
    dev.run(&["put", "colour", "blue", "--timeout", "60s"]).is(0, "done\n");
    dev.run(&["get", "colour", "--timeout", "60s"]).is(0, "blue\n");
    dev.process.signal(Signal::INT);
    assert_eq!(dev.process.exit().code(), Some(0));
    wait_for_the_end_of(&pids);
    let left: Vec<_> = fs::read_dir(dev.runtime.path())
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left.len(), 2, "out and err, and nothing of the group: {left:?}");
}

#[test]
fn dev_starts_dead_members_again_and_keeps_data_where_it_is_told_to() {
    let data = tempfile::tempdir().expect("a directory");
    let directory = data.path().display().to_string();
    let mut dev = Dev::start(&["--data", &directory, "--restart", "--members", "1"]);
    let first = dev.introduction();
    dev.run(&["put", "colour", "red"]).is(0, "done\n");
    kill_process(pid(pids(&first)[0]), Signal::KILL).expect("it runs");
    dev.run(&["get", "colour", "--timeout", "60s"]).is(0, "red\n");
    dev.process.signal(Signal::TERM);
    assert_eq!(dev.process.exit().code(), Some(0));

    let mut dev = Dev::start(&["--data", &directory, "--members", "1"]);
    let second = dev.introduction();
    dev.run(&["get", "colour"]).is(0, "red\n");
    assert_eq!(first["running"]["members"][0]["address"], second["running"]["members"][0]["address"]);
    // Killed itself, it leaves no member behind.
    let pids = pids(&second);
    dev.process.kill();
    wait_for_the_end_of(&pids);
    assert_eq!(dev.run(&["get", "colour"]).code, 2, "what it wrote counts no more");
}

#[test]
fn dev_says_who_leads_after_a_transfer_and_lets_no_second_take_its_place() {
    let mut dev = Dev::start(&[]);
    let introduction = dev.introduction();
    let next = introduction["leader"].as_u64().expect("a number") % 3 + 1;
    let second = dev.run(&["dev"]);
    assert_eq!(second.code, 1, "{}", second.err);
    let process = format!("process {}", dev.process.0.id());
    assert!(
        second.err.contains("runs on this machine already") && second.err.contains(&process),
        "{}",
        second.err
    );
    // Commands go to the first group as before.
    assert_eq!(dev.run(&["transfer", &next.to_string()]).code, 0);
    dev.says(&format!("Member {next} leads."));

    // A member that was restarted by hand, as suggested, keeps its directory.
    let victim = usize::try_from(next % 3).expect("small");
    kill_process(pid(pids(&introduction)[victim]), Signal::KILL).expect("it runs");
    dev.says("To start it again");
    let advice = fs::read_to_string(dev.runtime.path().join("err")).expect("text");
    let advice = advice.lines().find(|line| line.contains(" serve --id ")).expect("advice");
    let log = File::create(dev.runtime.path().join("by-hand")).expect("a file");
    let mut by_hand = kontiki();
    let mut by_hand = Process::spawn(by_hand.args(advice.split_whitespace().skip(1)).stderr(log));
    wait_for("the member that was started by hand", || {
        let status = dev.run(&["status", "--each", "--timeout", "2s"]);
        if status.code == 0 { Ok(()) } else { Err(status.out) }
    });
    dev.process.signal(Signal::TERM);
    assert_eq!(dev.process.exit().code(), Some(0));
    dev.says(&format!("Member {} was started by hand and still runs", victim + 1));
    let data = advice.split_whitespace().skip_while(|word| *word != "--data").nth(1).expect("a directory");
    assert!(Path::new(data).join("lock").exists(), "{data}");
    by_hand.signal(Signal::TERM);
    assert_eq!(by_hand.exit().code(), Some(0));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let group = Group::of(1, &[]);
    for (arguments, code) in [
        (&["completions", "bash"][..], 0),
        (&["--help"], 0),
        (&["get", "a", "--timeout", "50ms", "--format", "json"], 3),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = kontiki();
        command.args(arguments).env("KONTIKI_AT", &group.addresses[0]).stdout(writer);
        let ran = Ran::of(command.output().expect("it runs"));
        assert_eq!((ran.code, &*ran.err), (code, ""), "{arguments:?}");
    }
    // A closed error stream is no failure either.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = kontiki();
    command.args(["get", "a", "--timeout", "50ms", "--at", &group.addresses[0]]).stderr(writer);
    assert_eq!(Ran::of(command.output().expect("it runs")).code, 3);
}

#[test]
fn what_is_wrong_is_named_with_its_size_and_its_limit() {
    let group = Group::started(1);
    group.run(&["put", "a", "b", "--timeout", "60s"]).is(0, "done\n");
    let long = "k".repeat(4097);
    let ran = group.run(&["put", &long, "v"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("the key has 4097 bytes, and the store takes at most 4096"), "{}", ran.err);
    let ran = group.run(&["remove", "99"]);
    assert!(ran.code == 1 && ran.err.contains("the group has no member 99"), "{}", ran.err);
    let ran = group.run(&["get", "a", "--at", "nonsense"]);
    assert!(
        ran.code == 2 && ran.err.contains("\"nonsense\" is not an address: write HOST:PORT"),
        "{}",
        ran.err
    );
}

/// The log is bounded by its bytes: 60 values of a megabyte, with a snapshot every four, leave a handful of
/// files.
#[test]
fn the_log_on_the_disk_does_not_keep_what_snapshots_have() {
    let mut group = Group::of(1, &[]);
    let file = group.directory.path().join("kontiki.toml");
    let options = "[raft]\nretained_bytes = 4194304\n[replica]\nsnapshot_every_bytes = 4194304\n[wal]\nsegment_bytes = 4194304\n";
    fs::write(&file, options).expect("it can be written");
    group.start(1, &["--config", &file.display().to_string()]);
    for _ in 0..60 {
        let mut put = kontiki();
        put.args(["put", "k", "-", "--timeout", "60s", "--at", &group.addresses[0]]).stdin(Stdio::piped());
        let mut put = Process(put.stdout(Stdio::null()).spawn().expect("the binary can be run"));
        put.0.stdin.take().expect("a pipe").write_all(&vec![b'x'; 1_000_000]).expect("it reads");
        assert_eq!(put.exit().code(), Some(0));
    }
    let data = group.data(1);
    wait_for("a small log", || {
        let files = fs::read_dir(&data).map_err(|error| error.to_string())?;
        let logs = files.flatten().filter(|file| file.file_name().to_string_lossy().starts_with("log-"));
        let bytes: u64 = logs.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        // What is retained, what the next snapshot will have, and a file that is being written, and one
        // before it.
        if (1..=20 << 20).contains(&bytes) { Ok(()) } else { Err(format!("{bytes} bytes")) }
    });
}

#[test]
fn bench_measures_writes_and_reads() {
    let group = Group::started(1);
    group.run(&["put", "a", "b", "--timeout", "60s"]).is(0, "done\n");
    let small = ["bench", "--clients", "3", "--payload", "10", "--time", "500ms", "--warm-up", "100ms"];
    let measured = group.json(&[&small[..], &["--reads", "50"]].concat());
    for kind in ["writes", "reads"] {
        let figures = &measured["results"][kind];
        let at = |name: &str| figures["latency_us"][name].as_u64().expect("a number");
        assert!(figures["count"].as_u64().expect("a number") > 0, "{measured}");
        assert!(at("p50") > 0 && at("p50") <= at("p99") && at("p99") <= at("max"), "{measured}");
    }
    assert_eq!(measured["errors"], serde_json::json!({}));
    let shared = group.json(&[&small[..], &["--connections", "1"]].concat());
    assert_eq!((&shared["connections"], &shared["errors"]), (&1.into(), &serde_json::json!({})));
    assert!(shared["results"]["writes"]["count"].as_u64().expect("a number") > 0, "{shared}");
    let human = group.run(&[&small[..], &["--no-session"]].concat());
    assert!(human.out.contains("PER SECOND") && human.out.contains("writes"), "{}", human.out);
    assert!(human.out.lines().all(|line| line.chars().count() <= 100), "{}", human.out);
}

#[test]
fn completions_are_for_the_shell_that_is_named() {
    for (shell, sign) in
        [("bash", "complete -F _kontiki"), ("zsh", "#compdef kontiki"), ("fish", "complete -c kontiki")]
    {
        let ran = Ran::of(kontiki().args(["completions", shell]).output().expect("it runs"));
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains(sign) && ran.out.contains("transfer"), "{shell}");
    }
}
