//! Which octets may stand where in a head, and how far a run of them reaches.

/// Whether `octet` may stand in a token (RFC 9110 section 5.6.2).
pub(super) const fn is_token(octet: u8) -> bool {
    CLASSES[octet as usize] & TOKEN != 0
}

/// Whether `octet` may stand in a request target: visible ASCII but `#`.
pub(super) const fn is_target(octet: u8) -> bool {
    CLASSES[octet as usize] & TARGET != 0
}

/// How many octets at the front of `input` may stand in a token.
pub(super) fn token_len(input: &[u8]) -> usize {
    run_len(input, TOKEN)
}

/// How many octets at the front of `input` may stand in a request target.
pub(super) fn target_len(input: &[u8]) -> usize {
    run_len(input, TARGET)
}

/// How many octets at the front of `input` are no controls, by words of eight.
///
/// What stops a header's value is nearly always its CR: a tab stops this function too, for the
/// caller to step over.
pub(super) fn text_len(input: &[u8]) -> usize {
    let (words, tail) = input.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let controls = controls(u64::from_le_bytes(*word));
        if controls != 0 {
            return work::counted(index * 8 + (controls.trailing_zeros() / 8) as usize);
        }
    }
    let tail_len = tail.iter().take_while(|octet| !octet.is_ascii_control()).count();
    work::counted(words.len() * 8 + tail_len)
}

/// Whether `input` is one token, which has at least one octet.
pub(super) fn is_whole_token(input: &[u8]) -> bool {
    !input.is_empty() && token_len(input) == input.len()
}

/// Sets the top bit of every octet of `word` that is a control.
///
/// A borrow may set further bits above the first right one, so only the lowest means something.
const fn controls(word: u64) -> u64 {
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let delete = word ^ (ONES * 0x7f);
    let is_delete = delete.wrapping_sub(ONES) & !delete;
    (below_space | is_delete) & (ONES * 0x80)
}

fn run_len(input: &[u8], class: u8) -> usize {
    work::counted(input.iter().take_while(|&&octet| CLASSES[octet as usize] & class != 0).count())
}

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut octet = 0x21;
    while octet < 0x7f {
        classes[octet] = TOKEN | TARGET;
        octet += 1;
    }
    let mut index = 0;
    while index < DELIMITERS.len() {
        classes[DELIMITERS[index] as usize] &= !TOKEN;
        index += 1;
    }
    classes[b'#' as usize] &= !TARGET;
    classes
}

/// Counts the octets that a cursor passes, in tests: the work that a peer can cause.
pub(super) mod work {
    #[cfg(test)]
    thread_local! {
        static PASSED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    #[cfg(test)]
    pub(in crate::proto::http) fn counted(len: usize) -> usize {
        PASSED.set(PASSED.get() + len);
        len
    }

    #[cfg(not(test))]
    pub(in crate::proto::http) const fn counted(len: usize) -> usize {
        len
    }

    /// The octets passed on this thread since the last call.
    #[cfg(test)]
    pub(in crate::proto::http) fn take() -> usize {
        PASSED.take()
    }
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
/// The visible octets that no token has.
const DELIMITERS: &[u8] = b"\"(),/:;<=>?@[\\]{}";
const CLASSES: [u8; 256] = classes();
/// A one in every octet of a word.
const ONES: u64 = u64::MAX / 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_letters_digits_and_fifteen_marks() {
        let tokens: Vec<u8> = (0..=255).filter(|&octet| is_token(octet)).collect();
        assert_eq!(
            String::from_utf8(tokens).unwrap(),
            "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~"
        );
    }

    #[test]
    fn targets_are_visible_ascii_without_the_number_sign() {
        for octet in 0..=255 {
            assert_eq!(is_target(octet), (0x21..=0x7e).contains(&octet) && octet != 0x23, "{octet}");
        }
    }

    #[test]
    fn words_find_the_same_control_as_octets_at_every_length_and_place() {
        for len in 0..=25 {
            for place in 0..=len {
                for octet in 0..=255 {
                    for filler in [b' ', b'a', 0x80, 0xff, 0x7e] {
                        let mut input = vec![filler; len];
                        if let Some(slot) = input.get_mut(place) {
                            *slot = octet;
                        }
                        let expect = input.iter().position(|&octet| octet < 0x20 || octet == 0x7f).unwrap_or(len);
                        assert_eq!(text_len(&input), expect, "{input:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_whole_token_has_an_octet_and_no_delimiter() {
        assert!(is_whole_token(b"stomp.v12"));
        assert!(!is_whole_token(b""));
        assert!(!is_whole_token(b"a b"));
        assert!(!is_whole_token(b"caf\xc3\xa9"));
    }
}
