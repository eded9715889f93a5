//! One source file as the rules see it, and what they say about it.

use std::fmt;
use std::ops::RangeInclusive;

use crate::scan::{self, Token};

/// A rule looks at one file. It decides by the path whether it applies.
pub(crate) type Rule = fn(&Source<'_>) -> Vec<Violation>;

/// One line that breaks a rule.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Violation {
    path: String,
    pub(crate) line: usize,
    /// What to do about it.
    pub(crate) sentence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.sentence)
    }
}

/// A text file of the project; `tokens` is empty unless it is Rust.
pub(crate) struct Source<'a> {
    /// Relative to the project, with `/`.
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    pub(crate) tokens: Vec<Token<'a>>,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a str, text: &'a str) -> Self {
        let tokens = match path.ends_with(".rs") {
            true => scan::tokens(text),
            false => Vec::new(),
        };
        let test_lines = test_lines(&tokens);
        Self { path, text, tokens, test_lines }
    }

    pub(crate) fn violation(&self, line: usize, sentence: impl Into<String>) -> Violation {
        Violation { path: self.path.to_owned(), line, sentence: sentence.into() }
    }

    /// The text of the token at `index`, or nothing beyond either end.
    pub(crate) fn token(&self, index: Option<usize>) -> &'a str {
        let token = index.and_then(|index| self.tokens.get(index));
        token.map_or("", |token| token.text)
    }

    /// Whether this is Rust code of the package itself.
    pub(crate) fn is_package_code(&self) -> bool {
        self.path.starts_with("src/") && self.is_rust()
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the file holds nothing but tests.
    pub(crate) fn is_test_file(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| part == "tests" || part == "tests.rs")
    }

    /// Whether `line` is test code.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.is_test_file() || self.test_lines.iter().any(|lines| lines.contains(&line))
    }
}

/// The index of the bracket that closes the one at `open`, or of the last token.
pub(crate) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth <= 1 => return index,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// The lines of all items that only a test build compiles.
fn test_lines(tokens: &[Token<'_>]) -> Vec<RangeInclusive<usize>> {
    let mut lines = Vec::new();
    let mut index = 0;
    while let Some(attribute) = Attribute::at(tokens, index) {
        index = attribute.end + 1;
        if !attribute.is_test(tokens) {
            continue;
        }
        if attribute.is_inner {
            // The file's own attribute, not one inside an inline module.
            let at_head = tokens[..attribute.start].iter().all(|token| token.text != "{");
            match at_head {
                true => return vec![1..=usize::MAX],
                false => continue,
            }
        }
        let end = item_end(tokens, index);
        let last = tokens.get(end).map_or(usize::MAX, |token| token.line);
        lines.push(tokens[attribute.start].line..=last);
        index = end + 1;
    }
    lines
}

/// The tokens `start..=end` from `#` to `]`.
struct Attribute {
    start: usize,
    /// Where the words between the brackets begin.
    words: usize,
    end: usize,
    is_inner: bool,
}

impl Attribute {
    /// The first attribute at or after `index`.
    fn at(tokens: &[Token<'_>], index: usize) -> Option<Self> {
        let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
        (index..tokens.len()).find_map(|start| {
            let is_inner = text(start + 1) == "!";
            let open = start + 1 + usize::from(is_inner);
            (text(start) == "#" && text(open) == "[").then(|| Self {
                start,
                words: open + 1,
                end: closing(tokens, open),
                is_inner,
            })
        })
    }

    /// Whether this is `test` or a `cfg` that holds only in a test build.
    fn is_test(&self, tokens: &[Token<'_>]) -> bool {
        let words = tokens[self.words..self.end].iter().map(|token| token.text);
        let words: Vec<&str> = words.collect();
        match words[..] {
            ["test"] | ["cfg", "(", "test", ")"] => true,
            ["cfg", "(", "all", "(", ..] => {
                words.contains(&"test") && !words.contains(&"not") && !words.contains(&"any")
            }
            _ => false,
        }
    }
}

/// The index of the last token of the item, statement, field or arm that starts at `index`.
fn item_end(tokens: &[Token<'_>], mut index: usize) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
    while text(index) == "#" {
        index = closing(tokens, index + 1) + 1;
    }
    if text(index) == "pub" {
        index += 1;
        if text(index) == "(" {
            index = closing(tokens, index) + 1;
        }
    }
    // Commas end fields and arms, but are part of the head of an item.
    let is_item = ITEM_WORDS.contains(&text(index));
    loop {
        match text(index) {
            "(" | "[" => index = closing(tokens, index),
            "{" => return closing(tokens, index),
            ";" | "" => return index,
            "," if !is_item => return index,
            ")" | "]" | "}" => return index - 1,
            _ => {}
        }
        index += 1;
    }
}

const ITEM_WORDS: &[&str] = &[
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "union",
    "unsafe",
    "use",
];

/// Applies `rule` to a file and compares the lines it complains about.
#[track_caller]
pub(crate) fn check(rule: Rule, path: &str, text: &str, expect: &[usize]) {
    let violations = rule(&Source::new(path, text));
    let lines: Vec<usize> = violations.iter().map(|violation| violation.line).collect();
    assert_eq!(lines, expect, "{path}:\n{text}\n{violations:?}");
    assert!(violations.iter().all(|violation| violation.path == path));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_test_lines(text: &str, expect: &[usize]) {
        let source = Source::new("src/slab.rs", text);
        let lines = 1..=text.lines().count();
        let lines: Vec<usize> = lines.filter(|line| source.is_test(*line)).collect();
        assert_eq!(lines, expect, "{text}");
    }

    #[test]
    fn a_test_module_is_test_code_until_its_end() {
        check_test_lines("fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}", &[2, 3, 4, 5]);
    }

    #[test]
    fn declaring_a_test_module_does_not_hide_what_follows() {
        check_test_lines("#[cfg(test)]\nmod tests;\nfn a() {}", &[1, 2]);
        check_test_lines("#[cfg(test)]\nuse a::{\n    b,\n};\nfn a() {}", &[1, 2, 3, 4]);
    }

    #[test]
    fn a_test_item_ends_with_its_body() {
        check_test_lines(
            "#[cfg(test)]\n#[derive(A)]\npub(crate) fn f<A, B>(a: [u8; 3])\nwhere\n    A: B,\n{\n}\nx",
            &[1, 2, 3, 4, 5, 6, 7],
        );
        check_test_lines("#[test]\nfn f() {\n}\nx", &[1, 2, 3]);
    }

    #[test]
    fn a_test_field_ends_at_its_comma_or_with_the_struct() {
        check_test_lines("struct A {\n    #[cfg(test)]\n    pub a: u8,\n    b: u8,\n}", &[2, 3]);
        check_test_lines("struct A {\n    #[cfg(test)]\n    a: u8\n}\nx", &[2, 3]);
    }

    #[test]
    fn only_cfgs_that_need_test_count() {
        check_test_lines("#[cfg(all(test, unix))]\nfn a() {}", &[1, 2]);
        check_test_lines("#[cfg(not(test))]\nfn a() {}", &[]);
        check_test_lines("#[cfg(any(test, unix))]\nfn a() {}", &[]);
        check_test_lines("#[cfg(all(unix, not(test)))]\nfn a() {}", &[]);
        check_test_lines("// #[cfg(test)]\nfn a() {}", &[]);
        check_test_lines("#![cfg(test)]\nfn a() {}", &[1, 2]);
        check_test_lines("mod a {\n#![cfg(test)]\n}\nfn a() {}", &[]);
    }

    #[test]
    fn unfinished_text_ends_quietly() {
        for text in ["#[cfg(test)]", "#[cfg(test", "#", "#!", "#[test] pub(", "#[test] #["] {
            Source::new("src/slab.rs", text);
        }
    }

    #[test]
    fn test_files_are_known_by_name() {
        for path in ["src/ws/tests.rs", "src/ws/tests/close.rs", "tests/echo.rs"] {
            assert!(Source::new(path, "").is_test(1), "{path}");
        }
        for path in ["src/ws/latests.rs", "src/tests_of_x.rs", "README.md"] {
            assert!(!Source::new(path, "").is_test(1), "{path}");
        }
    }

    #[test]
    fn other_files_have_no_tokens() {
        assert_eq!(Source::new("README.md", "use crate::x;").tokens, []);
    }

    #[test]
    fn violations_sort_by_path_then_line() {
        let [a, b] = ["src/a.rs", "src/b.rs"].map(|path| Source::new(path, ""));
        let mut violations = [b.violation(1, "x"), a.violation(10, "x"), a.violation(9, "y")];
        violations.sort();
        let lines = violations.map(|violation| violation.to_string());
        assert_eq!(lines, ["src/a.rs:9: y", "src/a.rs:10: x", "src/b.rs:1: x"]);
    }
}
