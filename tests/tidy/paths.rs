//! The paths that a file names, with `use` trees spread out.

use crate::source::Source;

/// One `a::b::c` in code or at the tip of a `use` tree.
#[derive(Debug)]
pub(crate) struct Path<'a> {
    /// A path into this crate starts with `crate`, however it was written.
    pub(crate) segments: Vec<&'a str>,
    /// The line of the last segment.
    pub(crate) line: usize,
    /// The index of the `use` token that this path belongs to.
    pub(crate) statement: Option<usize>,
}

/// The module path of a file under `src`: `src/proto/ws/mod.rs` is `proto`, `ws`.
pub(crate) fn module(path: &str) -> Vec<&str> {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let mut names: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if names == ["lib"] || names.last() == Some(&"mod") {
        names.pop();
    }
    names
}

/// All paths of `source`, in order; single names are paths too.
pub(crate) fn paths<'a>(source: &Source<'a>) -> Vec<Path<'a>> {
    let mut walk = Walk {
        source,
        index: 0,
        statement: None,
        modules: module(source.path),
        depths: Vec::new(),
        depth: 0,
        paths: Vec::new(),
    };
    while walk.index < source.tokens.len() {
        walk.step();
    }
    walk.paths
}

/// A walk over the tokens that knows which module it is in.
struct Walk<'s, 'a> {
    source: &'s Source<'a>,
    index: usize,
    statement: Option<usize>,
    /// The current module, inline ones included.
    modules: Vec<&'a str>,
    /// The brace depths at which the inline modules started.
    depths: Vec<usize>,
    depth: usize,
    paths: Vec<Path<'a>>,
}

impl<'a> Walk<'_, 'a> {
    fn step(&mut self) {
        match self.text(0) {
            "use" if self.text(1) != "<" => self.statement = Some(self.index),
            ";" => self.statement = None,
            "{" => self.depth += 1,
            "}" => self.close(),
            "mod" if self.text(2) == "{" => {
                self.modules.push(self.text(1));
                self.depths.push(self.depth);
                self.index += 1; // over the name; the brace is the next step
            }
            "in" if self.text(1) == "crate" && self.is_visibility() => {
                while !matches!(self.text(0), ")" | "") {
                    self.index += 1;
                }
            }
            text if is_name(text) => {
                self.tree(&[]);
                return;
            }
            _ => {}
        }
        self.index += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depths.last() == Some(&self.depth) {
            self.depths.pop();
            self.modules.pop();
        }
    }

    /// Reads a path or `use` tree below `prefix`, and stops at the first token after it.
    fn tree(&mut self, prefix: &[&'a str]) {
        let mut segments = prefix.to_vec();
        loop {
            match self.text(0) {
                "{" => return self.group(&segments),
                text if is_name(text) || text == "*" => segments.push(text),
                _ => break, // such as the `<` of a turbofish
            }
            self.index += 1;
            if self.text(0) != "::" {
                break;
            }
            self.index += 1;
        }
        let line = self.source.tokens[self.index.min(self.source.tokens.len()) - 1].line;
        let path = Path { segments: self.absolute(segments), line, statement: self.statement };
        self.paths.push(path);
    }

    /// Reads `{a, b::c}` below `prefix`.
    fn group(&mut self, prefix: &[&'a str]) {
        self.index += 1;
        loop {
            match self.text(0) {
                "}" => {
                    self.index += 1;
                    return;
                }
                ";" | "" => return, // unfinished text
                text if is_name(text) || matches!(text, "{" | "*") => self.tree(prefix),
                _ => self.index += 1,
            }
            if self.text(0) == "as" {
                self.index += 2;
            }
        }
    }

    /// Makes paths from `super` and `self`, and those of the binary into the library, start with
    /// `crate`.
    fn absolute(&self, segments: Vec<&'a str>) -> Vec<&'a str> {
        let mut rest = &segments[..];
        let mut absolute = vec!["crate"];
        match rest {
            ["crate" | "ringsock", tail @ ..] => rest = tail,
            ["self", _, ..] | ["super", ..] => absolute.extend(&self.modules),
            _ => return segments,
        }
        while let ["super" | "self", tail @ ..] = rest {
            if rest[0] == "super" && absolute.len() > 1 {
                absolute.pop();
            }
            rest = tail;
        }
        absolute.extend(rest.iter().filter(|segment| **segment != "self"));
        absolute
    }

    /// Whether the word `in` belongs to `pub(in path)`, which imports nothing.
    fn is_visibility(&self) -> bool {
        let before = |count| self.source.token(self.index.checked_sub(count));
        before(1) == "(" && before(2) == "pub"
    }

    fn text(&self, ahead: usize) -> &'a str {
        self.source.token(Some(self.index + ahead))
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares those paths in `text` that have more than one segment.
    #[track_caller]
    fn check(path: &str, text: &str, expect: &[&str]) {
        let paths = paths(&Source::new(path, text));
        let long = paths.iter().filter(|path| path.segments.len() > 1);
        let found: Vec<String> = long.map(|path| path.segments.join("::")).collect();
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn files_are_modules() {
        assert_eq!(module("src/proto/ws/mod.rs"), ["proto", "ws"]);
        assert_eq!(module("src/proto/ws/close.rs"), ["proto", "ws", "close"]);
        assert_eq!(module("src/server.rs"), ["server"]);
        assert_eq!(module("src/main.rs"), ["main"]);
        assert_eq!(module("src/lib.rs"), [""; 0]);
    }

    #[test]
    fn every_path_on_a_line_is_found() {
        check(
            "src/slab.rs",
            "fn f(a: crate::a::A) -> crate::b::B { $crate::c::d!(crate::e::F::new()) }",
            &["crate::a::A", "crate::b::B", "crate::c::d", "crate::e::F::new"],
        );
        check(
            "src/slab.rs",
            "Vec::<crate::a::A>::new(); <crate::b::B as crate::c::C>::D",
            &["crate::a::A", "crate::b::B", "crate::c::C"],
        );
    }

    #[test]
    fn use_trees_are_spread_out() {
        check(
            "src/slab.rs",
            "use crate::{\n    a,\n    b::{self, c as x, d::*},\n    e as f,\n};\nuse g::h;",
            &["crate::a", "crate::b", "crate::b::c", "crate::b::d::*", "crate::e", "g::h"],
        );
        check(
            "src/slab.rs",
            "use {crate::a, std::{io::Read, time::{Duration, Instant}}};",
            &["crate::a", "std::io::Read", "std::time::Duration", "std::time::Instant"],
        );
    }

    #[test]
    fn paths_from_super_and_self_become_absolute() {
        check(
            "src/proto/ws/close.rs",
            "use super::header::H;\nuse super::super::http;\nuse self::a::b;\nuse self::super::c;",
            &[
                "crate::proto::ws::header::H",
                "crate::proto::http",
                "crate::proto::ws::close::a::b",
                "crate::proto::ws::c",
            ],
        );
        check("src/server.rs", "super::worker::run()", &["crate::worker::run"]);
        check("src/main.rs", "ringsock::cli::run()", &["crate::cli::run"]);
        check("src/slab.rs", "self.a(); Self::b(); &self", &["Self::b"]);
    }

    #[test]
    fn inline_modules_count_for_super() {
        check(
            "src/server.rs",
            "mod a { fn f() { if x {} } mod b { super::super::c::d } super::e }\nsuper::f",
            &["crate::server::c::d", "crate::server::e", "crate::f"],
        );
        check("src/server.rs", "mod a;\nsuper::f", &["crate::f"]);
    }

    #[test]
    fn visibilities_are_no_imports() {
        check("src/slab.rs", "pub(in crate::a) fn f() {} crate::b::c", &["crate::b::c"]);
        check("src/slab.rs", "for a in crate::b::c {}", &["crate::b::c"]);
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        check("src/slab.rs", "// crate::a\n/// [`crate::b`]\nf(\"crate::c\")", &[]);
    }

    #[test]
    fn lines_and_statements_are_those_of_the_tip() {
        let source = Source::new("src/slab.rs", "use crate::{\n    a::b,\n    c,\n};\nd::e()");
        let found: Vec<_> =
            paths(&source).iter().map(|path| (path.segments.join("::"), path.line, path.statement)).collect();
        let expect =
            [("crate::a::b".to_owned(), 2, Some(0)), ("crate::c".to_owned(), 3, Some(0)), ("d::e".to_owned(), 5, None)];
        assert_eq!(found, expect);
    }

    #[test]
    fn a_captured_lifetime_list_is_no_import() {
        let source = Source::new("src/slab.rs", "fn f() -> impl A + use<'a> { b::c }");
        assert!(paths(&source).iter().all(|path| path.statement.is_none()));
    }

    #[test]
    fn unfinished_text_ends_quietly() {
        for text in ["use", "use a::", "use a::{", "use a::{b, c::{", "pub(in crate", "mod a {", "}"] {
            paths(&Source::new("src/slab.rs", text));
        }
    }
}
