//! Rust text to tokens, without comments and without what string literals say.

/// A word, a lifetime, `::`, a literal (as [`STRING`] or [`CHAR`]) or one punctuation character.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    /// The line where the token starts, from 1.
    pub(crate) line: usize,
}

/// Stands for any string literal.
pub(crate) const STRING: &str = "\"\"";
/// Stands for any character or byte literal.
pub(crate) const CHAR: &str = "''";

/// The tokens of `text`. Broken text gives some tokens, never a panic: rustc will complain.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut scanner = Scanner { rest: text, line: 1 };
    std::iter::from_fn(|| scanner.token()).collect()
}

/// Whether `c` may be part of a name or number.
pub(crate) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// What is left to read, and the line it starts on.
struct Scanner<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn token(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        let line = self.line;
        let text = match first {
            '"' => self.string(),
            '\'' => self.quote(),
            ':' if self.rest.starts_with("::") => self.take(2),
            _ if is_word(first) => self.word(),
            _ => self.take(first.len_utf8()),
        };
        Some(Token { text, line })
    }

    fn skip_blank(&mut self) {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            if self.rest.starts_with("//") {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.take(block_comment_len(self.rest));
            } else {
                return;
            }
        }
    }

    /// A name, a number, or a literal with a prefix (`r#""#`, `b''`, `c""`).
    fn word(&mut self) -> &'a str {
        let len = word_len(self.rest);
        let (word, after) = self.rest.split_at(len);
        match word {
            "r" | "br" | "cr" if raw_hashes(after).is_some() => {
                self.take(len);
                self.raw_string()
            }
            "r" if after.starts_with('#') && word_len(&after[1..]) > 0 => {
                self.take(len + 1);
                self.take(word_len(self.rest))
            }
            "b" | "c" if after.starts_with('"') => {
                self.take(len);
                self.string()
            }
            "b" if after.starts_with('\'') => {
                self.take(len);
                self.quote()
            }
            _ => self.take(len),
        }
    }

    fn string(&mut self) -> &'a str {
        let mut escaped = true; // jumps over the opening quote
        let end = self.rest.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        self.take(end.map_or(self.rest.len(), |end| end + 1));
        STRING
    }

    fn raw_string(&mut self) -> &'a str {
        let hashes = raw_hashes(self.rest).expect("the caller saw the opening quote");
        let close = format!("\"{}", "#".repeat(hashes));
        let body = hashes + 1;
        let end = self.rest[body..].find(&close);
        self.take(end.map_or(self.rest.len(), |end| body + end + close.len()));
        STRING
    }

    /// A character literal or a lifetime, which look alike for two characters.
    fn quote(&mut self) -> &'a str {
        let mut chars = self.rest.chars().skip(1);
        let (first, second) = (chars.next(), chars.next());
        if first == Some('\\') {
            // Quote, backslash, and the escaped character, which may be a quote itself.
            let end = self.rest.get(3..).and_then(|tail| tail.find('\''));
            self.take(end.map_or(self.rest.len(), |end| 3 + end + 1));
            CHAR
        } else if second == Some('\'') {
            self.take(2 + first.map_or(0, char::len_utf8));
            CHAR
        } else {
            self.take(1 + word_len(&self.rest[1..]))
        }
    }

    /// Moves on by `len` bytes. The only place that counts lines.
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

fn word_len(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// The number of `#` between the prefix of a raw string and its quote.
fn raw_hashes(text: &str) -> Option<usize> {
    let body = text.trim_start_matches('#');
    body.starts_with('"').then(|| text.len() - body.len())
}

/// Block comments nest.
fn block_comment_len(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let tail = &text.as_bytes()[at..];
        let step = match tail {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let texts: Vec<&str> = tokens(text).iter().map(|token| token.text).collect();
        assert_eq!(texts.join(" "), expect, "{text}");
    }

    #[test]
    fn code_becomes_words_and_punctuation() {
        check("a::b(&mut c_1, 0x1f)?;", "a :: b ( & mut c_1 , 0x1f ) ? ;");
        check("1..=2.5e3", "1 . . = 2 . 5e3");
        check("größe", "größe");
        check("", "");
    }

    #[test]
    fn comments_vanish() {
        check("a // b\nc", "a c");
        check("/// a\n//! b\nc", "c");
        check("a /* b /* c */ d */ e", "a e");
        check("a /**/ b /***/ c /*/ */ d", "a b c d");
        check("a /* ß \" */ b", "a b");
        check("a / b * c", "a / b * c");
        check("a // no newline", "a");
    }

    #[test]
    fn strings_keep_nothing_of_their_content() {
        check(r#"f("a // b", "\" c", "\\") d"#, r#"f ( "" , "" , "" ) d"#);
        check("f(\"a\n/* b\", 'c')", "f ( \"\" , '' )");
        check(r#"b"a" c"b" d"#, r#""" "" d"#);
        check(r#""/*" a "*/""#, r#""" a """#);
        check("\"ß\\ü\" a", "\"\" a");
    }

    #[test]
    fn raw_strings_end_at_their_own_number_of_hashes() {
        check(r##"r"\" a"##, r#""" a"#);
        check(r###"r#"a " b"# c"###, r#""" c"#);
        check(r####"br##"a "# b"## c cr"d""####, r#""" c """#);
    }

    #[test]
    fn raw_names_lose_their_prefix() {
        check("r#type::r#fn", "type :: fn");
        check("r # b", "r # b");
        check("bar#", "bar #");
    }

    #[test]
    fn characters_and_lifetimes_are_told_apart() {
        check("'a' 'b", "'' 'b");
        check("<'a, 'static>", "< 'a , 'static >");
        check(r"'\'' a '\\' b '\u{1f}' c", "'' a '' b '' c");
        check("'\"' a '\"'", "'' a ''");
        check("'/' '/' a", "'' '' a");
        check("'ß' b'a' b'\\n' a", "'' '' '' a");
        check("'outer: loop { break 'outer }", "'outer : loop { break 'outer }");
        check("&'a [T]", "& 'a [ T ]");
    }

    #[test]
    fn unfinished_text_ends_quietly() {
        for text in ["\"a", "r#\"a\"", "/* a", "'", "'\\", "'\\'", "b'", "r#"] {
            tokens(text);
        }
    }

    #[test]
    fn lines_count_through_comments_and_strings() {
        let text = "a\n/* b\n\n*/ c \"d\n\\\ne\" f\n// g\nr\"h\n\" i";
        let lines: Vec<_> = tokens(text).iter().map(|t| (t.text, t.line)).collect();
        let expect = [("a", 1), ("c", 4), (STRING, 4), ("f", 6), (STRING, 8), ("i", 9)];
        assert_eq!(lines, expect);
    }
}
