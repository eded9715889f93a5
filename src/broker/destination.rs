//! The destinations of SEND and SUBSCRIBE, read once: what is routed is what was checked.
//!
//! A destination is `/topic/`, `/queue/` or `/temp-queue/` and a name. Brokers do not agree on what
//! separates the segments of a name: some have `.`, users of others write `/`. Here **both do, and
//! each stands for itself**:
//!
//! - Two names are the same if their bytes are. `a.b` and `a/b` are two topics, as on any broker
//!   that knows only one of the separators, and a message goes out under the destination that it
//!   was sent to.
//! - A wildcard takes the place of whole segments between separators of either kind. `price/*` gets
//!   `price/gold`, but not `price/gold.spot`, whose segments are three, nor `price.gold`.
//!
//! In the pattern of a SUBSCRIBE to topics `*` is one segment, and `#` or `>`, which mean the same
//! and come last, are the rest: any number of segments, also none. `a.#` gets `a`, `a.b` and
//! `a.b/c`, but not `a/b`. A `#` alone gets everything.
//!
//! Names are not decoded: `%2F` is three characters. The characters `*`, `#` and `>` are wildcards
//! wherever they stand, so no name has one.

/// The longest name in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The most segments of a name or pattern.
pub const SEGMENTS_MAX: usize = 32;
/// How many segments, from the first on, may be a `*`. Each can double the branches that a match
/// has to follow, so this bounds them, see [`Topics`](super::Topics).
pub const STAR_SEGMENTS_MAX: usize = 8;

const _: () = assert!(NAME_BYTES_MAX <= u8::MAX as usize, "ends of pieces are bytes");
const _: () = assert!(STAR_SEGMENTS_MAX <= SEGMENTS_MAX);

/// Where a message is sent or subscribed to, by kind; `T` is what is known of a topic.
///
/// ```
/// use ringsock::broker::Destination;
///
/// let Ok(Destination::Topic(name)) = Destination::of_send("/topic/price.gold") else { panic!() };
/// assert_eq!(name.as_str(), "price.gold");
/// assert!(Destination::of_subscribe("/topic/price.*").is_ok());
/// let error = Destination::of_send("/exchange/price/gold").expect_err("another broker's");
/// assert!(error.message().contains("/queue/"));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Destination<'a, T = Name<'a>> {
    /// Every subscription gets every message.
    Topic(T),
    /// One of the subscribers gets each message.
    Queue(Name<'a>),
    /// A queue of the connection that names it; the name means nothing to others.
    TempQueue(Name<'a>),
}

/// A valid name without wildcards.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Name<'a>(&'a str);

/// A valid name of topics, perhaps with wildcards.
#[derive(Clone, Copy, Debug)]
pub struct Pattern<'a> {
    text: &'a str,
    has_wildcard: bool,
}

/// What is wrong with a destination.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DestinationError {
    /// It begins with none of the prefixes.
    Unsupported,
    /// The name is longer than [`NAME_BYTES_MAX`].
    TooLong,
    /// The name has more segments than [`SEGMENTS_MAX`].
    TooDeep,
    /// The name is empty, begins or ends with a separator, or has two in a row.
    EmptySegment,
    /// A control character of ASCII or Latin-1.
    ControlCharacter,
    /// A wildcard in a SEND, or in the name of a queue.
    Wildcard,
    /// A wildcard that is only a part of its segment.
    PartialWildcard,
    /// A `#` or `>` that is not the last segment.
    RestNotLast,
    /// A `*` beyond the first [`STAR_SEGMENTS_MAX`] segments.
    DeepStar,
}

impl<'a> Destination<'a> {
    /// Reads the destination of a SEND.
    ///
    /// # Errors
    ///
    /// The first rule of this module that `text` breaks.
    pub fn of_send(text: &'a str) -> Result<Self, DestinationError> {
        Self::parse(text, Name::new)
    }
}

impl<'a> Destination<'a, Pattern<'a>> {
    /// Reads the destination of a SUBSCRIBE.
    ///
    /// # Errors
    ///
    /// The first rule of this module that `text` breaks.
    pub fn of_subscribe(text: &'a str) -> Result<Self, DestinationError> {
        Self::parse(text, Pattern::new)
    }
}

impl<'a, T> Destination<'a, T> {
    fn parse(
        text: &'a str,
        topic: impl FnOnce(&'a str) -> Result<T, DestinationError>,
    ) -> Result<Self, DestinationError> {
        if let Some(name) = text.strip_prefix("/topic/") {
            topic(name).map(Self::Topic)
        } else if let Some(name) = text.strip_prefix("/queue/") {
            Name::new(name).map(Self::Queue)
        } else if let Some(name) = text.strip_prefix("/temp-queue/") {
            Name::new(name).map(Self::TempQueue)
        } else {
            Err(DestinationError::Unsupported)
        }
    }
}

impl<'a> Name<'a> {
    /// Checks a name, which is what follows the prefix of a destination.
    ///
    /// # Errors
    ///
    /// The first rule of this module that `text` breaks.
    pub fn new(text: &'a str) -> Result<Self, DestinationError> {
        match check(text)? {
            Wildcards::None => Ok(Self(text)),
            Wildcards::Some => Err(DestinationError::Wildcard),
        }
    }

    /// The name as it was written.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    pub(super) fn pieces(self) -> Pieces<'a> {
        Pieces::new(self.0)
    }
}

impl<'a> Pattern<'a> {
    /// Checks a pattern, which is what follows `/topic/`.
    ///
    /// # Errors
    ///
    /// The first rule of this module that `text` breaks.
    pub fn new(text: &'a str) -> Result<Self, DestinationError> {
        let has_wildcard = matches!(check(text)?, Wildcards::Some);
        if has_wildcard {
            check_wildcards(text)?;
        }
        Ok(Self { text, has_wildcard })
    }

    /// The pattern as it was written.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.text
    }

    /// Whether more than one name may match.
    #[must_use]
    pub const fn has_wildcard(self) -> bool {
        self.has_wildcard
    }

    pub(super) fn pieces(self) -> Pieces<'a> {
        Pieces::new(self.text)
    }
}

impl DestinationError {
    /// What to tell the peer: text that no version of STOMP has to escape in a header.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Unsupported => "supported destinations are /topic/NAME, /queue/NAME and /temp-queue/NAME",
            Self::TooLong => "the name of a destination has at most 255 bytes",
            Self::TooDeep => "the name of a destination has at most 32 segments",
            Self::EmptySegment => "the name of a destination has an empty segment",
            Self::ControlCharacter => "the name of a destination has a control character",
            Self::Wildcard => "wildcards (*, # and >) are only for SUBSCRIBE to /topic/NAME",
            Self::PartialWildcard => "a wildcard (*, # or >) is a whole segment of its destination",
            Self::RestNotLast => "the wildcards # and > are the last segment of their destination",
            Self::DeepStar => "the wildcard * is one of the first 8 segments of its destination",
        }
    }
}

const _: () = assert!(NAME_BYTES_MAX == 255 && SEGMENTS_MAX == 32 && STAR_SEGMENTS_MAX == 8, "messages name them");

/// A name cut before each of its separators, so that nothing is lost: `a.b/c` is `a`, `.b`, `/c`.
pub(super) struct Pieces<'a> {
    text: &'a str,
    /// Where each piece ends.
    ends: [u8; SEGMENTS_MAX],
    count: usize,
}

impl<'a> Pieces<'a> {
    fn new(text: &'a str) -> Self {
        let (mut ends, mut count) = ([0; SEGMENTS_MAX], 0);
        // The first byte is no separator, since no segment is empty.
        for (byte, end) in text.bytes().zip(0..=u8::MAX) {
            if is_separator(byte) {
                ends[count] = end;
                count += 1;
            }
        }
        ends[count] = u8::try_from(text.len()).expect("names are short");
        Self { text, ends, count: count + 1 }
    }

    pub(super) fn get(&self, index: usize) -> Option<&'a str> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        (index < self.count).then(|| &self.text[usize::from(start)..usize::from(self.ends[index])])
    }
}

enum Wildcards {
    None,
    Some,
}

/// Checks all that names and patterns have in common, in one pass over bounded bytes.
fn check(text: &str) -> Result<Wildcards, DestinationError> {
    if text.len() > NAME_BYTES_MAX {
        return Err(DestinationError::TooLong);
    }
    // As if a separator came first: another one is an empty segment.
    let (mut previous, mut segment_count, mut wildcards) = (b'/', 1, Wildcards::None);
    for byte in text.bytes() {
        match byte {
            b'.' | b'/' if is_separator(previous) => return Err(DestinationError::EmptySegment),
            b'.' | b'/' => segment_count += 1,
            b'*' | b'#' | b'>' => wildcards = Wildcards::Some,
            0x00..=0x1f | 0x7f => return Err(DestinationError::ControlCharacter),
            // U+0080 to U+009F in UTF-8.
            0x80..=0x9f if previous == 0xc2 => return Err(DestinationError::ControlCharacter),
            _ => {}
        }
        previous = byte;
    }
    if is_separator(previous) {
        return Err(DestinationError::EmptySegment);
    }
    if segment_count > SEGMENTS_MAX {
        return Err(DestinationError::TooDeep);
    }
    Ok(wildcards)
}

fn check_wildcards(text: &str) -> Result<(), DestinationError> {
    let mut segments = text.split(['.', '/']).enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        match segment {
            "*" if index < STAR_SEGMENTS_MAX => {}
            "*" => return Err(DestinationError::DeepStar),
            "#" | ">" if segments.peek().is_none() => {}
            "#" | ">" => return Err(DestinationError::RestNotLast),
            _ if segment.contains(['*', '#', '>']) => return Err(DestinationError::PartialWildcard),
            _ => {}
        }
    }
    Ok(())
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use DestinationError::{
        ControlCharacter, DeepStar, EmptySegment, PartialWildcard, RestNotLast, TooDeep, TooLong, Unsupported, Wildcard,
    };

    const ALL: [DestinationError; 9] = [
        Unsupported,
        TooLong,
        TooDeep,
        EmptySegment,
        ControlCharacter,
        Wildcard,
        PartialWildcard,
        RestNotLast,
        DeepStar,
    ];

    #[track_caller]
    fn check_send(text: &str, expect: Result<Destination<'_>, DestinationError>) {
        assert_eq!(Destination::of_send(text), expect, "{text:?}");
    }

    /// Names are the same in SEND and SUBSCRIBE, and for each kind.
    #[track_caller]
    fn check_name(name: &str, expect: Result<(), DestinationError>) {
        for prefix in ["/topic/", "/queue/", "/temp-queue/"] {
            let text = format!("{prefix}{name}");
            assert_eq!(Destination::of_send(&text).map(drop), expect, "SEND {text:?}");
            assert_eq!(Destination::of_subscribe(&text).map(drop), expect, "SUBSCRIBE {text:?}");
        }
    }

    #[track_caller]
    fn check_pattern(pattern: &str, expect: Result<(), DestinationError>) {
        let text = format!("/topic/{pattern}");
        assert_eq!(Destination::of_subscribe(&text).map(drop), expect, "{text:?}");
        assert_eq!(Destination::of_send(&text).map(drop), Err(Wildcard), "{text:?}");
    }

    #[test]
    fn the_prefix_says_the_kind_and_the_name_stays_as_written() {
        check_send("/topic/a.b/c", Ok(Destination::Topic(Name("a.b/c"))));
        check_send("/queue/a.b/c", Ok(Destination::Queue(Name("a.b/c"))));
        check_send("/temp-queue/a", Ok(Destination::TempQueue(Name("a"))));
        check_send("/topic/topic/queue", Ok(Destination::Topic(Name("topic/queue"))));
    }

    #[test]
    fn what_other_brokers_have_is_refused() {
        for text in [
            "/exchange/amq.topic/a",
            "/amq/queue/a",
            "/dsub/a",
            "/temp-topic/a",
            "/reply-queue/a",
            "/app/a",
            "/user/queue/a",
            "/remote-temp-queue/a",
            "jms.topic.a",
            "topic://a",
            "",
            "/",
            "a",
            "topic/a",
            "/topic",
            "/queue",
            "/Topic/a",
            " /topic/a",
            "//topic/a",
            "/topic.a",
            "/topics/a",
        ] {
            check_send(text, Err(Unsupported));
            assert_eq!(Destination::of_subscribe(text).map(drop), Err(Unsupported), "{text:?}");
        }
    }

    #[test]
    fn names_are_any_text_without_controls() {
        check_name("a", Ok(()));
        check_name("price.stock/NASDAQ.acme-1_2", Ok(()));
        check_name("with space, comma: and \\ backslash", Ok(()));
        check_name("a%2Fb", Ok(()));
        check_name("\u{e9}t\u{e9}.\u{65e5}\u{672c}", Ok(()));
        check_name("\u{a0}", Ok(()));
    }

    #[test]
    fn control_characters_are_refused() {
        let controls = (0..=u8::MAX).map(char::from).filter(|c| c.is_control());
        for control in controls {
            check_name(&format!("a{control}b"), Err(ControlCharacter));
            check_name(&control.to_string(), Err(ControlCharacter));
        }
    }

    #[test]
    fn no_segment_is_empty() {
        for name in ["", ".", "/", "/a", ".a", "a.", "a/", "a..b", "a//b", "a./b", "a/.b"] {
            check_name(name, Err(EmptySegment));
        }
        check_name("*..a", Err(EmptySegment));
        check_name("a.#.", Err(EmptySegment));
    }

    #[test]
    fn two_hundred_and_fifty_five_bytes_and_thirty_two_segments_are_the_limits() {
        check_name(&"a".repeat(255), Ok(()));
        check_name(&"a".repeat(256), Err(TooLong));
        check_name(&"\u{e9}".repeat(128), Err(TooLong));
        check_name(&"/".repeat(1 << 20), Err(TooLong));
        check_name(&["a"; 32].join("."), Ok(()));
        check_name(&["a"; 33].join("/"), Err(TooDeep));
        check_name(&["*"; 33].join("."), Err(TooDeep));
    }

    #[test]
    fn wildcards_are_for_subscriptions_to_topics() {
        for name in ["*", "a.*", "#", "a.>", "a*", "a.b#c", "->"] {
            check_send(&format!("/topic/{name}"), Err(Wildcard));
            for prefix in ["/queue/", "/temp-queue/"] {
                let text = format!("{prefix}{name}");
                check_send(&text, Err(Wildcard));
                assert_eq!(Destination::of_subscribe(&text).map(drop), Err(Wildcard), "{text:?}");
            }
        }
    }

    #[test]
    fn a_wildcard_is_a_whole_segment_and_the_rest_comes_last() {
        for pattern in ["*", "#", ">", "*.*", "a.*.b/*", "*/#", "a.b.>", "a/*.>"] {
            check_pattern(pattern, Ok(()));
        }
        for pattern in ["a*", "*a", "**", "a.b*", "#a", "a.##", "a.>>", "*#", "a.*#/b"] {
            check_pattern(pattern, Err(PartialWildcard));
        }
        for pattern in ["#.a", ">.a", "a.#.b", "a/>/*", "#.#", "#.>"] {
            check_pattern(pattern, Err(RestNotLast));
        }
    }

    #[test]
    fn stars_are_among_the_first_eight_segments() {
        check_pattern(&["*"; 8].join("."), Ok(()));
        check_pattern(&format!("{}.*", ["a"; 7].join(".")), Ok(()));
        check_pattern(&format!("{}.*", ["a"; 8].join("/")), Err(DeepStar));
        check_pattern(&["*"; 32].join("."), Err(DeepStar));
        check_pattern(&format!("{}.#", ["a"; 31].join("/")), Ok(()));
    }

    #[test]
    fn messages_need_no_escaping_and_fit_a_header() {
        for error in ALL {
            let message = error.message();
            assert!(message.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && !b":\\".contains(&byte)), "{message}");
            assert!((20..100).contains(&message.len()), "{message}");
        }
    }

    #[test]
    fn pieces_put_together_are_the_name() {
        for (text, expect) in [
            ("a", &["a"][..]),
            ("a.b/c", &["a", ".b", "/c"]),
            ("\u{e9}/\u{65e5}.x", &["\u{e9}", "/\u{65e5}", ".x"]),
            ("*.b/#", &["*", ".b", "/#"]),
        ] {
            let pieces = Pattern::new(text).expect("valid").pieces();
            let pieces: Vec<&str> = (0..).map_while(|index| pieces.get(index)).collect();
            assert_eq!(pieces, expect);
        }
        let deep = ["abcdefg"; 32].join(".");
        let pieces = Name::new(&deep).expect("valid").pieces();
        assert_eq!((pieces.get(31), pieces.get(32)), (Some(".abcdefg"), None));
    }
}
