//! Rules about single tokens: `unsafe`, `unwrap`, ignored tests and assertions on time.

use crate::source::{Source, Violation, closing};

/// `unsafe`, and leave to write it, is confined to [`UNSAFE_MODULES`].
pub(crate) fn unsafe_in_its_place(source: &Source<'_>) -> Vec<Violation> {
    let home = |module: &&str| {
        let rest = source.path.strip_prefix("src/").and_then(|path| path.strip_prefix(*module));
        rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    if !source.is_package_code() || UNSAFE_MODULES.iter().any(home) {
        return Vec::new();
    }
    let sentence = format!("move unsafe code to one of {}", UNSAFE_MODULES.join(", "));
    matching(source, &sentence, |index| match source.tokens[index].text {
        "unsafe" => true,
        "unsafe_code" => lifts_lint(source, index),
        _ => false,
    })
}

/// Whether the lint name at `index` is in an attribute that lowers its level.
fn lifts_lint(source: &Source<'_>, index: usize) -> bool {
    let open = source.tokens[..index].iter().rposition(|token| token.text == "(");
    let level = source.token(open.and_then(|open| open.checked_sub(1)));
    matches!(level, "allow" | "expect" | "warn")
}

/// Production code says why a value is there.
pub(crate) fn no_unwrap(source: &Source<'_>) -> Vec<Violation> {
    if !source.is_package_code() {
        return Vec::new();
    }
    let sentence = "write `expect` with the invariant, or return the error";
    matching(source, sentence, |index| {
        source.tokens[index].text == "unwrap"
            && matches!(source.token(index.checked_sub(1)), "." | "::")
            && !source.is_test(source.tokens[index].line)
    })
}

/// A test runs, or it goes.
pub(crate) fn no_ignored_test(source: &Source<'_>) -> Vec<Violation> {
    let sentence = "make the test run everywhere, or delete it";
    matching(source, sentence, |index| {
        if source.token(Some(index)) != "#" || source.token(Some(index + 1)) != "[" {
            return false;
        }
        let words = &source.tokens[index + 2..=closing(&source.tokens, index + 1)];
        match words.first().map_or("", |token| token.text) {
            "ignore" => true,
            "cfg_attr" => words.iter().any(|token| token.text == "ignore"),
            _ => false,
        }
    })
}

/// A test that asserts how long something took fails on a busy machine.
pub(crate) fn no_assertion_on_elapsed_time(source: &Source<'_>) -> Vec<Violation> {
    let sentence = "assert what happened, or use a virtual clock: elapsed time varies";
    matching(source, sentence, |index| {
        let token = |ahead| source.token(Some(index + ahead));
        let open = index + 1 + usize::from(token(1) == "!");
        if !token(0).contains("assert") || !matches!(source.token(Some(open)), "(" | "[" | "{") {
            return false;
        }
        let arguments = &source.tokens[open..=closing(&source.tokens, open)];
        arguments.windows(2).any(|pair| pair[0].text == "elapsed" && pair[1].text == "(")
    })
}

/// A violation for each token whose index is `bad`.
fn matching(source: &Source<'_>, sentence: &str, bad: impl Fn(usize) -> bool) -> Vec<Violation> {
    let found = (0..source.tokens.len()).filter(|index| bad(*index));
    found.map(|index| source.violation(source.tokens[index].line, sentence)).collect()
}

const UNSAFE_MODULES: &[&str] = &["ring", "sys", "simd", "buf"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::check;

    #[test]
    fn unsafe_code_elsewhere_is_caught() {
        for text in [
            "fn f() { unsafe { g() } }",
            "unsafe fn f() {}",
            "unsafe impl Send for A {}",
            "unsafe extern \"C\" { fn f(); }",
            "#![expect(unsafe_code, reason = \"speed\")]",
            "#[allow(dead_code, unsafe_code)]",
            "#[cfg_attr(unix, warn(unsafe_code))]",
        ] {
            for path in ["src/worker/mod.rs", "src/ringing.rs", "src/proto/buf.rs", "src/main.rs"] {
                check(unsafe_in_its_place, path, &format!("\n{text}"), &[2]);
            }
        }
    }

    #[test]
    fn unsafe_code_at_home_passes() {
        let text = "#![expect(unsafe_code, reason = \"kernel\")]\nunsafe fn f() { unsafe { g() } }";
        for path in ["src/ring/op.rs", "src/sys.rs", "src/simd/mask.rs", "src/buf/pool.rs"] {
            check(unsafe_in_its_place, path, text, &[]);
        }
    }

    #[test]
    fn the_word_unsafe_is_harmless_in_prose_and_lints() {
        let text = "// unsafe {\n#![deny(unsafe_code)]\n#![forbid(unsafe_code)]\nf(\"unsafe {\", unsafely);";
        check(unsafe_in_its_place, "src/worker/mod.rs", text, &[]);
        check(unsafe_in_its_place, "tests/echo.rs", "unsafe {}", &[]);
    }

    #[test]
    fn unwrap_in_production_is_caught() {
        check(no_unwrap, "src/slab.rs", "a.unwrap();\na\n    .b()\n    .unwrap()", &[1, 4]);
        check(no_unwrap, "src/slab.rs", "a.map(Option::unwrap)", &[1]);
        check(no_unwrap, "src/slab.rs", "#[cfg(test)]\nmod tests;\na.unwrap();", &[3]);
    }

    #[test]
    fn unwrap_passes_in_tests_and_under_other_names() {
        check(no_unwrap, "src/slab.rs", "#[cfg(test)]\nmod tests {\n    fn f() { a.unwrap() }\n}", &[]);
        check(no_unwrap, "src/slab/tests.rs", "a.unwrap();", &[]);
        check(no_unwrap, "tests/echo.rs", "a.unwrap();", &[]);
        check(no_unwrap, "src/slab.rs", "a.unwrap_or(b); // .unwrap()\nf(\".unwrap()\")", &[]);
    }

    #[test]
    fn ignored_tests_are_caught() {
        let text = "#[test]\n#[ignore]\nfn a() {}\n#[ignore = \"slow\"]\nfn b() {}";
        check(no_ignored_test, "tests/echo.rs", text, &[2, 4]);
        check(no_ignored_test, "src/slab.rs", "#[cfg_attr(miri, ignore)]", &[1]);
    }

    #[test]
    fn other_uses_of_the_word_ignore_pass() {
        let text = "// #[ignore]\nlet a = \"#[ignore]\";\nignore(a[ignore]);\n#[test]\nfn ignore() {}";
        check(no_ignored_test, "tests/echo.rs", text, &[]);
    }

    #[test]
    fn assertions_on_elapsed_time_are_caught() {
        for text in [
            "assert!(start.elapsed() < limit);",
            "assert_eq!(a.elapsed().as_secs(), 0, \"slow\");",
            "prop_assert!(start.elapsed() < limit)",
            "assert!(\n    start.elapsed()\n        < limit\n);",
            "assert_fast(start.elapsed());",
        ] {
            check(no_assertion_on_elapsed_time, "tests/echo.rs", &format!("\n{text}"), &[2]);
        }
    }

    #[test]
    fn elapsed_time_may_be_waited_for_and_printed() {
        let text = "while start.elapsed() < limit {}\nassert!(done);\n// assert!(a.elapsed())\n\
                    assert!(done, \"{}\", elapsed); a.elapsed();";
        check(no_assertion_on_elapsed_time, "tests/echo.rs", text, &[]);
    }
}
