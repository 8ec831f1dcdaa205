//! The sources that are mutated, and how they look in the copy.

use crate::Failure;
use crate::find::{Kind, Mutant, Site, find};
use kontiki_tests::mutant::edit::{Edit, apply};
use kontiki_tests::mutant::{ROOT_OF_CORE, switch, with_switch};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::path::Path;

/// What is mutated, by the parts of the report: files and folders of `core/src`.
pub(crate) const PARTS: &[(&str, &[&str])] = &[
    (
        "kernel",
        &[
            "raft.rs",
            "role/",
            "common.rs",
            "membership.rs",
            "quorum.rs",
            "durable.rs",
            "durability.rs",
            "progress.rs",
            "repair.rs",
        ],
    ),
    ("log in memory", &["log/"]),
    ("durable log", &["wal/"]),
    ("replica", &["replica/", "machine/"]),
    ("frames", &["wire.rs"]),
];

/// The part of the report that a file belongs to.
pub(crate) fn part_of(file: &str) -> Option<&'static str> {
    let file = file.strip_prefix("core/src/")?;
    let is_test = file.ends_with("/tests.rs") || file.ends_with("/model.rs") || file.contains("/tests/");
    let has = |place: &&str| if place.ends_with('/') { file.starts_with(place) } else { file == *place };
    PARTS.iter().find(|(_, places)| !is_test && places.iter().any(has)).map(|(part, _)| *part)
}

/// All mutants, with the texts that they are in.
#[derive(Debug)]
pub(crate) struct Sources {
    files: BTreeMap<String, Source>,
}

#[derive(Debug)]
struct Source {
    text: String,
    sites: Vec<Site>,
}

/// A mutant by its switch, with the name that the results have for it.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub(crate) switch: u32,
    pub(crate) mutant: Mutant,
    /// Which of those that are called the same it is, from the first.
    pub(crate) repeated: usize,
}

impl Numbered {
    /// What the results and the reasons call it, wherever its function moves.
    pub(crate) fn name(&self) -> String {
        let Mutant { file, function, original, change, .. } = &self.mutant;
        let number = if self.repeated == 0 { String::new() } else { format!(" #{}", self.repeated + 1) };
        let file = file.trim_start_matches("core/src/");
        format!("{file} {function}: `{}` {change}{number}", shortened(original))
    }
}

/// A name stays on one line of a table.
fn shortened(text: &str) -> String {
    let text = text.replace('|', "¦").replace('`', "'");
    if text.chars().count() <= 70 { text } else { text.chars().take(69).chain(['…']).collect() }
}

impl Sources {
    /// Reads the files of `core/src` that are mutated and whose names contain `only`.
    pub(crate) fn read(root: &Path, only: &str) -> Result<Self, Failure> {
        let (mut texts, mut dirs) = (BTreeMap::new(), vec![root.join("core/src")]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                if path.is_dir() {
                    dirs.push(path);
                } else if part_of(&name).is_some() && name.contains(only) {
                    texts.insert(name, fs::read_to_string(path)?);
                }
            }
        }
        let (mut files, mut next) = (BTreeMap::new(), 1);
        for (name, text) in texts {
            let sites = find(&name, &text, next).map_err(|error| format!("{name}: {error}"))?;
            next = sites.last().map_or(next, |site| site.first + site.mutants.len() as u32);
            files.insert(name, Source { text, sites });
        }
        Ok(Self { files })
    }

    /// Every mutant, in the order of the switches.
    pub(crate) fn mutants(&self) -> Vec<Numbered> {
        let sites = self.files.values().flat_map(|source| &source.sites);
        let numbered = sites.flat_map(|site| (site.first..).zip(&site.mutants));
        let mut names = BTreeMap::<String, usize>::new();
        numbered
            .map(|(switch, mutant)| {
                let mut numbered = Numbered { switch, mutant: mutant.clone(), repeated: 0 };
                let before = names.entry(numbered.name()).or_default();
                numbered.repeated = *before;
                *before += 1;
                numbered
            })
            .collect()
    }

    /// A number that tells these sources from others.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        switch().hash(&mut hasher);
        self.files.iter().for_each(|(name, source)| (name, &source.text).hash(&mut hasher));
        for site in self.files.values().flat_map(|source| &source.sites) {
            (site.first, &site.mutants[0].change, site.mutants.len()).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What a file holds in the copy, without the places that are left out.
    pub(crate) fn changed(&self, name: &str, bytes: Vec<u8>, left_out: &BTreeSet<u32>) -> Vec<u8> {
        if name == ROOT_OF_CORE {
            return with_switch(&bytes);
        }
        self.files.get(name).map_or(bytes, |source| source.mutated(left_out).0.into_bytes())
    }

    /// The place that an error of the compiler is about: the innermost of those at these bytes of the copy
    /// that passes operands to a generic function, or else the innermost.
    pub(crate) fn blamed(&self, file: &str, bytes: &Range<usize>, left_out: &BTreeSet<u32>) -> Option<u32> {
        let source = self.files.get(file)?;
        let (_, taken) = source.mutated(left_out);
        let here = source.sites.iter().zip(taken).filter(|(site, _)| !left_out.contains(&site.first));
        let around = here.filter(|(_, taken)| taken.start <= bytes.start && bytes.end <= taken.end);
        around
            .min_by_key(|(site, taken)| (matches!(site.kind, Kind::Plain), taken.len()))
            .map(|(site, _)| site.first)
    }

    /// The places in these lines of the copy.
    pub(crate) fn in_lines(&self, file: &str, lines: &Range<usize>, left_out: &BTreeSet<u32>) -> Vec<u32> {
        let Some(source) = self.files.get(file) else { return Vec::new() };
        let (text, taken) = source.mutated(left_out);
        let here = source.sites.iter().zip(taken).filter(|(site, _)| !left_out.contains(&site.first));
        here.filter(|(_, taken)| lines.contains(&(text[..taken.start].matches('\n').count() + 1)))
            .map(|(site, _)| site.first)
            .collect()
    }

    /// Of places that were left out, those that may have been blamed for another: they are tried once more
    /// without the others.
    pub(crate) fn doubtful(&self, left_out: &BTreeSet<u32>) -> BTreeSet<u32> {
        let sites = self.files.values().flat_map(|source| &source.sites);
        let doubtful = sites.filter(|site| matches!(site.kind, Kind::Operands | Kind::Plain));
        doubtful.map(|site| site.first).filter(|first| left_out.contains(first)).collect()
    }

    /// The switches of a place.
    pub(crate) fn switches(&self, first: u32) -> Range<u32> {
        let mut sites = self.files.values().flat_map(|source| &source.sites);
        let site = sites.find(|site| site.first == first);
        first..first + site.map_or(0, |site| site.mutants.len() as u32)
    }
}

impl Source {
    /// The text of the copy, and what each place takes of it: nothing where it is left out.
    fn mutated(&self, left_out: &BTreeSet<u32>) -> (String, Vec<Range<usize>>) {
        let kept = |site: &'_ Site| !left_out.contains(&site.first);
        let groups: Vec<&[Edit]> =
            self.sites.iter().map(|site| if kept(site) { &*site.edits } else { &[] }).collect();
        apply(&self.text, &groups)
    }
}
