//! Why a request is refused, and with which status.

use std::error::Error;
use std::fmt;

/// Declares [`Refusal`] from one row per rule: variant, status, name, message.
macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident $status:literal $name:literal $message:literal)*) => {
        /// A rule or a limit that a request broke, or another reason to turn it away.
        ///
        /// ```
        /// use ringsock::proto::http::Refusal;
        ///
        /// assert_eq!(Refusal::MissingHost.status(), 400);
        /// assert_eq!(Refusal::MissingHost.name(), "missing_host");
        /// ```
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
        }

        impl Refusal {
            /// Every refusal once, in the order of the discriminants, so that `as usize` is an index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The status of the answer: the only place where a broken rule becomes a wire value.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                }
            }

            /// The label for counters, in snake case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The body of the answer: tells the author of the client what to mend.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }
        }
    };
}

refusals! {
    // The request line.
    /// A method that is not a token: not HTTP at all, as a rule (RFC 9110 section 9.1).
    InvalidMethod 400 "invalid_method" "The request does not begin with an HTTP method."
    /// A method longer than the limit.
    MethodTooLong 400 "method_too_long" "The HTTP method is too long."
    /// A method other than GET (RFC 6455 section 4.1).
    MethodNotAllowed 405 "method_not_allowed" "The method must be GET."
    /// A request line that is not method, target and version with one space between (RFC 9112 section 3).
    InvalidRequestLine 400 "invalid_request_line" "The request line must be a method, a target and HTTP/1.1 with one space between."
    /// A request line longer than the limit.
    RequestLineTooLong 414 "request_line_too_long" "The request line is too long."
    /// A target that is neither a path nor an http or https URI, or has an octet that must be percent-encoded (RFC 9112 section 3.2).
    InvalidTarget 400 "invalid_target" "The request target must be an absolute path or an http or https URI, in visible ASCII."
    /// A target with a fragment (RFC 6455 section 3).
    FragmentInTarget 400 "fragment_in_target" "The request target must not contain a fragment (#)."
    /// An absolute-form target whose authority is not that of the Host header.
    TargetHostMismatch 400 "target_host_mismatch" "The authority of the request target must equal the Host header."
    /// Any version but HTTP/1.1, or none.
    UnsupportedHttpVersion 505 "unsupported_http_version" "The HTTP version must be HTTP/1.1."

    // The lines of the head.
    /// A head longer than the limit.
    HeadTooLarge 431 "head_too_large" "The request head is too large."
    /// A header line longer than the limit.
    HeaderLineTooLong 431 "header_line_too_long" "A header line is too long."
    /// More headers than the limit.
    TooManyHeaders 431 "too_many_headers" "The request has too many headers."
    /// A CR that no LF follows (RFC 9112 section 2.2).
    BareCarriageReturn 400 "bare_carriage_return" "A carriage return must be followed by a line feed."
    /// An LF that no CR precedes (RFC 9112 section 2.2).
    BareLineFeed 400 "bare_line_feed" "Lines must end with a carriage return and a line feed."
    /// A line that begins with white space (RFC 9112 section 5.2).
    FoldedHeader 400 "folded_header" "A header line must not begin with white space."
    /// White space between a header's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon 400 "space_before_colon" "A header name must be followed by its colon without white space."
    /// A line that begins with a colon.
    EmptyHeaderName 400 "empty_header_name" "A header must have a name."
    /// A header name that is not a token (RFC 9110 section 5.1).
    InvalidHeaderName 400 "invalid_header_name" "A header name contains an octet that is not allowed."
    /// A header line without a colon.
    MissingColon 400 "missing_colon" "A header line must have a colon."
    /// A NUL or another control in a header's value (RFC 9110 section 5.5).
    InvalidHeaderValue 400 "invalid_header_value" "A header value contains a control character."
    /// A head that does not end, given to `Request::parse` as if it did.
    TruncatedHead 400 "truncated_head" "The request ended before its head was complete."
    /// A head that only the second reading refuses. The tests hold that there is none.
    MalformedHead 400 "malformed_head" "The request head is malformed."

    // Headers of any request.
    /// No Host header (RFC 9112 section 3.2).
    MissingHost 400 "missing_host" "The request must have a Host header."
    /// More than one Host header.
    DuplicateHost 400 "duplicate_host" "The request must have only one Host header."
    /// A Host that is not a host name or address with an optional port, or over 255 bytes.
    InvalidHost 400 "invalid_host" "The Host header must be a host name or address with an optional port."
    /// More than one Origin header.
    DuplicateOrigin 400 "duplicate_origin" "The request must have at most one Origin header."
    /// An Origin that is empty or not visible ASCII.
    InvalidOrigin 400 "invalid_origin" "The Origin header must be one origin in visible ASCII."
    /// A Transfer-Encoding: a handshake has no body.
    TransferEncoding 400 "transfer_encoding" "The request must not have a Transfer-Encoding."
    /// A Content-Length other than one single `0`: a handshake has no body.
    ContentLength 400 "content_length" "The request must not have a body: leave Content-Length out."
    /// A body announced by a request for a page.
    ContentTooLarge 413 "content_too_large" "The request must not have a body: leave Content-Length out."

    // The upgrade (RFC 6455 section 4.2.1).
    /// An Upgrade header without the token `websocket`.
    UnsupportedUpgrade 426 "unsupported_upgrade" "The Upgrade header must name websocket."
    /// No `upgrade` token in the Connection header.
    MissingConnectionUpgrade 400 "missing_connection_upgrade" "The Connection header must contain Upgrade."
    /// No Sec-WebSocket-Version: a draft from before the header, so the answer names the version.
    MissingWebSocketVersion 426 "missing_websocket_version" "The request must have a Sec-WebSocket-Version header with the value 13."
    /// A Sec-WebSocket-Version other than 13 (RFC 6455 section 4.4).
    UnsupportedWebSocketVersion 426 "unsupported_websocket_version" "The Sec-WebSocket-Version must be 13."
    /// More than one Sec-WebSocket-Version header.
    DuplicateWebSocketVersion 400 "duplicate_websocket_version" "The request must have only one Sec-WebSocket-Version header."
    /// No Sec-WebSocket-Key header.
    MissingKey 400 "missing_key" "The request must have a Sec-WebSocket-Key header."
    /// More than one Sec-WebSocket-Key header.
    DuplicateKey 400 "duplicate_key" "The request must have only one Sec-WebSocket-Key header."
    /// A Sec-WebSocket-Key that is not 16 bytes in canonical base64.
    InvalidKey 400 "invalid_key" "The Sec-WebSocket-Key must be 16 bytes in base64: 24 characters."
    /// A Sec-WebSocket-Protocol with an element that is not a token, or with none at all.
    InvalidSubprotocol 400 "invalid_subprotocol" "The Sec-WebSocket-Protocol header must be a list of tokens."
    /// A subprotocol that is offered twice.
    DuplicateSubprotocol 400 "duplicate_subprotocol" "The Sec-WebSocket-Protocol header must not repeat a name."
    /// A Sec-WebSocket-Extensions that breaks the grammar of RFC 6455 section 9.1.
    InvalidExtensions 400 "invalid_extensions" "The Sec-WebSocket-Extensions header must be a list of extensions with parameters."

    // Reasons of the layer above.
    /// No route for the path.
    NotFound 404 "not_found" "There is nothing at this path."
    /// An Origin or a peer that is not let in.
    Forbidden 403 "forbidden" "This origin or address is not allowed to connect."
    /// A plain GET on a path that only speaks WebSocket.
    UpgradeRequired 426 "upgrade_required" "This path speaks WebSocket: connect with a WebSocket client."
    /// The server is full, or about to stop.
    ServiceUnavailable 503 "service_unavailable" "The server takes no connections at the moment: try again later."
    /// A head that did not arrive in time.
    HandshakeTimeout 408 "handshake_timeout" "The request did not arrive in time."
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_variants_in_snake_case() {
        for &refusal in Refusal::ALL {
            let mut expect = String::new();
            for letter in format!("{refusal:?}").replace("WebSocket", "Websocket").chars() {
                if letter.is_ascii_uppercase() && !expect.is_empty() {
                    expect.push('_');
                }
                expect.push(letter.to_ascii_lowercase());
            }
            assert_eq!(refusal.name(), expect);
        }
    }

    #[test]
    fn the_discriminant_is_the_place_in_all() {
        for (index, &refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }

    #[test]
    fn messages_are_sentences_in_ascii() {
        for refusal in Refusal::ALL {
            let message = refusal.to_string();
            assert!(
                message.ends_with('.') && message.starts_with(|first: char| first.is_ascii_uppercase()),
                "{message}"
            );
            assert!(message.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{message}");
        }
    }

    #[test]
    fn statuses_are_those_of_the_documented_ladder() {
        let mut statuses: Vec<u16> = Refusal::ALL.iter().map(|refusal| refusal.status()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        assert_eq!(statuses, [400, 403, 404, 405, 408, 413, 414, 426, 431, 503, 505]);
    }
}
