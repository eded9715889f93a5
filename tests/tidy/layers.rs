//! Which module may import which.

use std::collections::BTreeSet;

use crate::paths::{self, Path};
use crate::source::{Source, Violation};
use crate::{ALLOWED, LAYERS};

/// Imports point down the table [`LAYERS`].
pub(crate) fn imports_point_down(source: &Source<'_>) -> Vec<Violation> {
    // The root of the library declares and re-exports everything.
    if !source.is_package_code() || source.path == "src/lib.rs" {
        return Vec::new();
    }
    let from = owner(&paths::module(source.path), Unknown::IsModule);
    if row(&from).is_none() {
        let sentence = format!("add the module `{from}` to the table in tests/tidy.rs");
        return vec![source.violation(1, sentence)];
    }
    let paths = paths::paths(source);
    let complaints = paths.iter().filter_map(|path| {
        let sentence = complaint(&from, path)?;
        Some(source.violation(path.line, sentence))
    });
    complaints.collect()
}

/// What is wrong with `path` in the module `from`.
fn complaint(from: &str, path: &Path<'_>) -> Option<String> {
    let ["crate", inner @ ..] = &path.segments[..] else {
        return None;
    };
    if inner.is_empty() && path.statement.is_none() {
        return None; // the keyword alone, as in `pub(crate)`
    }
    if matches!(inner, [] | ["*"]) {
        return Some("import from a module, not the crate as a whole".to_owned());
    }
    let to = owner(inner, Unknown::IsItem);
    let Some(to_row) = row(&to) else {
        return Some(format!("`{to}` is not in the table in tests/tidy.rs: add it, or name the module that owns it"));
    };
    let from_row = row(from).expect("the caller looked it up");
    let allowed = ALLOWED.iter().any(|pair| (pair.0, pair.1) == (from, &to));
    let own = to == from || to.starts_with(&format!("{from}::"));
    (!own && !allowed && to_row >= from_row).then(|| {
        format!(
            "`{from}` (row {from_row}) may not import `{to}` (row {to_row}): move what both need \
             to a lower row, or let a higher row pass it in"
        )
    })
}

/// A `use` names one module of the crate.
pub(crate) fn one_module_per_use(source: &Source<'_>) -> Vec<Violation> {
    if !source.is_package_code() {
        return Vec::new();
    }
    let paths = paths::paths(source);
    let statements: BTreeSet<usize> = paths.iter().filter_map(|path| path.statement).collect();
    let violations = statements.iter().filter_map(|statement| {
        let paths = paths.iter().filter(|path| path.statement == Some(*statement));
        let inner = paths.filter(|path| path.segments[0] == "crate");
        let modules: BTreeSet<&str> = inner.filter_map(|path| path.segments.get(1)).copied().collect();
        let line = source.tokens[*statement].line;
        (modules.len() > 1 || opens_at_root(source, *statement))
            .then(|| source.violation(line, "write one `use` for each module of the crate"))
    });
    violations.collect()
}

/// Whether a `use` has braces right after the name of the crate.
fn opens_at_root(source: &Source<'_>, statement: usize) -> bool {
    let text = |ahead| source.token(Some(statement + ahead));
    matches!(text(1), "crate" | "ringsock") && text(2) == "::" && text(3) == "{"
}

/// The row of `module`, if the table has it.
pub(crate) fn row(module: &str) -> Option<u8> {
    let found = LAYERS.iter().find(|row| row.1.contains(&module));
    found.map(|row| row.0)
}

/// The module of the table that `path`, without `crate`, belongs to.
///
/// The submodules of `proto` are modules of their own.
fn owner(path: &[&str], unknown: Unknown) -> String {
    let [first, second, ..] = path else {
        return path.concat();
    };
    let nested = format!("{first}::{second}");
    match unknown {
        Unknown::IsModule if *first == "proto" => nested,
        _ if row(&nested).is_some() => nested,
        _ => (*first).to_owned(),
    }
}

/// What a name below `proto` is when the table does not list it.
#[derive(Clone, Copy)]
enum Unknown {
    /// A file: its module should be listed.
    IsModule,
    /// A path in code: it may name an item of `proto` itself.
    IsItem,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::check;

    #[track_caller]
    fn check_down(path: &str, text: &str, expect: &[usize]) {
        check(imports_point_down, path, text, expect);
    }

    #[track_caller]
    fn check_use(text: &str, expect: &[usize]) {
        check(one_module_per_use, "src/worker/mod.rs", text, expect);
    }

    #[test]
    fn lower_rows_may_be_imported() {
        check_down("src/worker/send.rs", "use crate::ring::Op;\nuse crate::buf;", &[]);
        check_down("src/worker/send.rs", "use crate::proto::{ws, http};", &[]);
        check_down("src/worker/send.rs", "use crate::proto::Role;", &[]);
        check_down("src/main.rs", "fn main() { ringsock::cli::run() }", &[]);
    }

    #[test]
    fn higher_rows_may_not_be_imported() {
        check_down("src/slab.rs", "use std::fmt;\nuse crate::worker::Worker;", &[2]);
        check_down("src/worker/send.rs", "use crate::server;", &[1]);
        check_down("src/broker/mod.rs", "use crate::handler::Handler;", &[1]);
    }

    #[test]
    fn the_own_module_may_be_imported() {
        check_down("src/worker/send.rs", "use crate::worker::Turn;\nuse super::Turn;", &[]);
        check_down("src/slab.rs", "mod tests { use super::*; }", &[]);
        check_down("src/proto/ws/close.rs", "use crate::proto::ws::header;", &[]);
    }

    #[test]
    fn modules_of_one_row_may_not_import_each_other() {
        check_down("src/control/admin.rs", "use crate::load::Plan;", &[1]);
        check_down("src/buf/pool.rs", "use crate::slab::Slab;", &[1]);
        check_down("src/tls/session.rs", "use crate::sys;\nuse crate::ring;", &[1, 2]);
    }

    #[test]
    fn an_exception_holds_in_one_direction() {
        check_down("src/ring/mod.rs", "use crate::sys::limits;", &[]);
        check_down("src/sys/limits.rs", "use crate::ring::Op;", &[1]);
    }

    #[test]
    fn protocols_are_modules_of_their_own() {
        let text = "use crate::proto::http;\nuse super::super::ws;\nuse crate::proto::Role;";
        check_down("src/proto/stomp/session.rs", text, &[1, 2, 3]);
        check_down("src/proto/mod.rs", "pub use crate::proto::ws::Session;", &[]);
        check_down("src/proto/stomp.rs", "use super::http::Head;", &[1]);
    }

    #[test]
    fn every_path_counts() {
        check_down("src/slab.rs", "fn f(a: crate::buf::A, b: crate::ring::B) {}", &[1, 1]);
        check_down(
            "src/slab.rs",
            "use crate::{\n    slab::A,\n    worker::{b::{C}, D},\n    cli as x,\n};",
            &[3, 3, 4],
        );
        check_down("src/server.rs", "use super::cli;\nuse self::super::cli;", &[1, 2]);
    }

    #[test]
    fn tests_obey_the_layers_too() {
        check_down("src/slab.rs", "#[cfg(test)]\nmod tests {\n    use crate::ring;\n}", &[3]);
        check_down("src/slab/tests.rs", "use crate::ring;", &[1]);
    }

    #[test]
    fn comments_strings_and_visibilities_do_not_count() {
        check_down(
            "src/slab.rs",
            "//! crate::worker\n/// [`crate::cli::A`]\n/* crate::ring */\nconst A: &str = \"crate::cli\";",
            &[],
        );
        check_down("src/proto/ws/a.rs", "pub(in crate::proto) fn f() {}", &[]);
        check_down("src/slab.rs", "pub(crate) struct A;\nextern crate alloc;", &[]);
    }

    #[test]
    fn unknown_modules_must_join_the_table() {
        check_down("src/quic.rs", "//! Doc.", &[1]);
        check_down("src/proto/mqtt/mod.rs", "//! Doc.", &[1]);
        check_down("src/worker/mod.rs", "use crate::quic::Stream;\ncrate::log!();", &[1, 2]);
        check_down("src/bin/extra.rs", "//! Doc.", &[1]);
    }

    #[test]
    fn the_crate_as_a_whole_may_not_be_imported() {
        check_down("src/worker/mod.rs", "use crate::*;\nuse crate as c;\nuse crate::{self as d};", &[1, 2, 3]);
        check_down("src/main.rs", "use ringsock as r;", &[1]);
    }

    #[test]
    fn only_the_package_has_layers_and_its_root_is_exempt() {
        check_down("src/lib.rs", "pub use crate::server::Server;\npub mod quic;", &[]);
        check_down("tests/echo.rs", "use crate::quic;", &[]);
    }

    #[test]
    fn sentences_name_both_modules_and_rows() {
        let source = Source::new("src/slab.rs", "use crate::proto::ws::Session;");
        let sentence = &imports_point_down(&source)[0].sentence;
        assert!(sentence.starts_with("`slab` (row 0) may not import `proto::ws` (row 1): "));
    }

    #[test]
    fn a_use_of_one_module_passes() {
        check_use("use crate::buf::{Pool, lease::{self, Lease}};\nuse crate::slab;", &[]);
        check_use("use std::{fmt, io};\nuse std::a;\nuse super::ring::{a, b};\nuse crate::proto::{http, ws};", &[]);
        check_use("fn f() -> impl A + use<'a> { (crate::a::b(), crate::c::d()) }", &[]);
        check(one_module_per_use, "tests/a.rs", "use crate::{a, b};", &[]);
    }

    #[test]
    fn a_use_of_two_modules_is_caught() {
        check_use("use crate::{buf, slab};", &[1]);
        check_use("use crate::{buf::Pool, buf::Lease};", &[1]);
        check_use("use a::b;\npub(crate) use crate::{\n    buf::Pool,\n    slab,\n};", &[2]);
        check_use("use {crate::buf, crate::slab};", &[1]);
        check(one_module_per_use, "src/worker/send.rs", "use super::super::{buf, slab};", &[1]);
        check(one_module_per_use, "src/worker/send.rs", "use super::{buf, slab};", &[]);
        check(one_module_per_use, "src/server.rs", "use super::{buf, slab};", &[1]);
        check(one_module_per_use, "src/main.rs", "use ringsock::{cli, server};", &[1]);
    }
}
