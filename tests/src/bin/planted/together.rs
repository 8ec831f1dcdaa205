//! All bugs in one build, so that hundreds need not be built one after the other.
//!
//! Most patches change nothing but the bodies of functions. In the copy, a function that bugs change has the
//! body that each of them gives it, and its own for when none of them is on; the environment says which bug
//! is (`mutant::CHOSEN`, its number). A bug that changes more, as a field or a constant, is built alone.

use crate::{Bug, Failure, apply_patch};
use kontiki_tests::mutant::edit::{Edit, apply};
use kontiki_tests::mutant::{ROOT_OF_CORE, with_switch};
use proc_macro2::TokenStream;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The bugs that are built together, and the files that they change.
#[derive(Debug)]
pub(crate) struct Together {
    numbers: BTreeMap<String, u16>,
    files: BTreeMap<String, Source>,
}

/// A file, with what the bugs change in it.
#[derive(Debug)]
struct Source {
    text: String,
    changes: Vec<(u16, Change)>,
}

/// Another body for a function of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Change {
    body: Range<usize>,
    with: String,
}

impl Together {
    /// Reads what the bugs change, and keeps those that change bodies of functions alone.
    pub(crate) fn read(root: &Path, bugs: &[Bug]) -> Result<Self, Failure> {
        let mut together = Self { numbers: BTreeMap::new(), files: BTreeMap::new() };
        for (number, bug) in (1..).zip(bugs) {
            let mut changes = Vec::new();
            // What does not apply is built alone, which says why.
            let Some(patched) = patched(root, bug)? else { continue };
            for (file, patched) in patched {
                let text = fs::read_to_string(root.join(&file))?;
                changes.push(changes_of(&text, &patched)?.map(|changes| (file, text, changes)));
            }
            let Some(changes) = changes.into_iter().collect::<Option<Vec<_>>>() else { continue };
            if changes.iter().all(|(.., changes)| changes.is_empty()) {
                return Err(format!("{}: the patch changes nothing but comments", bug.name).into());
            }
            together.numbers.insert(bug.name.clone(), number);
            for (file, text, changes) in changes {
                let source = together.files.entry(file).or_insert(Source { text, changes: Vec::new() });
                source.changes.extend(changes.into_iter().map(|change| (number, change)));
            }
        }
        Ok(together)
    }

    /// The number of a bug that is built with others.
    pub(crate) fn number(&self, bug: &Bug) -> Option<u16> {
        self.numbers.get(&bug.name).copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// What a file of the workspace holds in the copy.
    pub(crate) fn changed(&self, file: &str, bytes: Vec<u8>) -> Vec<u8> {
        if file == ROOT_OF_CORE {
            return with_switch(&bytes);
        }
        self.files.get(file).map_or(bytes, |source| source.woven().0.into_bytes())
    }

    /// Leaves out the bugs that errors of the compiler are about. Returns whether there are any.
    pub(crate) fn leave_out(&mut self, messages: &str) -> Result<bool, Failure> {
        let mut blamed = BTreeSet::new();
        for line in messages.lines() {
            let line: Value = serde_json::from_str(line)?;
            if line["message"]["level"] == "error" {
                let spans = line["message"]["spans"].as_array();
                blamed.extend(spans.into_iter().flatten().filter_map(|span| self.blamed(span)));
            }
        }
        let sources = self.files.values_mut();
        sources.for_each(|source| source.changes.retain(|(number, _)| !blamed.contains(number)));
        self.numbers.retain(|_, number| !blamed.contains(number));
        Ok(!blamed.is_empty())
    }

    /// The bug whose text is at these bytes of the copy.
    fn blamed(&self, span: &Value) -> Option<u16> {
        let (_, taken) = self.files.get(span["file_name"].as_str()?)?.woven();
        let at = usize::try_from(span["byte_start"].as_u64()?).ok()?;
        taken.into_iter().find(|(_, range)| range.contains(&at)).map(|(number, _)| number)
    }
}

impl Source {
    /// The text with all bodies in it, and where those of bugs are.
    fn woven(&self) -> (String, Vec<(u16, Range<usize>)>) {
        let mut by_body = BTreeMap::<_, Vec<_>>::new();
        for (number, Change { body, with }) in &self.changes {
            by_body.entry((body.start, body.end)).or_default().push((*number, with));
        }
        let (mut groups, mut of) = (Vec::new(), Vec::new());
        for ((start, end), bodies) in by_body {
            groups.push(vec![Edit::before(start, "{ "), Edit::after(end, " }")]);
            of.push(None);
            for (number, with) in bodies {
                let text = format!("if crate::mutant::on({number}) {with} else ");
                groups.push(vec![Edit::before(start, text)]);
                of.push(Some(number));
            }
        }
        let (text, taken) = apply(&self.text, &groups.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let taken = of.into_iter().zip(taken).filter_map(|(number, taken)| Some((number?, taken)));
        (text, taken.collect())
    }
}

/// The files that a patch changes, as they are with it; none where it does not apply.
fn patched(root: &Path, bug: &Bug) -> Result<Option<Vec<(String, String)>>, Failure> {
    let patch = fs::read_to_string(&bug.patch)?;
    let files: Vec<_> = patch.lines().filter_map(|line| line.strip_prefix("+++ b/")).collect();
    let place = tempfile::tempdir()?;
    for file in &files {
        let copy = place.path().join(file);
        fs::create_dir_all(copy.parent().unwrap_or(&copy))?;
        fs::copy(root.join(file), copy)?;
    }
    if apply_patch(&bug.patch, place.path()).is_err() {
        return Ok(None);
    }
    let read = |file: &str| Ok((file.to_owned(), fs::read_to_string(place.path().join(file))?));
    files.into_iter().map(read).collect::<Result<_, _>>().map(Some)
}

/// The bodies that differ, where nothing else does.
fn changes_of(text: &str, patched: &str) -> Result<Option<Vec<Change>>, Failure> {
    let (before, after) = (Bodies::of(text)?, Bodies::of(patched)?);
    if tokens(&before.without(text))? != tokens(&after.without(patched))? {
        return Ok(None);
    }
    let mut changes = Vec::new();
    for (body, new) in before.0.into_iter().zip(after.0) {
        let with = &patched[new];
        if tokens(&text[body.clone()])? != tokens(with)? {
            changes.push(Change { body, with: with.to_owned() });
        }
    }
    Ok(Some(changes))
}

/// A text as the compiler reads it: without comments and layout.
fn tokens(text: &str) -> Result<String, Failure> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("{error}: {text}"))?;
    Ok(tokens.to_string())
}

/// Where the bodies of a file's functions are that may have more than one: not those of constant functions,
/// nor of those whose type is that of the body.
struct Bodies(Vec<Range<usize>>);

impl Bodies {
    fn of(text: &str) -> syn::Result<Self> {
        let mut bodies = Self(Vec::new());
        bodies.visit_file(&syn::parse_file(text)?);
        Ok(bodies)
    }

    /// The text with all of them empty.
    fn without(&self, text: &str) -> String {
        let (mut rest, mut done) = (String::new(), 0);
        for body in &self.0 {
            rest += &text[done..body.start];
            rest += "{}";
            done = body.end;
        }
        rest + &text[done..]
    }

    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        struct Opaque(bool);
        impl Visit<'_> for Opaque {
            fn visit_type_impl_trait(&mut self, _: &syn::TypeImplTrait) {
                self.0 = true;
            }
        }
        let mut opaque = Opaque(false);
        opaque.visit_return_type(&signature.output);
        if signature.constness.is_none() && !opaque.0 {
            self.0.push(body.span().byte_range());
        }
    }
}

impl<'ast> Visit<'ast> for Bodies {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.add(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "\
const LIMIT: u8 = 1;
impl Voter {
    fn vote(&self) -> bool { self.free && self.up_to_date() }
    const fn limit() -> u8 { LIMIT }
    fn all(&self) -> impl Iterator<Item = u8> { self.votes.iter().copied() }
}
fn other() { fn inner() {} inner(); }
";

    fn changes(from: &str, to: &str) -> Option<Vec<Change>> {
        changes_of(TEXT, &TEXT.replace(from, to)).expect("both are Rust")
    }

    fn source(bodies: &[(u16, Vec<Change>)]) -> Source {
        let one = |(number, changes): &(u16, Vec<Change>)| {
            changes.iter().map(|change| (*number, change.clone())).collect::<Vec<_>>()
        };
        Source { text: TEXT.to_owned(), changes: bodies.iter().flat_map(one).collect() }
    }

    #[test]
    fn bodies_are_found_that_differ() {
        let changed = changes("self.free && ", "").expect("only a body differs");
        assert_eq!(changed.len(), 1);
        assert_eq!(&TEXT[changed[0].body.clone()], "{ self.free && self.up_to_date() }");
        assert_eq!(changed[0].with, "{ self.up_to_date() }");
        let within = changes("inner();", "").expect("only a body differs");
        assert_eq!(within[0].with, "{ fn inner() {}  }", "what stands in a body belongs to it");
        assert_eq!(
            changes("{ fn inner", "{ // A comment.\nfn inner"),
            Some(Vec::new()),
            "comments say nothing"
        );
    }

    #[test]
    fn what_is_more_than_bodies_is_built_alone() {
        assert_eq!(changes("u8 = 1", "u8 = 2"), None, "a constant");
        assert_eq!(changes("{ LIMIT }", "{ 2 }"), None, "a constant function has no choice");
        assert_eq!(changes(".copied()", ".cloned()"), None, "of one type, which each body has its own of");
        assert_eq!(
            changes("fn other()", "fn another() {} fn other()"),
            None,
            "a function that was not there"
        );
        assert_eq!(changes("(&self) -> bool", "(&mut self) -> bool"), None, "a signature");
    }

    #[test]
    fn a_function_has_the_bodies_of_all() {
        let (free, date) = (changes("self.free && ", ""), changes(" && self.up_to_date()", ""));
        let source = source(&[(3, free.expect("a body")), (8, date.expect("a body"))]);
        let (woven, taken) = source.woven();
        let expected = "fn vote(&self) -> bool { if crate::mutant::on(3) { self.up_to_date() } else if \
                        crate::mutant::on(8) { self.free } else { self.free && self.up_to_date() } }";
        assert_eq!(
            woven,
            TEXT.replace("fn vote(&self) -> bool { self.free && self.up_to_date() }", expected)
        );
        let texts: Vec<_> = taken.iter().map(|(number, at)| (*number, &woven[at.clone()])).collect();
        let text = |number, body| format!("if crate::mutant::on({number}) {body} else ");
        let expected = [(3, text(3, "{ self.up_to_date() }")), (8, text(8, "{ self.free }"))];
        assert_eq!(texts, expected.each_ref().map(|(number, text)| (*number, &text[..])));
    }

    #[test]
    fn an_error_leaves_out_the_bug_that_it_is_about() {
        let (free, date) = (changes("self.free && ", ""), changes(" && self.up_to_date()", ""));
        let source = source(&[(3, free.expect("a body")), (8, date.expect("a body"))]);
        let at = source.woven().0.find("{ self.free }").expect("it is there");
        let numbers = [("first", 3), ("second", 8)].map(|(name, number)| (name.to_owned(), number)).into();
        let mut together = Together { numbers, files: [("core/src/voter.rs".to_owned(), source)].into() };
        let message = |level: &str, file: &str| {
            let span = json!({ "file_name": file, "byte_start": at + 2 });
            json!({ "message": { "level": level, "spans": [span] } }).to_string()
        };
        let warning = message("warning", "core/src/voter.rs");
        let elsewhere = message("error", "core/src/raft.rs");
        let messages = format!("{warning}\n{elsewhere}\n");
        assert!(!together.leave_out(&messages).expect("messages"), "no bug is there");
        assert!(together.leave_out(&message("error", "core/src/voter.rs")).expect("a message"));
        assert_eq!(together.numbers.keys().collect::<Vec<_>>(), ["first"]);
        assert!(!together.files["core/src/voter.rs"].woven().0.contains("on(8)"));
    }
}
