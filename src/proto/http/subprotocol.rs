//! The subprotocols that a client offers (RFC 6455 sections 1.9 and 4.1).

use std::str;

use crate::proto::http::fields;
use crate::proto::http::fields::Fields;
use crate::proto::http::octet;
use crate::proto::http::refusal::Refusal;

/// Checks that the offers, if any, are tokens and that none is repeated.
pub(super) fn check(fields: &Fields<'_>) -> Result<(), Refusal> {
    let mut is_present = false;
    let mut count = 0;
    for line in fields.all(HEADER) {
        is_present = true;
        for element in fields::elements(line) {
            if !octet::is_whole_token(element) {
                return Err(Refusal::InvalidSubprotocol);
            }
            count += 1;
        }
    }
    if is_present && count == 0 {
        return Err(Refusal::InvalidSubprotocol);
    }
    if has_duplicate(fields, count) { Err(Refusal::DuplicateSubprotocol) } else { Ok(()) }
}

/// The offers of a head that [`check`] has accepted, in the client's order.
pub(super) fn names<'a>(fields: &Fields<'a>) -> impl Iterator<Item = &'a str> {
    fields.all(HEADER).flat_map(fields::elements).filter_map(|element| str::from_utf8(element).ok())
}

/// Whether two of the `count` offers are equal, without allocation for a sane number of them.
///
/// More than that is legal as long as the head is within its limit. Sorting keeps even a head full
/// of names below a millisecond, where comparing all pairs would not.
fn has_duplicate(fields: &Fields<'_>, count: usize) -> bool {
    let mut few = [""; FEW];
    let mut many = Vec::new();
    let sorted = if count <= FEW {
        for (slot, name) in few.iter_mut().zip(names(fields)) {
            *slot = name;
        }
        &mut few[..count]
    } else {
        many.extend(names(fields));
        &mut many[..]
    };
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

const HEADER: &str = "sec-websocket-protocol";
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use crate::proto::http::Refusal;
    use crate::proto::http::Request;
    use crate::proto::http::tests::LIMITS;
    use crate::proto::http::tests::upgrade_with;

    #[track_caller]
    fn check(values: &[&str], expect: Result<&[&str], Refusal>) {
        let lines: Vec<String> = values.iter().map(|value| format!("Sec-WebSocket-Protocol: {value}")).collect();
        let input = upgrade_with("", &lines.iter().map(String::as_str).collect::<Vec<_>>());
        let request = Request::parse(&input, &LIMITS).unwrap();
        let names = request.upgrade().map(|upgrade| upgrade.unwrap().subprotocols().collect::<Vec<_>>());
        assert_eq!(names, expect.map(<[&str]>::to_vec));
    }

    #[test]
    fn names_come_from_every_line_in_order() {
        check(&[], Ok(&[]));
        check(&["a"], Ok(&["a"]));
        check(&["b, a\t,c"], Ok(&["b", "a", "c"]));
        check(&["b", "a,c"], Ok(&["b", "a", "c"]));
        check(&["a, A"], Ok(&["a", "A"]));
    }

    #[test]
    fn empty_elements_are_skipped_beside_others() {
        check(&[",a,, b,"], Ok(&["a", "b"]));
        check(&["", "a"], Ok(&["a"]));
    }

    #[test]
    fn a_list_of_nothing_is_refused() {
        check(&[""], Err(Refusal::InvalidSubprotocol));
        check(&[", ,"], Err(Refusal::InvalidSubprotocol));
        check(&["", ","], Err(Refusal::InvalidSubprotocol));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for value in ["a b", "a;b", "a=b", "\"a\"", "a/b", "a, b c", "(a)", "a\u{e9}"] {
            check(&[value], Err(Refusal::InvalidSubprotocol));
        }
    }

    #[test]
    fn a_repeated_name_is_refused_whatever_their_number() {
        check(&["a, b, a"], Err(Refusal::DuplicateSubprotocol));
        check(&["a", "b, a"], Err(Refusal::DuplicateSubprotocol));
        for count in [2, 15, 16, 17, 18, 100] {
            let names: Vec<String> = (1..count).map(|number| format!("p{number}")).collect();
            let list = names.join(",");
            let parts: Vec<&str> = names.iter().map(String::as_str).collect();
            check(&[&list], Ok(&parts));
            check(&[&list, "p1"], Err(Refusal::DuplicateSubprotocol));
        }
    }
}
