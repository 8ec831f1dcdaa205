//! The public API of each crate, listed in `golden/api`, so that a change of it shows in review.
//!
//! The list is read off the source: each `pub` item of each module (clippy sees to it that such items can be
//! reached from outside), with its signature and without its body. What a macro makes is not in it. A wanted
//! change is blessed with `BLESS=1 cargo test -p kontiki-tests --test it api`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, ItemMod, TraitItem, Type, Visibility};

#[test]
fn the_public_api_is_as_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["core", "sim", "net-tokio"] {
        let lib = root.join("..").join(name).join("src/lib.rs");
        let modules = modules(&format!("kontiki_{}", name.replace('-', "_")), &lib);
        let listed = list(&modules);
        assert!(listed.len() > 1_000, "{name} has an API");
        let file = root.join("golden/api").join(name).with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &listed).expect("the list can be written");
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        let changed = kept.lines().zip(listed.lines()).position(|(kept, listed)| kept != listed);
        assert!(
            kept == listed,
            "the public API of {name} is not as {} lists it, from line {}: if that is wanted, say so in CHANGELOG.md and run \
             BLESS=1 cargo test -p kontiki-tests --test it api",
            file.display(),
            changed.unwrap_or(kept.lines().count().min(listed.lines().count())) + 1
        );
    }
}

#[test]
fn private_fields_bodies_and_hidden_items_are_no_part_of_it() {
    let source = "
        /// Documented.
        #[derive(Clone)] pub struct Shown { pub field: u8, hidden: u8 }
        struct Hidden;
        #[doc(hidden)] pub fn hidden() {}
        #[cfg(test)] pub mod tests { pub fn hidden() {} }
        impl Shown { pub fn shown(&self) -> u8 { self.hidden } fn hidden() {} }
        impl Hidden { pub fn hidden(&self) {} }
        impl Drop for Shown { fn drop(&mut self) { hidden() } }
        impl Drop for Hidden { fn drop(&mut self) {} }
    ";
    let items = syn::parse_file(source).expect("it is Rust").items;
    let listed = list(&[Module { path: "it".to_owned(), items }]);
    assert!(!listed.contains("hidden") && !listed.contains("Hidden"), "{listed}");
    for shown in [
        "pub struct Shown",
        "derive(Clone)",
        "pub field: u8",
        "pub fn shown(&self) -> u8 {}",
        "impl Drop for Shown",
    ] {
        assert!(listed.contains(shown), "{shown} is not in {listed}");
    }
}

/// The items of one file, or of one module that stands in another's.
struct Module {
    path: String,
    items: Vec<Item>,
}

/// The module of this file and all below it.
fn modules(path: &str, file: &Path) -> Vec<Module> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let items = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).items;
    let items = gated(items);
    let is_root = file.file_name().is_some_and(|name| name == "lib.rs" || name == "mod.rs");
    let below = if is_root { file.with_file_name("") } else { file.with_extension("") };
    let mut found = Vec::new();
    for item in &items {
        if let Item::Mod(ItemMod { attrs, ident, content: None, .. }) = item
            && is_listed(attrs)
        {
            let name = ident.to_string();
            let nested: [PathBuf; 2] =
                [below.join(&name).with_extension("rs"), below.join(&name).join("mod.rs")];
            let file = nested.iter().find(|file| file.exists()).expect("a module has a file");
            found.extend(modules(&format!("{path}::{name}"), file));
        }
    }
    found.insert(0, Module { path: path.to_owned(), items });
    found
}

/// The items of a file; those within a `cfg_if!` with its condition.
fn gated(items: Vec<Item>) -> Vec<Item> {
    let each = |item| match item {
        Item::Macro(it) if it.mac.path.segments.last().is_some_and(|last| last.ident == "cfg_if") => {
            it.mac.parse_body_with(conditional).expect("a condition, and modules")
        }
        item => vec![item],
    };
    items.into_iter().flat_map(each).collect()
}

fn conditional(input: ParseStream<'_>) -> syn::Result<Vec<Item>> {
    input.parse::<syn::Token![if]>()?;
    let condition = input.call(Attribute::parse_outer)?;
    let inner;
    syn::braced!(inner in input);
    let mut items = Vec::new();
    while !inner.is_empty() {
        let mut item = inner.parse()?;
        if let Item::Mod(it) = &mut item {
            it.attrs.extend(condition.iter().cloned());
        }
        items.push(item);
    }
    Ok(items)
}

fn list(modules: &[Module]) -> String {
    let types: BTreeSet<String> =
        modules.iter().flat_map(|module| &module.items).filter_map(type_name).collect();
    let mut listed = String::new();
    for module in modules {
        let items: Vec<_> = module.items.iter().filter_map(|item| outside(item, &types)).collect();
        if !items.is_empty() {
            let file = syn::File { shebang: None, attrs: Vec::new(), items };
            listed += &format!("// {}\n\n{}\n", module.path, prettyplease::unparse(&file));
        }
    }
    listed
}

/// The name of a type or trait that is public.
fn type_name(item: &Item) -> Option<String> {
    let (vis, attrs, ident) = match item {
        Item::Struct(it) => (&it.vis, &it.attrs, &it.ident),
        Item::Enum(it) => (&it.vis, &it.attrs, &it.ident),
        Item::Trait(it) => (&it.vis, &it.attrs, &it.ident),
        Item::Type(it) => (&it.vis, &it.attrs, &it.ident),
        _ => return None,
    };
    (is_public(vis) && is_listed(attrs)).then(|| ident.to_string())
}

/// What of an item is to be seen from outside, if anything.
fn outside(item: &Item, types: &BTreeSet<String>) -> Option<Item> {
    let mut item = item.clone();
    let (vis, attrs) = match &mut item {
        Item::Fn(it) => (&it.vis, &mut it.attrs),
        Item::Struct(it) => (&it.vis, &mut it.attrs),
        Item::Enum(it) => (&it.vis, &mut it.attrs),
        Item::Trait(it) => (&it.vis, &mut it.attrs),
        Item::Type(it) => (&it.vis, &mut it.attrs),
        Item::Const(it) => (&it.vis, &mut it.attrs),
        Item::Use(it) => (&it.vis, &mut it.attrs),
        Item::Mod(it) => (&it.vis, &mut it.attrs),
        Item::Impl(it) => return implemented(it, types).map(Item::Impl),
        _ => return None,
    };
    if !is_public(vis) || !is_listed(attrs) {
        return None;
    }
    strip(attrs);
    match &mut item {
        Item::Fn(it) => it.block.stmts.clear(),
        Item::Struct(it) => strip_fields(&mut it.fields, true),
        Item::Enum(it) => {
            for variant in &mut it.variants {
                strip(&mut variant.attrs);
                strip_fields(&mut variant.fields, false);
            }
        }
        Item::Trait(it) => {
            it.items.retain(|item| !matches!(item, TraitItem::Fn(it) if !is_listed(&it.attrs)));
            for item in &mut it.items {
                match item {
                    TraitItem::Fn(it) => {
                        strip(&mut it.attrs);
                        it.default.iter_mut().for_each(|block| block.stmts.clear());
                    }
                    TraitItem::Type(it) => strip(&mut it.attrs),
                    TraitItem::Const(it) => strip(&mut it.attrs),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Some(item)
}

/// The public part of what a public type can do; of a trait, that it has it.
fn implemented(block: &ItemImpl, types: &BTreeSet<String>) -> Option<ItemImpl> {
    let Type::Path(of) = &*block.self_ty else { return None };
    if !types.contains(&of.path.segments.last()?.ident.to_string()) || !is_listed(&block.attrs) {
        return None;
    }
    let mut block = block.clone();
    strip(&mut block.attrs);
    if block.trait_.is_some() {
        block.items.clear();
        return Some(block);
    }
    block.items.retain_mut(|item| {
        let (vis, attrs) = match item {
            ImplItem::Fn(it) => {
                it.block.stmts.clear();
                (&it.vis, &mut it.attrs)
            }
            ImplItem::Const(it) => (&it.vis, &mut it.attrs),
            _ => return false,
        };
        let is_shown = is_public(vis) && is_listed(attrs);
        strip(attrs);
        is_shown
    });
    (!block.items.is_empty()).then_some(block)
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Whether an item is neither a test nor hidden from the documentation.
fn is_listed(attrs: &[Attribute]) -> bool {
    !attrs.iter().any(|attr| match &attr.meta {
        syn::Meta::List(list) => {
            let (path, inside) = (&list.path, list.tokens.to_string());
            path.is_ident("doc") && inside == "hidden" || path.is_ident("cfg") && inside == "test"
        }
        _ => false,
    })
}

/// Leaves the attributes that are part of the API.
fn strip(attrs: &mut Vec<Attribute>) {
    let kept = ["derive", "cfg", "cfg_attr", "non_exhaustive", "must_use"];
    attrs.retain(|attr| kept.iter().any(|name| attr.path().is_ident(name)));
}

fn strip_fields(fields: &mut Fields, only_public: bool) {
    let shown = |field: &syn::Field| !only_public || is_public(&field.vis);
    let list = match fields {
        Fields::Named(it) => &mut it.named,
        Fields::Unnamed(it) => &mut it.unnamed,
        Fields::Unit => return,
    };
    let kept: Punctuated<_, _> = std::mem::take(list).into_iter().filter(shown).collect();
    *list = kept;
    list.iter_mut().for_each(|field| strip(&mut field.attrs));
}
