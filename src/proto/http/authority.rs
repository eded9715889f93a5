//! The authority of a URI: a host and perhaps a port (RFC 3986 section 3.2).

use core::net::Ipv6Addr;

/// Whether `authority` is a host with an optional port, without user information.
///
/// A host is a name, an IPv4 address or an IPv6 address in brackets. An http URI has no empty
/// host, and a port is a number that TCP has or, after its colon, nothing.
pub(super) fn is_valid(authority: &str) -> bool {
    if authority.len() > AUTHORITY_BYTES_MAX {
        return false;
    }
    match authority.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .is_some_and(|(address, suffix)| address.parse::<Ipv6Addr>().is_ok() && is_port_suffix(suffix)),
        None => {
            let name_len = authority.find(':').unwrap_or(authority.len());
            let (name, suffix) = authority.split_at(name_len);
            is_name(name.as_bytes()) && is_port_suffix(suffix)
        }
    }
}

fn is_port_suffix(suffix: &str) -> bool {
    match suffix.strip_prefix(':') {
        // `parse` alone would take a plus sign.
        Some(port) => {
            port.is_empty() || (port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok())
        }
        None => suffix.is_empty(),
    }
}

/// Whether `name` is a reg-name with at least one octet. IPv4 addresses are names by their form.
fn is_name(mut name: &[u8]) -> bool {
    let is_empty = name.is_empty();
    loop {
        match name {
            [] => return !is_empty,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => name = rest,
            [octet, rest @ ..] if is_name_octet(*octet) => name = rest,
            _ => return false,
        }
    }
}

/// The unreserved octets and the sub-delimiters of RFC 3986.
const fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

/// The longest host name of the DNS is 253 bytes. A Host header of more is an attack.
const AUTHORITY_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(authority: &str, expect: bool) {
        assert_eq!(is_valid(authority), expect, "{authority:?}");
    }

    #[test]
    fn names_and_addresses_are_hosts() {
        check("localhost", true);
        check("server.example.com", true);
        check("127.0.0.1", true);
        check("[::1]", true);
        check("[::ffff:192.0.2.1]", true);
        check("caf%C3%A9.example", true);
        check("under_score.example", true);
    }

    #[test]
    fn a_port_is_empty_or_a_number_of_sixteen_bits() {
        check("a:0", true);
        check("a:80", true);
        check("a:65535", true);
        check("a:65536", false);
        check("a:", true);
        check("a:+80", false);
        check("a:-1", false);
        check("a:8a", false);
        check("a:80:80", false);
        check("[::1]:9001", true);
        check("[::1]:", true);
        check("[::1]9001", false);
        check("[::1]:65536", false);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        check("", false);
        check(":80", false);
        check("user@example.com", false);
        check("a/b", false);
        check("a b", false);
        check("a%zz", false);
        check("a%4", false);
        check("a%4z", false);
        check("a%z4", false);
        check("::1", false);
        check("[]", false);
        check("[::1", false);
        check("[::1%25eth0]", false);
        check("[v1.a]", false);
        check("caf\u{e9}", false);
        check("a\\b", false);
    }

    #[test]
    fn two_hundred_and_fifty_five_bytes_are_the_limit() {
        check(&"a".repeat(255), true);
        check(&"a".repeat(256), false);
        check(&format!("{}:80", "a".repeat(252)), true);
        check(&format!("{}:80", "a".repeat(253)), false);
    }
}
