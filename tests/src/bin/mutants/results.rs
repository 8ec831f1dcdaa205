//! What has become of each mutant: kept in a file from run to run, and written into docs/mutants.md.

use crate::Failure;
use crate::source::{Numbered, PARTS, part_of};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What has become of a mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// A seed violates this property with it, or the process did not end well: where that was.
    Seed { property: String, place: String },
    /// This test fails with it.
    Test { name: String },
    /// It survives: what its difference has come to at most.
    Survived(Effect),
}

/// How far the difference that a mutant makes has come in the seeds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Effect {
    /// Nothing ever computed another value by it.
    NotReached,
    /// It computed another value, and no trace changed.
    NoTrace,
    /// Traces changed, and all properties held.
    Traces,
}

impl Effect {
    fn word(self) -> &'static str {
        match self {
            Self::NotReached => "not reached",
            Self::NoTrace => "no trace changes",
            Self::Traces => "traces change",
        }
    }
}

impl Fate {
    fn to_json(&self) -> Value {
        match self {
            Self::Seed { property, place } => json!({ "property": property, "place": place }),
            Self::Test { name } => json!({ "test": name }),
            Self::Survived(effect) => json!({ "survived": effect.word() }),
        }
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        if let (Some(property), Some(place)) = (text("property"), text("place")) {
            return Some(Self::Seed { property, place });
        }
        if let Some(name) = text("test") {
            return Some(Self::Test { name });
        }
        let survived = text("survived")?;
        let effects = [Effect::NotReached, Effect::NoTrace, Effect::Traces];
        effects.into_iter().find(|effect| effect.word() == survived).map(Self::Survived)
    }

    pub(crate) fn words(&self) -> String {
        match self {
            Self::Seed { property, place } => format!("{property} ({place})"),
            Self::Test { name } => format!("test {name}"),
            Self::Survived(effect) => format!("SURVIVED: {}", effect.word()),
        }
    }
}

/// The fates that are known, by the mutants' names.
pub(crate) struct Results {
    file: PathBuf,
    digest: u64,
    fates: BTreeMap<String, Fate>,
}

impl Results {
    /// Reads what is known of these sources. Of earlier sources only those that were killed are kept, and
    /// only where this is wanted.
    pub(crate) fn open(file: PathBuf, digest: u64, keep_killed: bool) -> Result<Self, Failure> {
        let mut results = Self { file, digest, fates: BTreeMap::new() };
        let Ok(text) = fs::read_to_string(&results.file) else { return Ok(results) };
        let known: Value = serde_json::from_str(&text)?;
        let is_same = known["digest"].as_u64() == Some(digest);
        for (name, fate) in known["fates"].as_object().into_iter().flatten() {
            let Some(fate) = Fate::from_json(fate) else { continue };
            if is_same || (keep_killed && !matches!(fate, Fate::Survived(_))) {
                results.fates.insert(name.clone(), fate);
            }
        }
        Ok(results)
    }

    pub(crate) fn of(&self, mutant: &Numbered) -> Option<&Fate> {
        self.fates.get(&mutant.name())
    }

    pub(crate) fn add(&mut self, mutant: &Numbered, fate: Fate) -> Result<(), Failure> {
        self.fates.insert(mutant.name(), fate);
        let fates: BTreeMap<_, _> = self.fates.iter().map(|(name, fate)| (name, fate.to_json())).collect();
        let text = json!({ "digest": self.digest, "fates": fates }).to_string();
        // Not half a file, where this is stopped.
        let new = self.file.with_extension("new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, &self.file)?)
    }
}

/// How many of a part's mutants have come to what.
#[derive(Clone, Copy, Default)]
struct Counts {
    all: usize,
    not_compiled: usize,
    by_seed: usize,
    by_test: usize,
    survived: [usize; 3],
    unexplained: usize,
}

impl Counts {
    fn tried(&self) -> usize {
        self.by_seed + self.by_test + self.survived.iter().sum::<usize>()
    }

    fn row(&self, part: &str) -> String {
        let Self {
            all,
            not_compiled,
            by_seed,
            by_test,
            survived: [not_reached, no_trace, traces],
            unexplained,
        } = self;
        let tried = self.tried();
        let permille = unexplained * 1000 / tried.max(1);
        let (whole, tenth) = (permille / 10, permille % 10);
        format!(
            "| {part} | {all} | {not_compiled} | {tried} | {by_seed} | {by_test} | {not_reached} | {no_trace} | {traces} | {unexplained} | {whole}.{tenth} % |\n"
        )
    }
}

const COUNTS: &str = "<!-- counts: written by `cargo mutate --write` -->\n";
const SURVIVORS: &str = "<!-- survivors: written by `cargo mutate --write` -->\n";
const END: &str = "<!-- end of the table -->\n";
const HEAD: &str = "\
| part | mutants | do not compile | tried | killed by a seed | killed by a test | not reached | no trace changes | traces change | unexplained | of those tried |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
";
const SURVIVORS_HEAD: &str = "| mutant | in the seeds | why it may survive |\n|---|---|---|\n";
/// What stands in the place of a reason that is missing.
const UNEXPLAINED: &str = "**unexplained**";

/// docs/mutants.md, whose second table holds the reasons.
pub(crate) struct Report {
    file: PathBuf,
    reasons: BTreeMap<String, String>,
}

impl Report {
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let file = root.join("docs/mutants.md");
        let text = fs::read_to_string(&file)?;
        let (_, table, _) = parts(&text, SURVIVORS)?;
        let reason = |row: &str| {
            let mut cells = row.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
            let (name, _, reason) = (cells.next()?, cells.next()?, cells.next()?);
            (reason != UNEXPLAINED).then(|| (name.to_owned(), reason.to_owned()))
        };
        Ok(Self { reasons: table.lines().skip(2).filter_map(reason).collect(), file })
    }

    /// Whether the table has a reason why a mutant may survive.
    pub(crate) fn explains(&self, mutant: &Numbered) -> bool {
        self.reasons.contains_key(&mutant.name())
    }

    /// The table of counts, and how many of those tried are unexplained in all.
    pub(crate) fn counts(
        &self,
        mutants: &[Numbered],
        left_out: &BTreeSet<u32>,
        results: &Results,
    ) -> (String, usize, usize) {
        let mut parts: BTreeMap<&str, Counts> = BTreeMap::new();
        for mutant in mutants {
            let part = part_of(&mutant.mutant.file).unwrap_or_default();
            for counts in [part, "all"] {
                let counts = parts.entry(counts).or_default();
                counts.all += 1;
                counts.not_compiled += usize::from(left_out.contains(&mutant.switch));
                match results.of(mutant) {
                    None => {}
                    Some(Fate::Seed { .. }) => counts.by_seed += 1,
                    Some(Fate::Test { .. }) => counts.by_test += 1,
                    Some(Fate::Survived(effect)) => {
                        counts.survived[*effect as usize] += 1;
                        counts.unexplained += usize::from(!self.explains(mutant));
                    }
                }
            }
        }
        let order = PARTS.iter().map(|(part, _)| *part).chain(["all"]);
        let rows: String = order.filter_map(|part| parts.get(part).map(|counts| counts.row(part))).collect();
        let all = parts.get("all").copied().unwrap_or_default();
        (format!("{HEAD}{rows}"), all.unexplained, all.tried())
    }

    /// Writes both tables.
    pub(crate) fn write(&self, counts: &str, mutants: &[Numbered], results: &Results) -> Result<(), Failure> {
        let text = fs::read_to_string(&self.file)?;
        let (before, _, after) = parts(&text, COUNTS)?;
        let text = format!("{before}{COUNTS}{counts}{END}{after}");
        let (before, _, after) = parts(&text, SURVIVORS)?;
        let mut rows = String::new();
        for mutant in mutants {
            if let Some(Fate::Survived(effect)) = results.of(mutant) {
                let name = mutant.name();
                let reason = self.reasons.get(&name).map_or(UNEXPLAINED, |reason| reason);
                writeln!(rows, "| {name} | {} | {reason} |", effect.word())?;
            }
        }
        let text = format!("{before}{SURVIVORS}{SURVIVORS_HEAD}{rows}{END}{after}");
        Ok(fs::write(&self.file, text)?)
    }
}

/// What stands before a table, in it, and after it.
fn parts<'t>(text: &'t str, begin: &str) -> Result<(&'t str, &'t str, &'t str), Failure> {
    let (before, rest) =
        text.split_once(begin).ok_or_else(|| format!("docs/mutants.md has lost `{begin}`"))?;
    let (table, after) = rest.split_once(END).ok_or_else(|| format!("docs/mutants.md has lost `{END}`"))?;
    Ok((before, table, after))
}
