//! The extensions of a handshake, offered or accepted (RFC 6455 section 9.1).

use std::borrow::Cow;
use std::iter;
use std::str;

use crate::proto::http::fields::Fields;
use crate::proto::http::octet;

/// How many offers are looked at. The rest of a longer list is checked and ignored.
pub const OFFERS_EXAMINED_MAX: usize = 16;

/// One extension with its parameters. The name is a token, and case matters.
///
/// What the names and values mean is for the extension to say: a parameter may be unknown, out of
/// range or repeated, and then the server declines the offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extension<'a> {
    name: &'a str,
    /// The parameters as they were sent, from the first semicolon on.
    params: &'a str,
}

impl<'a> Extension<'a> {
    /// The name, such as `permessage-deflate`.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The parameters in their order: a name, and a value without its quotes if there is one.
    ///
    /// Name and value are tokens. Only a value with a backslash in its quotes is copied.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Option<Cow<'a, str>>)> {
        let mut reader = Reader { rest: self.params };
        iter::from_fn(move || {
            let param = reader.param().ok()??;
            Some((param.name, param.value.map(unescape)))
        })
    }
}

/// A list of extensions that breaks the grammar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// Checks the grammar of every Sec-WebSocket-Extensions header.
pub(super) fn check(fields: &Fields<'_>) -> Result<(), Malformed> {
    fields.all(HEADER).flat_map(elements).try_for_each(|element| element.map(|_| ()))
}

/// The extensions of a head that [`check`] has accepted, those without a name left out.
pub(super) fn offers<'a>(fields: &Fields<'a>) -> impl Iterator<Item = Extension<'a>> {
    fields.all(HEADER).flat_map(elements).take(OFFERS_EXAMINED_MAX).filter_map(|element| element.ok()?)
}

/// The elements of one list, `None` for one that lacks a name. It ends after the first error.
pub(super) fn elements(line: &[u8]) -> impl Iterator<Item = Result<Option<Extension<'_>>, Malformed>> {
    // What is not UTF-8 is not ASCII either, and the grammar is.
    let (rest, not_text) = match str::from_utf8(line) {
        Ok(text) => (text, None),
        Err(_) => ("", Some(Err(Malformed))),
    };
    let mut reader = Reader { rest };
    let elements = iter::from_fn(move || {
        let element = reader.element().transpose()?;
        if element.is_err() {
            reader.rest = "";
        }
        Some(element)
    });
    elements.chain(not_text)
}

struct Param<'a> {
    name: &'a str,
    value: Option<&'a str>,
}

/// A cursor over a list, which only moves forward: the work is linear in the length.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// The next element, with `None` inside for one that lacks a name, or `None` at the end.
    fn element(&mut self) -> Result<Option<Option<Extension<'a>>>, Malformed> {
        self.skip_space();
        while self.eat(',') {
            self.skip_space();
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let name = self.token();
        self.skip_space();
        let params = self.rest;
        let mut is_named = !name.is_empty();
        while let Some(param) = self.param()? {
            is_named &= !param.name.is_empty();
        }
        if !self.rest.is_empty() && !self.rest.starts_with(',') {
            return Err(Malformed);
        }
        let params = &params[..params.len() - self.rest.len()];
        Ok(Some(is_named.then_some(Extension { name, params })))
    }

    /// The next parameter, or `None` if no semicolon announces one.
    fn param(&mut self) -> Result<Option<Param<'a>>, Malformed> {
        if !self.eat(';') {
            return Ok(None);
        }
        self.skip_space();
        let name = self.token();
        self.skip_space();
        let value = if self.eat('=') { Some(self.value()?) } else { None };
        self.skip_space();
        Ok(Some(Param { name, value }))
    }

    /// A token, or what stands between quotes, still escaped.
    fn value(&mut self) -> Result<&'a str, Malformed> {
        self.skip_space();
        let value = if self.eat('"') { self.quoted()? } else { self.token() };
        if value.is_empty() { Err(Malformed) } else { Ok(value) }
    }

    /// The inside of a quoted string whose content, unescaped, is a token, as section 9.1 demands.
    fn quoted(&mut self) -> Result<&'a str, Malformed> {
        let start = self.rest;
        loop {
            self.token();
            if self.rest.starts_with('"') {
                break;
            }
            // An escaped octet must be one of a token too, or the value would be none.
            if !self.eat('\\') || !self.rest.bytes().next().is_some_and(octet::is_token) {
                return Err(Malformed);
            }
        }
        let inside = &start[..start.len() - self.rest.len()];
        self.eat('"');
        Ok(inside)
    }

    /// The token at the front, perhaps empty.
    fn token(&mut self) -> &'a str {
        let (token, rest) = self.rest.split_at(octet::token_len(self.rest.as_bytes()));
        self.rest = rest;
        token
    }

    fn eat(&mut self, mark: char) -> bool {
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Passes over the white space that RFC 6455 section 9.1 implies between any two words.
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// Takes the escapes away: no token contains a backslash, so every one is an escape.
fn unescape(value: &str) -> Cow<'_, str> {
    if value.contains('\\') { Cow::Owned(value.replace('\\', "")) } else { Cow::Borrowed(value) }
}

const HEADER: &str = "sec-websocket-extensions";

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows offers as `name param=value`, separated by bars.
    fn show(line: &[u8]) -> Result<String, Malformed> {
        let mut shown = Vec::new();
        for element in elements(line) {
            let Some(extension) = element? else {
                shown.push("nameless".to_owned());
                continue;
            };
            let params = extension.params().map(|(name, value)| match value {
                Some(value) => format!(" {name}={value}"),
                None => format!(" {name}"),
            });
            shown.push(format!("{}{}", extension.name(), params.collect::<String>()));
        }
        Ok(shown.join(" | "))
    }

    #[track_caller]
    fn check(line: &str, expect: Result<&str, Malformed>) {
        assert_eq!(show(line.as_bytes()).as_deref(), expect.as_ref().copied());
    }

    #[test]
    fn a_list_has_extensions_with_parameters() {
        check("", Ok(""));
        check("a", Ok("a"));
        check("a, b", Ok("a | b"));
        check("permessage-deflate; client_max_window_bits", Ok("permessage-deflate client_max_window_bits"));
        check("a;b=1;c, d;e=2", Ok("a b=1 c | d e=2"));
        check("a;b;b=1;b", Ok("a b b=1 b"));
    }

    #[test]
    fn white_space_is_allowed_between_words() {
        check(" a ; b = 1\t;c ,\td ", Ok("a b=1 c | d"));
        check("a; b = \"1\" ; c", Ok("a b=1 c"));
    }

    #[test]
    fn a_quoted_value_is_handed_on_without_quotes_and_escapes() {
        check("a; b=\"10\"", Ok("a b=10"));
        check("a; b=\"\\1\\0\"; c", Ok("a b=10 c"));
        check("a; b=\"x\", c", Ok("a b=x | c"));
    }

    #[test]
    fn only_an_escaped_value_is_copied() {
        let mut offers = elements(b"a; b=\"10\"; c=\"1\\0\"");
        let extension = offers.next().unwrap().unwrap().unwrap();
        let params: Vec<_> = extension.params().collect();
        assert!(matches!(params[0], ("b", Some(Cow::Borrowed("10")))));
        assert!(matches!(&params[1], ("c", Some(Cow::Owned(value))) if value == "10"));
    }

    #[test]
    fn empty_elements_are_skipped_and_nameless_ones_stand_aside() {
        check(",, a ,, b ,", Ok("a | b"));
        check(",;x", Ok("nameless"));
        check("a;", Ok("nameless"));
        check("a;;b, c", Ok("nameless | c"));
        check("a; =1, c", Ok("nameless | c"));
        check("; x=\"y\", c", Ok("nameless | c"));
    }

    #[test]
    fn broken_grammar_is_malformed() {
        for line in [
            "a; b=\"c",
            "a; b=\"",
            "a; b=\"\\",
            "a; b=\"c\\\"",
            "a; b=\"\\c\\c",
            "a; b=\"\"",
            "a; b=\"c d\"",
            "a; b=\"c,d\"",
            "a; b=\"c;d\"",
            "a; b=\"\\\\\"",
            "a; b=\"\\\"\"",
            "a; b=\"c\"d",
            "a; b=",
            "a; b=;c",
            "a; b=,c",
            "a b",
            "a=b",
            "a/b",
            "=b",
            "\"a\"",
            "a; \"b\"",
            "a; b c",
            "a; b=c d",
            "a; b==c",
            "a(b)",
            "caf\u{e9}",
            "a; b=\u{e9}",
            "a; b=\"\\\u{e9}\"",
        ] {
            check(line, Err(Malformed));
            check(&format!("x, {line}"), Err(Malformed));
        }
        assert_eq!(show(b"a\xff"), Err(Malformed));
        assert_eq!(show(b"\x80"), Err(Malformed));
    }

    #[test]
    fn a_malformed_list_ends_with_its_error() {
        assert_eq!(elements(b"a, b c, d").count(), 2);
        assert_eq!(elements(b"\xff").count(), 1);
    }
}
