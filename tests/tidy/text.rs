//! Rules about files as text: their length, first line, name and leftovers.

use crate::scan::is_word;
use crate::source::{Source, Violation};

/// A file fits into one head.
pub(crate) fn file_length(source: &Source<'_>) -> Vec<Violation> {
    if !source.is_rust() {
        return Vec::new();
    }
    let lines = 1..=source.text.lines().count();
    let (max, counted): (usize, Vec<usize>) = match source.is_test_file() {
        true => (TEST_LINES_MAX, lines.collect()),
        false => (PRODUCTION_LINES_MAX, lines.filter(|line| !source.is_test(*line)).collect()),
    };
    let sentence = || format!("split the file: {} lines, at most {max}", counted.len());
    let excess = counted.get(max);
    excess.map(|line| source.violation(*line, sentence())).into_iter().collect()
}

/// A file says first what it is.
pub(crate) fn module_doc(source: &Source<'_>) -> Vec<Violation> {
    if !source.is_package_code() || source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![source.violation(1, "begin the file with a `//!` line that says what it owns")]
}

/// A name that fits everything says nothing.
pub(crate) fn telling_file_name(source: &Source<'_>) -> Vec<Violation> {
    let mut words = source.path.split(|c: char| !c.is_alphanumeric());
    let vague = words.find(|word| VAGUE.contains(word));
    let sentence = |word| format!("name the file after what it owns, not `{word}`");
    vague.map(|word| source.violation(1, sentence(word))).into_iter().collect()
}

/// No promises, and no paths of the machine that the text was written on.
pub(crate) fn no_leftovers(source: &Source<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for word in PROMISES.iter().filter(|word| occurs(line, word)) {
            let sentence = format!("do it now or drop the `{word}`: a promise is not text");
            violations.push(source.violation(index + 1, sentence));
        }
        for path in MACHINE_PATHS.iter().filter(|path| occurs(line, path)) {
            let sentence = format!("remove `{path}`: that path exists on one machine only");
            violations.push(source.violation(index + 1, sentence));
        }
    }
    violations
}

/// Whether `line` has `needle` as a whole word, or as the start of an absolute path.
fn occurs(line: &str, needle: &str) -> bool {
    let joins_before = |c: char| match needle.chars().next() {
        Some('/') => is_word(c) || matches!(c, '-' | '.' | ')' | '}'),
        Some('.') => false,
        _ => is_word(c),
    };
    let joins_after = |c: char| needle.ends_with(is_word) && is_word(c);
    line.match_indices(needle).any(|(start, _)| {
        !line[..start].ends_with(joins_before) && !line[start + needle.len()..].starts_with(joins_after)
    })
}

const PRODUCTION_LINES_MAX: usize = 600;
const TEST_LINES_MAX: usize = 1_000;

const VAGUE: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];

// In two halves, so that this file passes its own rule.
const PROMISES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("../sha", "red")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::check;

    #[test]
    fn six_hundred_lines_above_the_tests_pass() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(2_000));
        let text = "\n".repeat(600) + &tests;
        check(file_length, "src/slab.rs", &text, &[]);
        check(file_length, "src/slab.rs", &format!("{text}\n"), &[2_604]);
        check(file_length, "src/slab.rs", &format!("\n{text}"), &[601]);
    }

    #[test]
    fn code_below_a_test_declaration_counts() {
        let text = format!("#[cfg(test)]\nmod tests;\n{}", "a();\n".repeat(601));
        check(file_length, "src/slab.rs", &text, &[603]);
    }

    #[test]
    fn a_thousand_lines_of_tests_pass() {
        for path in ["tests/echo.rs", "src/slab/tests.rs", "src/slab/tests/grow.rs"] {
            check(file_length, path, &"\n".repeat(1_000), &[]);
            check(file_length, path, &"\n".repeat(1_001), &[1_001]);
        }
    }

    #[test]
    fn other_text_may_be_long() {
        check(file_length, "README.md", &"\n".repeat(2_000), &[]);
    }

    #[test]
    fn a_file_without_module_doc_is_caught() {
        check(module_doc, "src/slab.rs", "use std::fmt;\n", &[1]);
        check(module_doc, "src/slab.rs", "\n//! Late.\n", &[1]);
        check(module_doc, "src/slab.rs", "/// Not of the module.\n", &[1]);
        check(module_doc, "src/slab.rs", "", &[1]);
    }

    #[test]
    fn a_file_with_module_doc_passes() {
        check(module_doc, "src/slab.rs", "//! Slots.\n", &[]);
        check(module_doc, "scripts/check.sh", "#!/bin/sh\n", &[]);
    }

    #[test]
    fn vague_names_are_caught() {
        for path in [
            "src/util.rs",
            "src/worker/utils/mod.rs",
            "src/common.rs",
            "tests/helpers.rs",
            "src/connection_manager.rs",
            "scripts/misc.sh",
        ] {
            check(telling_file_name, path, "", &[1]);
        }
    }

    #[test]
    fn telling_names_pass() {
        for path in ["src/slab.rs", "src/utility_bill.rs", "src/uncommon.rs"] {
            check(telling_file_name, path, "", &[]);
        }
    }

    #[test]
    fn promises_are_caught_in_any_text() {
        for word in PROMISES {
            for text in [format!("// {word}: later"), format!("{word}(me)"), format!("a {word}")] {
                check(no_leftovers, "scripts/check.sh", &format!("\n{text}\n"), &[2]);
            }
        }
    }

    #[test]
    fn promises_are_whole_words() {
        let text = format!("{0}{0} {0}S a{0} _{0}", PROMISES[2]);
        check(no_leftovers, "scripts/check.sh", &text, &[]);
        check(no_leftovers, "src/slab.rs", &PROMISES[0].to_lowercase(), &[]);
    }

    #[test]
    fn machine_paths_are_caught_in_any_text() {
        for path in MACHINE_PATHS {
            for text in [format!("cd {path}"), format!("\"{path}/a\""), format!("file://{path}")] {
                check(no_leftovers, "README.md", &format!("\n\n{text}"), &[3]);
            }
        }
    }

    #[test]
    fn relative_and_longer_paths_pass() {
        let text = format!("$HOME{0} ${{HOME}}{0} .{0} a-{0} {1}_x", MACHINE_PATHS[0], MACHINE_PATHS[2]);
        check(no_leftovers, "README.md", &text, &[]);
    }

    #[test]
    fn each_leftover_on_a_line_is_reported() {
        let text = format!("{} {}", PROMISES[0], MACHINE_PATHS[1]);
        check(no_leftovers, "README.md", &text, &[1, 1]);
    }
}
