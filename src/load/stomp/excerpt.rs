//! The beginning of what a server said, short enough to be copied around.

use std::fmt;

/// How many bytes are kept.
const LEN_MAX: usize = 62;

/// The beginning of a text.
///
/// ```
/// use ringsock::load::Excerpt;
///
/// assert_eq!(Excerpt::of("bad credentials").to_string(), "bad credentials");
/// assert_eq!(Excerpt::of(&"é".repeat(40)).to_string(), format!("{}…", "é".repeat(31)));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Excerpt {
    bytes: [u8; LEN_MAX],
    len: u8,
    is_cut: bool,
}

impl Excerpt {
    /// As much of `text` as there is room for.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let len = text.floor_char_boundary(LEN_MAX);
        let mut bytes = [0; LEN_MAX];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { bytes, len: u8::try_from(len).expect("it is bounded by a small number"), is_cut: len < text.len() }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.bytes[..self.len.into()]).expect("a text was cut between two characters"))?;
        f.write_str(if self.is_cut { "…" } else { "" })
    }
}
