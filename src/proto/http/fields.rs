//! The header fields of a head, by name.

use std::fmt;

use httparse::Header;

/// The most headers that a head can have: what its table has room for.
pub const HEADER_COUNT_MAX: usize = 64;

/// The header fields of one head, in their order. Names match in any case (RFC 9110 section 5.1).
#[derive(Clone)]
pub(super) struct Fields<'a> {
    headers: [Header<'a>; HEADER_COUNT_MAX],
    count: usize,
}

impl<'a> Fields<'a> {
    /// Takes a table whose first `count` entries are filled.
    pub(super) const fn new(headers: [Header<'a>; HEADER_COUNT_MAX], count: usize) -> Self {
        Self { headers, count }
    }

    /// Every field, in the order of the head.
    pub(super) fn as_slice(&self) -> &[Header<'a>] {
        &self.headers[..self.count]
    }

    /// The values of every field called `name`.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.as_slice().iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The value of the first field called `name`.
    pub(super) fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The value of the only field called `name`, or `repeated` as an error if there are more.
    pub(super) fn single<E>(&self, name: &str, repeated: E) -> Result<Option<&'a [u8]>, E> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() { Err(repeated) } else { Ok(value) }
    }

    /// Whether the lists in the fields called `name` contain `token`, in any case.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(elements).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

impl fmt::Debug for Fields<'_> {
    /// Shows the names alone: values are secrets (cookies, credentials).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.as_slice().iter().map(|header| header.name)).finish()
    }
}

/// The elements of a comma-separated list; empty ones are skipped (RFC 9110 section 5.6.1).
pub(super) fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&octet| octet == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(lines: &[(&'a str, &'a str)]) -> Fields<'a> {
        let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
        for (header, &(name, value)) in headers.iter_mut().zip(lines) {
            *header = Header { name, value: value.as_bytes() };
        }
        Fields::new(headers, lines.len())
    }

    #[test]
    fn names_match_in_any_case_and_keep_their_order() {
        let fields = fields(&[("a", "1"), ("B", "2"), ("A", "3")]);
        assert_eq!(fields.first("A"), Some(b"1".as_slice()));
        assert_eq!(fields.all("a").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(fields.first("b"), Some(b"2".as_slice()));
        assert_eq!(fields.first("c"), None);
        assert_eq!(fields.first(""), None);
    }

    #[test]
    fn a_repeated_field_is_not_single() {
        let fields = fields(&[("a", "1"), ("B", "2"), ("A", "1")]);
        assert_eq!(fields.single("a", "repeated"), Err("repeated"));
        assert_eq!(fields.single("b", "repeated"), Ok(Some(b"2".as_slice())));
        assert_eq!(fields.single("c", "repeated"), Ok(None));
    }

    #[test]
    fn a_token_is_a_whole_element_of_any_line() {
        let fields = fields(&[("a", "b, ,c d"), ("a", "\tE\t,")]);
        assert!(fields.has_token("a", "B"));
        assert!(fields.has_token("A", "e"));
        assert!(!fields.has_token("a", "c"));
        assert!(!fields.has_token("a", ""));
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", fields(&[("Cookie", "secret")])), "[\"Cookie\"]");
    }
}
