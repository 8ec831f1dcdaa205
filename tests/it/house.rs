//! House rules as tests: each says what is wrong, why it is a rule, and what to write instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules of `core`, the lowest first: each may use those before it.
const LAYERS: &[&str] = &[
    "digest",
    "crc32c",
    "bytes",
    "types",
    "time",
    "rng",
    "quorum",
    "membership",
    "log",
    "status",
    "progress",
    "message",
    "config",
    "event",
    "action",
    "durable",
    "durability",
    "common",
    "repair",
    "role",
    "raft",
    "recover",
    "wire",
    "wal",
    "machine",
    "kv",
    "replica",
    "record",
    "lib",
];

/// A word that library code does without: where, the word, why, and what instead. A word that ends in `_` is
/// the beginning of a function's name.
const FORBIDDEN: &[(&[&str], &str, &str)] = &[
    (BOTH, "HashMap", "its order differs between runs; use BTreeMap or a sorted Vec"),
    (BOTH, "HashSet", "its order differs between runs; use BTreeSet or a sorted Vec"),
    (BOTH, "SystemTime", "a run must be the same tomorrow; take the time as an argument"),
    (BOTH, "Instant::now", "a run must be the same tomorrow; take the time as an argument"),
    (BOTH, "thread_rng", "a run must be the same tomorrow; draw from a seeded stream"),
    (BOTH, "todo!", "write it, or leave it out and say in ARCHITECTURE.md that it is left out"),
    (BOTH, "unimplemented!", "write it, or leave it out and say in ARCHITECTURE.md that it is left out"),
    (BOTH, "FIXME", "mend it; what cannot be mended now belongs in an issue"),
    (BOTH, "XXX", "mend it; what cannot be mended now belongs in an issue"),
    (CORE, "f32", "floats round differently between platforms; use integers"),
    (CORE, "f64", "floats round differently between platforms; use integers"),
    (CORE, "std::", "core has no std, so that it could not do I/O if it wanted to; use core or alloc"),
    (CORE, "fn maybe_", "say what it does and let the caller decide, or name it by its condition"),
    (BOTH, "fn do_", "name it by what it does: a `do_` hides a second function that should not be there"),
    (BOTH, "fn get_", "name it by what it returns: `leader()`, not `get_leader()`"),
];
const CORE: &[&str] = &["core/src"];
const BOTH: &[&str] = &["core/src", "sim/src"];

/// The simulator's command line talks to a person, who may know what time it is. `run --for` begins at seeds
/// that no run before has had, and prints them.
const EXEMPT: &[(&str, &str)] = &[
    ("sim/src/cli", "Instant::now"),
    ("sim/src/main.rs", "Instant::now"),
    ("sim/src/cli/run.rs", "SystemTime"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in a workspace").to_owned()
}

/// Every file of a kind below a directory, with its path from the root.
fn files(dir: &str, extension: &str) -> Vec<(String, String)> {
    let (mut found, mut dirs) = (Vec::new(), vec![root().join(dir)]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                let text = fs::read_to_string(&path).expect("a text file");
                let name =
                    path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

/// The lines of code, numbered: without comments, and without the tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_test = |line: &str| line.starts_with("#[cfg(test)]");
    let end =
        text.lines().zip(text.lines().skip(1)).position(|(line, next)| is_test(line) && next.ends_with('{'));
    let lines = text.lines().take(end.unwrap_or(usize::MAX));
    lines.zip(1..).map(|(line, number)| (number, line.split("//").next().unwrap_or_default()))
}

fn tidy(violations: &str) {
    assert!(violations.is_empty(), "the house rules of tests/it/house.rs are broken:\n{violations}");
}

#[test]
fn imports_point_down_and_come_from_the_defining_module() {
    let mut violations = String::new();
    let is_test = |name: &str| name.ends_with("/model.rs") || name.ends_with("/tests.rs");
    for (name, text) in files("core/src", "rs").iter().filter(|(name, _)| !is_test(name)) {
        let own = name.strip_prefix("core/src/").expect("it was found there");
        let (own, role) =
            own.trim_end_matches(".rs").split_once('/').unwrap_or((own.trim_end_matches(".rs"), ""));
        let rank = |module: &str| LAYERS.iter().position(|layer| *layer == module);
        let own_rank = rank(own).unwrap_or_else(|| panic!("{name}: give module `{own}` a place in LAYERS"));
        for (number, line) in code(text) {
            for path in line.split("crate::").skip(1) {
                let mut parts =
                    path.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|part| !part.is_empty());
                let (module, inner) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                let complaint = match rank(module) {
                    None => {
                        "name the module that defines it: `use crate::types::Term`, never `use crate::Term`"
                    }
                    Some(rank) if rank > own_rank => {
                        "modules use only those below them (LAYERS), so that each can be read with what came before"
                    }
                    Some(_)
                        if own == "role"
                            && module == "role"
                            && is_role(inner)
                            && !is_part_of(role, inner) =>
                    {
                        "roles do not know one another: return a Next and let raft.rs change the role"
                    }
                    Some(_) => continue,
                };
                let _ = writeln!(violations, "{name}:{number}: `crate::{module}`: {complaint}");
            }
        }
    }
    tidy(&violations);
}

/// As `max_width` in rustfmt.toml, which rustfmt does not hold comments to.
const COLUMNS: usize = 110;

#[test]
fn comments_are_no_wider_than_code() {
    let mut violations = String::new();
    let folders = [
        "core",
        "sim",
        "net-tokio",
        "tests/it",
        "tests/real",
        "tests/src",
        "tests/peers/src",
        "tests/servers/src",
    ];
    for (name, text) in folders.iter().flat_map(|folder| files(folder, "rs")) {
        let mut is_fenced = false;
        for (number, line) in (1..).zip(text.lines()) {
            let Some(comment) = line.trim_start().strip_prefix("//") else {
                is_fenced = false;
                continue;
            };
            let said = comment.trim_start_matches(['/', '!']).trim_start();
            is_fenced ^= said.starts_with("```");
            // A row of a table, and where a link leads, cannot be broken; text in a fence is as it is shown.
            let is_free = is_fenced || said.starts_with(['|', '[']);
            if line.chars().count() > COLUMNS && !is_free {
                let _ = writeln!(
                    violations,
                    "{name}:{number}: a comment of more than {COLUMNS} columns: break it"
                );
            }
        }
    }
    tidy(&violations);
}

/// A file of `core/src` by the path of its module.
type Modules = BTreeMap<String, Vec<String>>;

/// Every module of `core` but the root and the tests, with the paths that it names, from the crate's root.
fn modules() -> Modules {
    let is_test = |name: &str| {
        ["/model.rs", "/tests.rs"].iter().any(|end| name.ends_with(end)) || name.contains("/tests/")
    };
    let mut modules = Modules::new();
    for (name, text) in files("core/src", "rs").iter().filter(|(name, _)| !is_test(name)) {
        let module = name.trim_start_matches("core/src/").trim_end_matches(".rs").replace('/', "::");
        let module = module.trim_end_matches("::mod");
        if module != "lib" {
            modules.insert(module.to_owned(), paths(module, text));
        }
    }
    modules
}

/// The paths that a module names, from the crate's root: those of its `use` declarations, one for each name,
/// and those in its code.
fn paths(module: &str, text: &str) -> Vec<String> {
    let code: String = code(text).flat_map(|(_, line)| [line, "\n"]).collect();
    let (mut found, mut used) = (Vec::new(), Vec::new());
    for (at, _) in code.match_indices("use ") {
        let begins = code[..at].rsplit('\n').next().unwrap_or_default();
        if begins.is_empty() || begins.starts_with("pub") {
            let tree = code[at + 4..].split(';').next().unwrap_or_default();
            let tree = tree.replace(" as ", "@").split_whitespace().collect::<String>();
            expand("", &tree, &mut used);
        }
    }
    for path in used {
        let (parent, path) = (module.rsplit_once("::").map_or("", |(parent, _)| parent), path);
        let from_root = match path.split_once("::") {
            Some(("crate", rest)) => rest.to_owned(),
            Some(("self", rest)) => format!("{module}::{rest}"),
            Some(("super", rest)) => format!("{parent}::{rest}"),
            // A module of this folder, or another crate: only the former is known.
            _ => format!("{module}::{path}"),
        };
        found.push(from_root.split('@').next().unwrap_or_default().to_owned());
    }
    let imported = |at: usize| ["in ", "use "].iter().any(|before| code[..at].ends_with(before));
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| !imported(*at)) {
        let belongs = |c: &char| c.is_alphanumeric() || ['_', ':'].contains(c);
        found.push(code[at + 7..].chars().take_while(belongs).collect());
    }
    found
}

/// Takes the groups of a `use` declaration apart.
fn expand(before: &str, tree: &str, found: &mut Vec<String>) {
    let Some((path, group)) = tree.split_once('{') else {
        return found.push(format!("{before}{tree}"));
    };
    let (mut depth, mut from) = (0, 0);
    let group = group.strip_suffix('}').unwrap_or(group);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if from < at {
                    expand(&format!("{before}{path}"), &group[from..at], found);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// The module that defines what this path names: a folder's `mod.rs` may pass on what its files define.
fn definer<'m>(modules: &'m Modules, path: &str) -> Option<&'m str> {
    let mut module = path;
    while !modules.contains_key(module) {
        module = module.rsplit_once("::")?.0;
    }
    let (module, paths) = modules.get_key_value(module)?;
    let item = path[module.len()..].trim_start_matches("::").split("::").next().unwrap_or_default();
    let passed_on = |other: &&String| {
        other
            .strip_prefix(&**module)
            .is_some_and(|rest| rest.starts_with("::") && rest.len() > item.len() + 4)
            && other.rsplit("::").next() == Some(item)
    };
    match paths.iter().find(passed_on) {
        Some(from) if !item.is_empty() => definer(modules, from),
        _ => Some(&**module),
    }
}

/// The modules that each uses. A `mod.rs` uses all files of its folder, so these cannot use it.
fn uses(modules: &Modules) -> BTreeMap<&str, BTreeSet<&str>> {
    let uses = |(module, paths): (&'_ String, &Vec<String>)| {
        let is_child = |other: &&str| other.rsplit_once("::").is_some_and(|(folder, _)| folder == module);
        let children = modules.keys().map(|key| &**key).filter(is_child);
        let named = paths.iter().filter_map(|path| definer(modules, path));
        children.chain(named).filter(|other| other != module).collect()
    };
    modules.iter().map(|entry| (&**entry.0, uses(entry))).collect()
}

/// The first circle that a walk from `at` comes upon, as the modules along it.
fn circle<'m>(
    uses: &BTreeMap<&'m str, BTreeSet<&'m str>>,
    at: &'m str,
    walk: &mut Vec<&'m str>,
    done: &mut BTreeSet<&'m str>,
) -> Option<Vec<&'m str>> {
    if let Some(begin) = walk.iter().position(|module| *module == at) {
        return Some(walk[begin..].to_vec());
    }
    if !done.insert(at) {
        return None;
    }
    walk.push(at);
    let found = uses[at].iter().find_map(|next| circle(uses, next, walk, done));
    walk.pop();
    found
}

#[test]
fn no_two_files_import_each_other_directly_or_by_others() {
    let modules = modules();
    let uses = uses(&modules);
    let named: usize = uses.values().map(BTreeSet::len).sum();
    assert!(named > 400, "{named} imports were found: there are more");
    let (mut violations, mut done) = (String::new(), BTreeSet::new());
    for module in uses.keys() {
        if let Some(circle) = circle(&uses, module, &mut Vec::new(), &mut done) {
            let _ = writeln!(
                violations,
                "core/src: {} -> {}: move what both need into a file below them, so that each can be read with what came before",
                circle.join(" -> "),
                circle[0]
            );
        }
    }
    tidy(&violations);
}

#[test]
fn circles_of_imports_are_found() {
    let file = |module: &str, text: &str| (module.to_owned(), paths(module, text));
    let circle_of = |a: &str, b: &str, folder: &str| {
        let modules = Modules::from([file("f", folder), file("f::a", a), file("f::b", b)]);
        let uses = uses(&modules);
        circle(&uses, "f", &mut Vec::new(), &mut BTreeSet::new()).map(|circle| circle.join(" "))
    };
    assert_eq!(circle_of("use crate::f::b::B;\n", "struct B;\n", "mod a;\npub use b::B;\n"), None);
    let (a, b) = ("use crate::f::b::{B, C};\n", "use alloc::vec::Vec;\nuse super::a::{self, A};\n");
    assert_eq!(circle_of(a, b, ""), Some("f::a f::b".into()));
    assert_eq!(circle_of("fn g() -> crate::f::b::B {}\n", b, ""), Some("f::a f::b".into()));
    // What the folder passes on is its file's; what it defines is its own, and above its files.
    assert_eq!(circle_of("use crate::f::B;\n", "", "pub use b::B;\n"), None);
    assert_eq!(circle_of("use crate::f::{A, B};\n", "", "pub use b::B;\nstruct A;\n"), Some("f f::a".into()));
    // A comment, and who may see a thing, are no imports.
    assert_eq!(circle_of("// crate::f::A\npub(in crate::f) fn g() {}\n", "", "struct A;\n"), None);
}

fn is_role(module: &str) -> bool {
    ["follower", "candidate", "leader"].contains(&module)
}

/// Whether a file below `role/` may name this role: the role's own parts may, and the module that lists them
/// all.
fn is_part_of(file: &str, role: &str) -> bool {
    file == "mod" || file.split('/').next() == Some(role)
}

#[test]
fn library_code_does_without_what_would_make_runs_differ_or_names_unclear() {
    let mut violations = String::new();
    for (dirs, word, reason) in FORBIDDEN {
        for (name, text) in dirs.iter().flat_map(|dir| files(dir, "rs")) {
            let exempt = EXEMPT.iter().any(|(place, what)| name.starts_with(place) && what == word);
            for (number, _) in code(&text).filter(|(_, line)| !exempt && has(line, word)) {
                let _ = writeln!(violations, "{name}:{number}: `{word}`: {reason}");
            }
        }
    }
    tidy(&violations);
}

/// Whether a line has the word, not merely a longer one that has it.
fn has(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let open = word.ends_with(['_', ':', '!']);
        !before.is_some_and(joins) && (open || !after.is_some_and(joins))
    })
}

#[test]
fn words_are_found_whole() {
    assert!(has("let map: HashMap<u8, u8>;", "HashMap") && !has("MyHashMap", "HashMap"));
    assert!(has("pub fn get_leader()", "fn get_") && !has("fn target_leader()", "fn get_"));
    assert!(!has("0xf32a", "f32") && has("1f32 as f64", "f64"));
    let file = "use a; // HashMap\n#[cfg(test)]\nmod model;\nb\n#[cfg(test)]\nmod tests {\nHashMap\n";
    let lines: Vec<_> = code(file).map(|(_, line)| line).collect();
    assert_eq!(lines, ["use a; ", "#[cfg(test)]", "mod model;", "b"]);
}

/// `cargo planted` reads these lines; see tests/src/bin/planted/main.rs.
#[test]
fn every_planted_bug_says_what_it_is_and_who_must_find_it() {
    let mut violations = String::new();
    let catalogue = fs::read_to_string(root().join("tests/planted/PITFALLS.md")).expect("the catalogue");
    for (name, text) in files("tests/planted", "patch") {
        let header = text.split("diff --git").next().unwrap_or_default();
        for field in ["Bug:", "Pitfall:", "Property:"] {
            let filled = |line: &str| line.strip_prefix(field).is_some_and(|value| !value.trim().is_empty());
            if !header.lines().any(filled) {
                let _ = writeln!(
                    violations,
                    "{name}: say `{field} ...` above the patch: it says what the patch tests"
                );
            }
        }
        let code = header.lines().find_map(|line| line.strip_prefix("Pitfall:")).unwrap_or_default().trim();
        let section = catalogue.split("\n### ").find(|section| section.starts_with(&format!("{code}: ")));
        let bug = Path::new(&name).file_stem().expect("a file has a name").to_string_lossy();
        if !section.is_some_and(|section| section.contains(&format!("`{bug}`"))) {
            let _ = writeln!(
                violations,
                "{name}: name the bug under `### {code}: ...` of tests/planted/PITFALLS.md, or the code leads nowhere"
            );
        }
        if header.len() == text.len() {
            let _ = writeln!(violations, "{name}: there is no `diff --git` in it; make it with `git diff`");
        }
    }
    tidy(&violations);
}

/// Parts of `core` that hosts of the kernel alone have.
const KERNEL: [&str; 12] = [
    "common",
    "config",
    "durab",
    "log",
    "membership",
    "message",
    "progress",
    "quorum",
    "raft",
    "repair",
    "role",
    "types",
];

/// Exploring is of the kernel: each of its bugs has bounds, or a reason why none finds it.
#[test]
fn every_bug_of_the_kernel_is_explored_or_it_is_said_why_not() {
    let mut violations = String::new();
    let page = fs::read_to_string(root().join("docs/exploring.md")).expect("the page");
    let (_, reasons) = page.split_once("\n## What it does not find").expect("a section");
    let is_kernel = |text: &str| {
        let mut changed = text.lines().filter_map(|line| line.strip_prefix("+++ b/core/src/"));
        changed.any(|file| KERNEL.iter().any(|part| file.starts_with(part)))
    };
    // How many are found of how many: of those that break safety or a limit, and of those that stop a group.
    let (mut broken, mut stopped, mut with_clocks) = ([0, 0], [0, 0], 0);
    for (name, text) in files("tests/planted", "patch").into_iter().filter(|(_, text)| is_kernel(text)) {
        let bug = Path::new(&name).file_stem().expect("a file has a name").to_string_lossy();
        let (has_bounds, has_reason) = (text.contains("\nExplore: "), reasons.contains(&format!("`{bug}`")));
        let counted = if text.contains("\nProperty: Liveness\n") { &mut stopped } else { &mut broken };
        *counted = [counted[0] + usize::from(has_bounds), counted[1] + 1];
        with_clocks += usize::from(text.contains(" --ticks "));
        if has_bounds == has_reason {
            let _ = writeln!(
                violations,
                "{name}: give it a line `Explore:` with bounds, or a reason in docs/exploring.md, What it does not find"
            );
        }
    }
    let ([unsafe_found, unsafe_all], [stopped_found, stopped_all]) = (broken, stopped);
    let counted = format!(
        "Of the kernel's {} planted bugs {} are found: {unsafe_found} of {unsafe_all} that break safety or a limit, \
         {with_clocks} of them with clocks, and {stopped_found} of {stopped_all} that only stop a group",
        unsafe_all + stopped_all,
        unsafe_found + stopped_found
    );
    if !page.split_whitespace().collect::<Vec<_>>().join(" ").contains(&counted) {
        let _ = writeln!(violations, "docs/exploring.md: say: {counted}");
    }
    tidy(&violations);
}

/// A patch that does not apply tests nothing, and only a run of all planted bugs would tell.
#[test]
fn every_planted_bug_applies() {
    let mut violations = String::new();
    for (name, _) in files("tests/planted", "patch") {
        let mut git = Command::new("git");
        // Not as part of a repository around this one, or what lies outside of it is left out without a word.
        git.current_dir(root()).env("GIT_CEILING_DIRECTORIES", root().parent().unwrap_or(&root()));
        let applied =
            git.args(["apply", "--check", &name]).output().expect("git is there: `cargo planted` needs it");
        if !applied.status.success() {
            let why = String::from_utf8_lossy(&applied.stderr);
            let _ = writeln!(violations, "{name}: {}: run `cargo planted --rebase`", why.trim());
        }
    }
    tidy(&violations);
}

/// A document that names a file which is not there sends its reader nowhere.
#[test]
fn links_between_documents_lead_somewhere() {
    let mut violations = String::new();
    let documents = ["docs", "core", "sim", "net-tokio", "tests"].map(|dir| files(dir, "md")).concat();
    let at_the_root = ["README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"].map(|name| {
        let name = format!("{name}.md");
        let text = fs::read_to_string(root().join(&name)).expect("a text file");
        (name, text)
    });
    let mut links = 0;
    for (name, text) in documents.into_iter().chain(at_the_root) {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if link.contains("://") || file.is_empty() {
                continue;
            }
            links += 1;
            if !root().join(&name).with_file_name(file).exists() {
                let _ = writeln!(violations, "{name}: `{link}` is not there: give the path from this file");
            }
        }
    }
    assert!(links > 50, "{links} links were found: the documents have more");
    tidy(&violations);
}

/// A test that asserts nothing passes whatever happens.
#[test]
fn every_file_of_tests_asserts_something() {
    let mut violations = String::new();
    for (name, text) in files("tests/it", "rs").iter().filter(|(_, text)| text.contains("#[test]")) {
        for (number, body) in tests(text) {
            let asserts = ["assert", "panic!", "holds(", "check(", "tidy(", ".elect("];
            if !asserts.iter().any(|word| body.contains(word)) {
                let _ =
                    writeln!(violations, "{name}:{number}: this test asserts nothing, and so can never fail");
            }
        }
        if text.lines().any(|line| line.trim_start().starts_with("#[ignore")) {
            let _ = writeln!(violations, "{name}: an ignored test is no test; mend it or take it out");
        }
    }
    tidy(&violations);
}

/// The body of every test, with the number of its first line.
fn tests(text: &str) -> impl Iterator<Item = (usize, String)> {
    let lines: Vec<_> = text.lines().collect();
    let starts: Vec<_> = (0..lines.len()).filter(|&at| lines[at] == "#[test]").collect();
    starts.into_iter().map(move |at| {
        let body = lines[at..].iter().take_while(|line| **line != "}");
        (at + 1, body.copied().collect::<Vec<_>>().join("\n"))
    })
}
