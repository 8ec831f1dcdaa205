//! Files of a crate import in one direction: a file can be read with only those that it imports, and none of
//! them leads back to it.
//!
//! A `pub use` is no import: it says where something is found. What is imported by way of it is an import of
//! the file that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The sources without circles, beside those of `core`: house.rs holds these to a stricter rule, by which the
/// file of a folder is above all others in it.
const ACYCLIC: &[&str] = &["net-tokio/src", "sim/src"];
/// What is no part of the library beside it.
const APART: &[&str] = &["bin", "cli", "main.rs"];

#[test]
fn imports_form_no_circle() {
    for dir in ACYCLIC {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in a workspace");
        let sources = Sources::read(&root.join(dir));
        assert!(sources.files.len() > 20, "{dir}: only {} files are found", sources.files.len());
        let imports = sources.imports();
        if let Some(circle) = circle(&imports) {
            panic!(
                "{dir}: the imports go round in a circle: {}. Move what both ends need into a file below them, \
                 or the method that closes the circle into the upper file: an `impl` may stand apart from its type",
                circle.join(" -> ")
            );
        }
    }
}

#[test]
fn circles_are_found() {
    let sources = |files: &[(&str, &str)]| Sources {
        files: files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    };
    let found = |files: &[(&str, &str)]| circle(&sources(files).imports());
    let upper = ("a", "mod b;\nuse b::B;\n");
    assert_eq!(found(&[("", ""), upper, ("a::b", "use std::fmt;\n")]), None);
    assert_eq!(
        found(&[upper, ("a::b", "use super::{A, c::C};\n")]),
        Some(["a", "a::b", "a"].map(str::to_owned).to_vec())
    );
    assert!(found(&[upper, ("a::b", "fn b(a: &crate::a::A) {}\n")]).is_some(), "a path without `use`");
    assert!(
        found(&[upper, ("a::b", "// use super::A;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n")])
            .is_none()
    );
    // How far a function is visible is no import; what it takes is.
    let lane = |text| ("a::b", text);
    assert!(found(&[upper, lane("    pub(in crate::a) fn f() {}\n")]).is_none());
    assert!(found(&[upper, lane("    pub(in crate::a) fn f(x: crate::a::X) {}\n")]).is_some());
    // By way of a re-export, `c` imports `b` alone.
    let upper = ("a", "pub use b::B;\nuse c::C;\n");
    assert_eq!(found(&[upper, ("a::b", ""), ("a::c", "use super::B;\n")]), None);
    assert!(found(&[upper, ("a::b", "use crate::a::c::C;\n"), ("a::c", "use super::B;\n")]).is_some());
}

/// The files of a crate by their modules' paths, without comments and tests.
struct Sources {
    files: BTreeMap<String, String>,
}

impl Sources {
    fn read(root: &Path) -> Self {
        let (mut files, mut dirs): (_, Vec<PathBuf>) = (BTreeMap::new(), vec![root.to_owned()]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
                let path = entry.expect("a readable directory").path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if APART.contains(&&*name) || name == "tests" || name == "tests.rs" {
                    continue;
                }
                if path.is_dir() {
                    dirs.push(path);
                } else if let Some(stem) = name.strip_suffix(".rs") {
                    let dir =
                        path.parent().and_then(|it| it.strip_prefix(root).ok()).expect("below the root");
                    let mut module: Vec<_> = dir.iter().map(|part| part.to_string_lossy()).collect();
                    if stem != "mod" && stem != "lib" {
                        module.push(stem.into());
                    }
                    files.insert(module.join("::"), fs::read_to_string(&path).expect("a text file"));
                }
            }
        }
        Self { files }
    }

    /// Which file each file imports.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let texts: BTreeMap<_, _> = self.files.iter().map(|(name, text)| (&**name, code(text))).collect();
        let mut re_exports = BTreeMap::new();
        for (module, text) in &texts {
            for path in uses(text).filter(|(is_public, _)| *is_public).flat_map(|(_, tree)| expand(tree)) {
                let item = path.last().cloned().unwrap_or_default();
                re_exports.insert((*module, item), self.absolute(module, &path));
            }
        }
        let importing = |module: &str, text: &str| {
            let used = uses(text).filter(|(is_public, _)| !is_public).flat_map(|(_, tree)| expand(tree));
            let named = used.chain(mentions(text)).filter_map(|path| {
                let path = self.absolute(module, &path)?;
                let file = self.file(&path);
                let item = path.get(file.split("::").filter(|part| !part.is_empty()).count());
                let defined = item.and_then(|item| re_exports.get(&(file, item.clone())));
                Some(defined.and_then(Option::as_ref).map_or(file, |path| self.file(path)))
            });
            named.filter(|file| *file != module).collect::<BTreeSet<_>>()
        };
        texts.iter().map(|(module, text)| (*module, importing(module, text))).collect()
    }

    /// A path from the crate's root; nothing, if it leads out of the crate.
    fn absolute(&self, module: &str, path: &[String]) -> Option<Vec<String>> {
        let mut base: Vec<_> =
            module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
                return Some([&base, rest].concat());
            }
            child => {
                let child =
                    [module, child].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
                return self.files.contains_key(&child.join("::")).then(|| [&base, rest].concat());
            }
        }
        Some([&base, &rest[1..]].concat())
    }

    /// The file that a path leads to.
    fn file(&self, path: &[String]) -> &str {
        let prefixes = (0..=path.len()).rev().map(|length| path[..length].join("::"));
        let found = prefixes.filter_map(|prefix| self.files.get_key_value(&prefix)).next();
        found.map_or("", |(file, _)| file)
    }
}

/// The code of a file: without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let is_tests = |line: &str| ["mod tests {", "pub(crate) mod testing {"].contains(&line);
    let end = text.lines().position(is_tests).unwrap_or(usize::MAX);
    text.lines().take(end).flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"]).collect()
}

/// What each `use` names, and whether it is public.
fn uses(text: &str) -> impl Iterator<Item = (bool, &str)> {
    text.split(';').filter_map(|statement| {
        let start =
            statement.rfind('}').filter(|at| !statement[..*at].contains("use ")).map_or(0, |at| at + 1);
        let statement = statement[start..].trim();
        let line = statement.find("use ").map(|at| statement.split_at(at))?;
        let before = line.0.rsplit(['\n', ']']).next().unwrap_or_default().trim();
        let is_use = before.is_empty() || before.starts_with("pub");
        is_use.then(|| (!before.is_empty(), line.1.trim_start_matches("use ")))
    })
}

/// The paths of a tree of imports.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let Some((prefix, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut branch, mut branches) = (0, String::new(), Vec::new());
    for c in inner.chars().chain([',']) {
        match c {
            ',' if depth == 0 => branches.push(std::mem::take(&mut branch)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                branch.push(c);
            }
        }
    }
    let whole = branches.iter().filter(|branch| !branch.trim().is_empty());
    whole.flat_map(|branch| expand(&format!("{}{}", prefix.trim(), branch.trim()))).collect()
}

/// The paths that the code names outside of `use`.
fn mentions(text: &str) -> impl Iterator<Item = Vec<String>> {
    let is_import =
        |line: &str| ["use ", "pub use ", "pub(crate) use "].iter().any(|it| line.starts_with(it));
    let lines = text.lines().filter(move |line| !is_import(line.trim_start()));
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    lines
        // How far something is visible is no import.
        .filter_map(|line| line.rsplit("pub(in ").next())
        .flat_map(move |line| line.split(move |c| !is_path(c)).skip(usize::from(line.starts_with("crate::"))))
        .filter(|word| word.contains("::"))
        .map(|word| word.split("::").map(str::to_owned).collect())
}

/// A circle, if there is one.
fn circle(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Option<Vec<String>> {
    let mut left: BTreeSet<&str> = imports.keys().copied().collect();
    let next = |left: &BTreeSet<&str>, file: &str| {
        imports[file].iter().find(|imported| left.contains(*imported)).copied()
    };
    while let Some(done) = left.iter().find(|file| next(&left, file).is_none()).copied() {
        left.remove(done);
    }
    let mut path = vec![*left.first()?];
    loop {
        let file = next(&left, path.last().expect("there is a first"))?;
        if let Some(begin) = path.iter().position(|before| *before == file) {
            path.drain(..begin);
            path.push(file);
            return Some(path.into_iter().map(str::to_owned).collect());
        }
        path.push(file);
    }
}
