//! The WebSocket part of a request (RFC 6455 section 4.2.1).

use std::str;

use crate::proto::http::accept;
use crate::proto::http::extension;
use crate::proto::http::extension::Extension;
use crate::proto::http::fields::Fields;
use crate::proto::http::refusal::Refusal;
use crate::proto::http::subprotocol;

/// A request to speak WebSocket which keeps every rule, so that it can be accepted.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    key: &'a str,
    fields: &'a Fields<'a>,
}

impl<'a> Upgrade<'a> {
    pub(super) fn parse(fields: &'a Fields<'a>) -> Result<Self, Refusal> {
        if !fields.has_token("upgrade", "websocket") {
            return Err(Refusal::UnsupportedUpgrade);
        }
        if !fields.has_token("connection", "upgrade") {
            return Err(Refusal::MissingConnectionUpgrade);
        }
        check_version(fields)?;
        let key = key_of(fields)?;
        subprotocol::check(fields)?;
        extension::check(fields).map_err(|extension::Malformed| Refusal::InvalidExtensions)?;
        Ok(Self { key, fields })
    }

    /// The value of Sec-WebSocket-Accept that answers this request (RFC 6455 section 4.2.2).
    #[must_use]
    pub fn accept_key(&self) -> [u8; accept::ACCEPT_KEY_LEN] {
        accept::accept_key(self.key)
    }

    /// The subprotocols that the client offers, each once, the one it likes best first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> {
        subprotocol::names(self.fields)
    }

    /// The first subprotocol of the client's that the server supports, as the server spells it.
    ///
    /// The string comes out of `supported`: nothing that the client sent can reach the answer.
    #[must_use]
    pub fn choose_subprotocol<'s>(&self, supported: &[&'s str]) -> Option<&'s str> {
        self.subprotocols().find_map(|offered| supported.iter().copied().find(|&known| known == offered))
    }

    /// The extensions that the client offers, in its order of preference.
    ///
    /// At most [`OFFERS_EXAMINED_MAX`](extension::OFFERS_EXAMINED_MAX) list elements are looked
    /// at. One that lacks its name, or that of a parameter, counts but is left out.
    pub fn extensions(&self) -> impl Iterator<Item = Extension<'a>> {
        extension::offers(self.fields)
    }
}

fn check_version(fields: &Fields<'_>) -> Result<(), Refusal> {
    match fields.single("sec-websocket-version", Refusal::DuplicateWebSocketVersion)? {
        Some(b"13") => Ok(()),
        Some(_) => Err(Refusal::UnsupportedWebSocketVersion),
        None => Err(Refusal::MissingWebSocketVersion),
    }
}

fn key_of<'a>(fields: &Fields<'a>) -> Result<&'a str, Refusal> {
    let value = fields.single("sec-websocket-key", Refusal::DuplicateKey)?.ok_or(Refusal::MissingKey)?;
    match str::from_utf8(value) {
        Ok(key) if accept::is_key(value) => Ok(key),
        _ => Err(Refusal::InvalidKey),
    }
}

#[cfg(test)]
mod tests {
    use crate::proto::http::Refusal;
    use crate::proto::http::Request;
    use crate::proto::http::tests::LIMITS;
    use crate::proto::http::tests::check_refused;
    use crate::proto::http::tests::check_switched;
    use crate::proto::http::tests::head;
    use crate::proto::http::tests::upgrade_with;

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let input = head(
            "GET /chat HTTP/1.1",
            &[
                "Host: server.example.com",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Origin: http://example.com",
                "Sec-WebSocket-Protocol: chat, superchat",
                "Sec-WebSocket-Version: 13",
            ],
        );
        check_switched(&input, "Sec-WebSocket-Protocol: chat\r\n");
        let request = Request::parse(&input, &LIMITS).unwrap();
        assert_eq!(request.origin(), Some("http://example.com"));
        let upgrade = request.upgrade().unwrap().unwrap();
        assert_eq!(&upgrade.accept_key(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), ["chat", "superchat"]);
        assert_eq!(upgrade.extensions().count(), 0);
    }

    #[test]
    fn of_several_broken_rules_the_first_is_named() {
        let input = upgrade_with("Upgrade", &["Upgrade: h2c", "Sec-WebSocket-Version: 8"]);
        check_refused(&input, "426", Refusal::UnsupportedUpgrade);
        let input = upgrade_with("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: x"]);
        check_refused(&input, "426", Refusal::UnsupportedWebSocketVersion);
    }

    #[track_caller]
    fn check_choice(lines: &[&str], supported: &[&'static str], expect: Option<&str>) {
        let input = upgrade_with("", lines);
        let request = Request::parse(&input, &LIMITS).unwrap();
        assert_eq!(request.upgrade().unwrap().unwrap().choose_subprotocol(supported), expect);
    }

    #[test]
    fn the_client_decides_which_of_the_supported_subprotocols_is_best() {
        check_choice(&["Sec-WebSocket-Protocol: a, b"], &["b", "a"], Some("a"));
        check_choice(&["Sec-WebSocket-Protocol: c", "Sec-WebSocket-Protocol: b,a"], &["a", "b"], Some("b"));
        check_choice(&["Sec-WebSocket-Protocol: a"], &["A"], None);
        check_choice(&["Sec-WebSocket-Protocol: a"], &[], None);
        check_choice(&[], &["a"], None);
    }
}
