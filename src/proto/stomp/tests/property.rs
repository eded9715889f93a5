//! Frames at random.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1_0), Just(Version::V1_1), Just(Version::V1_2)]
}

/// Text in which what has a meaning is frequent.
fn text() -> impl Strategy<Value = String> {
    let letter = prop_oneof![
        4 => proptest::char::range('a', 'e'),
        3 => prop_oneof![Just(':'), Just('\\'), Just('\n'), Just('\r'), Just('n'), Just('c'), Just('r'), Just(' ')],
        1 => Just('\0'),
        1 => any::<char>(),
    ];
    vec(letter, 0..12).prop_map(String::from_iter)
}

/// Whether a version has a way to write a header.
fn can_say(version: Version, name: &str, value: &str) -> bool {
    let has_any = |marks: &[char]| name.contains(marks) || value.contains(marks);
    !name.is_empty()
        && !has_any(&['\0'])
        && match version {
            Version::V1_0 => !has_any(&['\n', '\r']) && !name.contains(':'),
            Version::V1_1 => !has_any(&['\r']),
            Version::V1_2 => true,
        }
}

const PIECES: &[&[u8]] = &[
    b"SEND\n",
    b"ACK\r\n",
    b"a:b\n",
    b"content-length:2\n",
    b"\n",
    b"\0",
    b"x",
    b"\r",
    b"a:\\n\n",
    b"\\",
    b"\xff",
    b":",
];

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was_meant(
        version in version(),
        frames in vec((vec((text(), text()), 0..5), vec(any::<u8>(), 0..40)), 1..4),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut out = Vec::new();
        let mut expect = Vec::new();
        for (headers, body) in &frames {
            let mut writer = encoder::begin(&mut out, version, Command::Message);
            for (name, value) in headers {
                writer.header(name, value);
            }
            writer.finish(body);
            let said = headers.iter().filter(|(name, value)| can_say(version, name, value)).cloned();
            let trim = |(name, value): (String, String)| match version {
                Version::V1_0 => (name, value.trim_matches([' ', '\t']).to_owned()),
                _ => (name, value),
            };
            let mut headers: Vec<_> = said.map(trim).collect();
            if !body.is_empty() {
                headers.push(("content-length".into(), body.len().to_string()));
            }
            expect.push(Seen { command: Command::Message, headers, body: body.clone() });
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(out.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(observe(Some(version), Limits::default(), &out, &cuts), (expect, None));
    }

    #[test]
    fn garbage_gives_the_same_wherever_it_is_cut(
        version in version(),
        pieces in vec(prop::sample::select(PIECES), 0..14),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let input = pieces.concat();
        let limits = Limits { headers_max: 3, header_bytes_max: 20, body_bytes_max: 6, allows_any_body: false };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = observe(Some(version), limits, &input, &[]);
        prop_assert_eq!(observe(Some(version), limits, &input, &cuts), whole.clone());
        prop_assert_eq!(observe(Some(version), limits, &input, &Vec::from_iter(1..input.len())), whole);
    }
}
