//! Where the mutants of a file are: each place becomes a call of a function of `switch.rs`, which does what
//! stood there unless one of the place's mutants is on.

use kontiki_tests::mutant::edit::Edit;
use proc_macro2::Span;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    BinOp, Block, Expr, ImplItemFn, ItemFn, ItemImpl, ItemMod, Pat, ReturnType, Signature, Stmt, Type, UnOp,
};

/// A mutant: what it is called does not depend on the lines before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mutant {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// The function that it is in, with its type.
    pub(crate) function: String,
    /// What is there, in one line.
    pub(crate) original: String,
    /// What the mutant does to it.
    pub(crate) change: String,
}

/// A place in a file, with the mutants that one edit of the text puts there.
#[derive(Debug)]
pub(crate) struct Site {
    /// The switch of its first mutant; those of the others follow.
    pub(crate) first: u32,
    pub(crate) mutants: Vec<Mutant>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) kind: Kind,
}

/// What the edit does, which decides how likely it is that it does not compile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A function may return a value at once that its type need not have.
    Body,
    /// Numbers are passed to a generic function, and may not be numbers.
    Arithmetic,
    /// Other operands are passed to a generic function.
    Operands,
    /// The types stay what they are.
    Plain,
}

/// Finds the mutants of a file, whose switches begin with `first`.
///
/// # Errors
///
/// Where the file is no Rust.
pub(crate) fn find(file: &str, text: &str, first: u32) -> syn::Result<Vec<Site>> {
    let parsed = syn::parse_file(text)?;
    let mut finder =
        Finder { file, text, next: first, owner: None, function: String::new(), sites: Vec::new() };
    finder.visit_file(&parsed);
    Ok(finder.sites)
}

struct Finder<'f> {
    file: &'f str,
    text: &'f str,
    next: u32,
    /// The type whose `impl` is being visited.
    owner: Option<String>,
    function: String,
    sites: Vec<Site>,
}

/// The functions of `switch.rs`, as the copy calls them.
fn call(function: &str, switch: u32) -> String {
    format!("crate::mutant::{function}({switch}, ")
}

impl Finder<'_> {
    /// Notes a place whose mutants make these changes. `edits` are made with the switch of the first.
    fn site(&mut self, at: Span, changes: &[String], kind: Kind, edits: impl FnOnce(u32) -> Vec<Edit>) {
        let first = self.next;
        let begin = at.start();
        let original = self.text[at.byte_range()].split_whitespace().collect::<Vec<_>>().join(" ");
        let mutant = |change: &String| Mutant {
            file: self.file.to_owned(),
            line: begin.line,
            column: begin.column + 1,
            function: self.function.clone(),
            original: original.clone(),
            change: change.clone(),
        };
        let mutants: Vec<_> = changes.iter().map(mutant).collect();
        self.next += u32::try_from(mutants.len()).unwrap_or(u32::MAX);
        self.sites.push(Site { first, mutants, edits: edits(first), kind });
    }

    /// Puts `before` and `after` around an expression.
    fn wrap(&mut self, at: Span, changes: &[String], function: &str) {
        let Range { start, end } = at.byte_range();
        self.site(at, changes, Kind::Plain, |switch| {
            vec![Edit::before(start, call(function, switch)), Edit::after(end, ")")]
        });
    }

    /// `left op right` as a call with both operands, by reference or by value.
    fn binary(&mut self, binary: &syn::ExprBinary, function: &str, by_reference: bool, changes: &[&str]) {
        let whole = binary.span().byte_range();
        let operator = binary.op.span().byte_range();
        let quoted =
            |change: &&str| if change.len() > 2 { (*change).to_owned() } else { format!("`{change}`") };
        let changes: Vec<_> = changes.iter().map(quoted).collect();
        let (open, between, close) = if by_reference { ("&(", "), &(", "))") } else { ("", ", ", ")") };
        let kind = if by_reference { Kind::Operands } else { Kind::Arithmetic };
        self.site(binary.span(), &changes, kind, |switch| {
            vec![
                Edit::before(whole.start, call(function, switch) + open),
                Edit::replace(operator, between),
                Edit::after(whole.end, close),
            ]
        });
    }

    /// `place op= by`, with the right side first, as the language evaluates it for numbers.
    fn assign(&mut self, binary: &syn::ExprBinary, function: &str, change: &str) {
        let whole = binary.span().byte_range();
        let (left, right) = (binary.left.span().byte_range(), binary.right.span().byte_range());
        let place = self.text[left].to_owned();
        self.site(binary.span(), &[format!("`{change}`")], Kind::Arithmetic, |switch| {
            let call = call(function, switch);
            vec![
                Edit::replace(whole.start..right.start, "{ let by = "),
                Edit::after(whole.end, format!("; {call}&mut ({place}), by) }}")),
            ]
        });
    }

    /// The operands of a chain of `&&` or `||`: each may be left out. Those that match a pattern stay.
    fn chain(&mut self, chain: &syn::ExprBinary) {
        let is_and = matches!(chain.op, BinOp::And(_));
        let (function, change) = if is_and { ("clause", "`true`") } else { ("alternative", "`false`") };
        let mut operands = Vec::new();
        operands_of(chain, is_and, &mut operands);
        for operand in operands {
            if !matches!(operand, Expr::Let(_)) {
                self.wrap(operand.span(), &[change.to_owned()], function);
            }
            self.visit_expr(operand);
        }
    }

    /// A condition that always holds, and one that never does; where it matches a pattern, only the latter.
    fn condition(&mut self, condition: &Expr, never_only: bool) {
        let end = condition.span().byte_range().end;
        if has_let(condition) {
            self.site(condition.span(), &["`false`".to_owned()], Kind::Plain, |switch| {
                vec![Edit::before(end, format!(" && crate::mutant::keep({switch})"))]
            });
        } else if never_only {
            self.wrap(condition.span(), &["`false`".to_owned()], "alternative");
        } else {
            self.wrap(condition.span(), &["`true`".to_owned(), "`false`".to_owned()], "condition");
        }
    }

    /// The body of a function, which may return at once.
    fn body(&mut self, signature: &Signature, block: &Block) {
        let values = returned_at_once(&signature.output);
        let at = block.brace_token.span.open().byte_range().end;
        if values.is_empty() || block.stmts.is_empty() {
            return;
        }
        let changes: Vec<_> =
            values.iter().map(|value| format!("return `{value}`").replace("`()`", "at once")).collect();
        self.site(signature.ident.span(), &changes, Kind::Body, |switch| {
            let returns = values.iter().zip(switch..);
            let text = |(value, switch)| format!(" if crate::mutant::on({switch}) {{ return {value}; }}");
            vec![Edit::before(at, returns.map(text).collect::<String>())]
        });
    }

    /// Visits a function, unless it is evaluated by the compiler.
    fn function(&mut self, signature: &Signature, block: &Block) {
        if signature.constness.is_some() {
            return;
        }
        let name = signature.ident.to_string();
        let name = self.owner.as_ref().map_or(name.clone(), |owner| format!("{owner}::{name}"));
        let outer = std::mem::replace(&mut self.function, name);
        self.body(signature, block);
        visit::visit_block(self, block);
        self.function = outer;
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_left_out(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if is_left_out(&item.attrs) || item.trait_.as_ref().is_some_and(|(_, path, _)| is_for_people(path)) {
            return;
        }
        let owner = text_of(self.text, item.self_ty.span());
        let outer = self.owner.replace(owner.split('<').next().unwrap_or_default().to_owned());
        visit::visit_item_impl(self, item);
        self.owner = outer;
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_left_out(&item.attrs) {
            self.function(&item.sig, &item.block);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_left_out(&item.attrs) {
            self.function(&item.sig, &item.block);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expression, Some(_)) = statement
            && !is_left_out(attributes(expression))
            && has_effect(expression)
        {
            let Range { start, end } = statement.span().byte_range();
            self.site(statement.span(), &["deleted".to_owned()], Kind::Plain, |switch| {
                let open = format!("if crate::mutant::keep({switch}) {{ ");
                vec![Edit::before(start, open), Edit::after(end, " }")]
            });
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.condition(&expression.cond, false);
        visit::visit_expr_if(self, expression);
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        self.condition(&expression.cond, true);
        visit::visit_expr_while(self, expression);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if is_left_out(&arm.attrs) {
            return;
        }
        if let Some((_, guard)) = &arm.guard {
            self.condition(guard, false);
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        match binary.op {
            BinOp::And(_) | BinOp::Or(_) => return self.chain(binary),
            BinOp::Lt(_) => self.binary(binary, "less", true, &["==", ">", "<="]),
            BinOp::Gt(_) => self.binary(binary, "greater", true, &["==", "<", ">="]),
            BinOp::Le(_) => self.binary(binary, "at_most", true, &[">", "<"]),
            BinOp::Ge(_) => self.binary(binary, "at_least", true, &["<", ">"]),
            BinOp::Eq(_) => self.binary(binary, "equal", true, &["!="]),
            BinOp::Ne(_) => self.binary(binary, "unequal", true, &["=="]),
            // Of a literal the other mutant adds less.
            BinOp::Add(_) if is_literal(&binary.right) => self.binary(binary, "plus", false, &["-"]),
            BinOp::Add(_) => self.binary(binary, "left_of_sum", false, &["only its left side"]),
            BinOp::Sub(_) => self.binary(binary, "minus", false, &["+"]),
            BinOp::Mul(_) => self.binary(binary, "times", false, &["/"]),
            BinOp::Div(_) => self.binary(binary, "divided", false, &["*"]),
            BinOp::Rem(_) => self.binary(binary, "remainder", false, &["/"]),
            BinOp::AddAssign(_) => {
                self.assign(binary, "add", "-=");
                return self.visit_expr(&binary.right);
            }
            BinOp::SubAssign(_) => {
                self.assign(binary, "subtract", "+=");
                return self.visit_expr(&binary.right);
            }
            _ => {}
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        if let UnOp::Not(not) = unary.op {
            let (sign, end) = (not.span().byte_range(), unary.span().byte_range().end);
            self.site(unary.span(), &["without `!`".to_owned()], Kind::Operands, |switch| {
                vec![Edit::replace(sign, call("not", switch)), Edit::after(end, ")")]
            });
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_method_call(&mut self, method: &'ast syn::ExprMethodCall) {
        let function = if method.method == "max" { "greatest" } else { "least" };
        if let ("max" | "min", Some(argument), 1) =
            (&*method.method.to_string(), method.args.first(), method.args.len())
        {
            let start = method.span().byte_range().start;
            let between = method.receiver.span().byte_range().end..argument.span().byte_range().start;
            let changes = ["only its left side".to_owned(), "only its right side".to_owned()];
            self.site(method.span(), &changes, Kind::Arithmetic, |switch| {
                vec![Edit::before(start, call(function, switch)), Edit::replace(between, ", ")]
            });
        }
        visit::visit_expr_method_call(self, method);
    }

    fn visit_expr_lit(&mut self, literal: &'ast syn::ExprLit) {
        let syn::Lit::Int(number) = &literal.lit else { return };
        let Ok(value) = number.base10_parse::<u128>() else { return };
        let (suffix, range) = (number.suffix(), literal.span().byte_range());
        let text = text_of(self.text, literal.span());
        let other = format!("{}{suffix}", if value == 0 { 1 } else { value - 1 });
        self.site(literal.span(), &[format!("`{other}`")], Kind::Plain, |switch| {
            vec![Edit::replace(
                range,
                format!("(if crate::mutant::on({switch}) {{ {other} }} else {{ {text} }})"),
            )]
        });
    }

    /// The length of an array is evaluated by the compiler.
    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_pat(&mut self, _: &'ast Pat) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_item_trait(&mut self, _: &'ast syn::ItemTrait) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
}

/// What stands there.
fn text_of(text: &str, at: Span) -> String {
    text[at.byte_range()].to_owned()
}

/// The operands of a chain of one operator, from the left to the right.
fn operands_of<'e>(chain: &'e syn::ExprBinary, is_and: bool, found: &mut Vec<&'e Expr>) {
    for side in [&*chain.left, &*chain.right] {
        match side {
            Expr::Binary(inner) if matches!(inner.op, BinOp::And(_)) && is_and => {
                operands_of(inner, is_and, found);
            }
            Expr::Binary(inner) if matches!(inner.op, BinOp::Or(_)) && !is_and => {
                operands_of(inner, is_and, found);
            }
            _ => found.push(side),
        }
    }
}

/// Whether a condition matches a pattern somewhere in its chain of `&&`.
fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(binary) if matches!(binary.op, BinOp::And(_)) => {
            has_let(&binary.left) || has_let(&binary.right)
        }
        _ => false,
    }
}

/// Whether a statement may be left out: an assignment, or a call.
fn has_effect(expression: &Expr) -> bool {
    match expression {
        Expr::Assign(_) | Expr::Call(_) | Expr::MethodCall(_) => true,
        Expr::Binary(binary) => is_assignment(&binary.op),
        Expr::Try(inner) => has_effect(&inner.expr),
        _ => false,
    }
}

fn is_literal(expression: &Expr) -> bool {
    matches!(expression, Expr::Lit(_))
}

fn is_assignment(operator: &BinOp) -> bool {
    matches!(
        operator,
        BinOp::AddAssign(_)
            | BinOp::SubAssign(_)
            | BinOp::MulAssign(_)
            | BinOp::DivAssign(_)
            | BinOp::RemAssign(_)
            | BinOp::BitXorAssign(_)
            | BinOp::BitAndAssign(_)
            | BinOp::BitOrAssign(_)
            | BinOp::ShlAssign(_)
            | BinOp::ShrAssign(_)
    )
}

fn attributes(expression: &Expr) -> &[syn::Attribute] {
    match expression {
        Expr::Assign(it) => &it.attrs,
        Expr::Call(it) => &it.attrs,
        Expr::MethodCall(it) => &it.attrs,
        Expr::Binary(it) => &it.attrs,
        Expr::Try(it) => &it.attrs,
        _ => &[],
    }
}

/// What no member runs: tests, the kernel's checks of itself, and what explorers alone need.
fn is_left_out(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        ["test", "debug_assertions", "feature = \"explore\""].contains(&&*condition)
    })
}

/// What is read by people alone.
fn is_for_people(of: &syn::Path) -> bool {
    let last = of.segments.last().map(|segment| segment.ident.to_string());
    last.is_some_and(|name| ["Debug", "Display", "Error"].contains(&&*name))
}

/// What a function might return without doing anything.
fn returned_at_once(output: &ReturnType) -> Vec<&'static str> {
    let ReturnType::Type(_, of) = output else { return vec!["()"] };
    let Type::Path(path) = &**of else { return Vec::new() };
    let Some(last) = path.path.segments.last() else { return Vec::new() };
    match &*last.ident.to_string() {
        "bool" => vec!["true", "false"],
        "Option" => vec!["None"],
        "Next" => vec!["Next::Stay"],
        "Result" if is_of_unit(&last.arguments) => vec!["Ok(())"],
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => vec!["0", "1"],
        "Self" | "Result" | "Box" => Vec::new(),
        _ => vec!["Default::default()"],
    }
}

/// Whether the first argument of a type is `()`.
fn is_of_unit(arguments: &syn::PathArguments) -> bool {
    let syn::PathArguments::AngleBracketed(arguments) = arguments else { return false };
    let Some(syn::GenericArgument::Type(Type::Tuple(tuple))) = arguments.args.first() else { return false };
    tuple.elems.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_tests::mutant::edit::apply;

    /// The text with all its mutants in it, in one line, and what they are called.
    fn mutated(text: &str) -> (String, Vec<String>) {
        let sites = find("a.rs", text, 1).expect("it is Rust");
        let groups: Vec<_> = sites.iter().map(|site| &*site.edits).collect();
        let (new, _) = apply(text, &groups);
        syn::parse_file(&new).expect("it is Rust still");
        let new = new.replace("crate::mutant::", "").split_whitespace().collect::<Vec<_>>().join(" ");
        let name = |mutant: &Mutant| format!("{}: {} {}", mutant.function, mutant.original, mutant.change);
        (new, sites.iter().flat_map(|site| &site.mutants).map(name).collect())
    }

    #[test]
    fn operators_become_calls_within_one_another() {
        let (new, names) = mutated("fn f(a: u8) -> &str { g(a + 1 < b) }");
        assert_eq!(
            new,
            "fn f(a: u8) -> &str { g(less(1, &(plus(4, a , (if on(5) { 0 } else { 1 })) ), &( b))) }"
        );
        let less = ["==", ">", "<="].map(|change| format!("f: a + 1 < b `{change}`"));
        assert_eq!(names[..3], less);
        assert_eq!(names[3..], ["f: a + 1 `-`", "f: 1 `0`"]);
    }

    #[test]
    fn sums_lose_what_is_added() {
        let (new, names) = mutated("fn f() -> &str { a + b - c }");
        assert_eq!(new, "fn f() -> &str { minus(1, left_of_sum(2, a , b) , c) }");
        assert_eq!(names, ["f: a + b - c `+`", "f: a + b only its left side"]);
    }

    #[test]
    fn conditions_lose_their_clauses_and_hold_always_or_never() {
        let (new, names) = mutated("fn f() -> &str { if a && !b || c { d } }");
        let condition =
            "condition(1, alternative(3, clause(4, a) && clause(5, not(6, b))) || alternative(7, c))";
        assert_eq!(new, format!("fn f() -> &str {{ if {condition} {{ d }} }}"));
        assert_eq!(names[..2], ["f: a && !b || c `true`", "f: a && !b || c `false`"]);
        let (new, names) = mutated("fn f() -> &str { if let Some(a) = b && a { c } while d { } }");
        let text = "if let Some(a) = b && clause(2, a) && keep(1) { c } while alternative(3, d) { }";
        assert_eq!(new, format!("fn f() -> &str {{ {text} }}"));
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn statements_are_deleted_and_functions_return_at_once() {
        let (new, names) = mutated("impl<T> A<T> { fn f(&mut self) { self.a += b; let c = 5; g(); } }");
        let body = "if on(1) { return (); } if keep(2) { { let by = b; add(3, &mut (self.a), by) }; } \
                    let c = (if on(4) { 4 } else { 5 }); if keep(5) { g(); }";
        assert_eq!(new, format!("impl<T> A<T> {{ fn f(&mut self) {{ {body} }} }}"));
        assert_eq!(names[..2], ["A::f: f return at once", "A::f: self.a += b; deleted"]);
        let (_, names) =
            mutated("fn f() -> bool { a } fn g() -> Option<A> { b } fn h() -> Result<(), A> { c }");
        let returns =
            ["f: f return `true`", "f: f return `false`", "g: g return `None`", "h: h return `Ok(())`"];
        assert_eq!(names, returns);
    }

    #[test]
    fn clamps_lose_a_side() {
        let (new, names) = mutated("fn f() -> &str { a.b.max(c) }");
        assert_eq!(new, "fn f() -> &str { greatest(1, a.b, c) }");
        assert_eq!(names, ["f: a.b.max(c) only its left side", "f: a.b.max(c) only its right side"]);
        assert_eq!(mutated("fn f() -> &str { a.iter().max() }").1.len(), 0);
    }

    #[test]
    fn what_no_member_runs_is_left_alone() {
        for text in [
            "#[cfg(test)] mod tests { fn f() -> bool { a == b } }",
            "#[cfg(debug_assertions)] fn f() -> bool { a == b }",
            "#[cfg(feature = \"explore\")] fn f() -> bool { a == b }",
            "const fn f() -> bool { a == b }",
            "const A: u8 = 1 + 2; static B: [u8; 3] = [0; 3];",
            "impl fmt::Display for A { fn fmt(&self) -> bool { a == b } }",
            "fn f() -> &str { debug_assert!(a == b); match a { 0..=1 => b } }",
        ] {
            assert_eq!(mutated(text).1, [""; 0], "{text}");
        }
    }
}
