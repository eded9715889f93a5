//! The server's choice among a client's offers (RFC 7692 sections 5 and 7.1).

use crate::proto::http::Extension;
use crate::proto::ws::deflate::parameters::Words;
use crate::proto::ws::deflate::{EXTENSION_NAME, Parameters, WindowBits};

/// How much a route wants to spend on compression.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Policy {
    /// Nothing: every offer is declined.
    #[default]
    Off,
    /// No memory for a connection: messages of either side stand alone.
    Shared,
    /// Windows of up to 2^`window_bits` bytes for each direction of a connection, so that a message
    /// may refer to those before it.
    Dedicated {
        /// The largest window: 9 to 15. An 8 is taken too, but has only messages of up to 256 bytes
        /// compressed, each by itself, see [`Deflater`](super::Deflater).
        window_bits: WindowBits,
    },
}

/// Chooses the first of a client's offers that can be accepted, or declines all of them.
///
/// `memory_left` is what may still be spent on contexts. Where [`Parameters::memory_max`] is more,
/// the connection gets what [`Policy::Shared`] gives: compression becomes worse then, but no
/// connection is refused for want of memory.
///
/// An offer with a parameter that is unknown, repeated, out of range, or has or lacks a value
/// against the RFC is declined, never an error.
///
/// ```
/// use ringsock::proto::http::{HeadLimits, Request};
/// use ringsock::proto::ws::deflate::{Policy, negotiate};
///
/// let head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
///     Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
/// let request = Request::parse(head, &HeadLimits::default()).expect("a good request");
/// let upgrade = request.upgrade().expect("a good upgrade").expect("an upgrade");
/// let parameters = negotiate(upgrade.extensions(), Policy::Shared, 0).expect("an offer that is good");
/// assert_eq!(
///     parameters.header_value().as_str(),
///     "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
/// );
/// ```
#[must_use]
pub fn negotiate<'a>(
    offers: impl IntoIterator<Item = Extension<'a>>,
    policy: Policy,
    memory_left: usize,
) -> Option<Parameters> {
    if policy == Policy::Off {
        return None;
    }
    let mut ours = offers.into_iter().filter(|offer| offer.name() == EXTENSION_NAME);
    let offer = ours.find_map(|offer| Words::parse(&offer).ok())?;
    if let Policy::Dedicated { window_bits } = policy {
        let parameters = dedicated(&offer, window_bits);
        if parameters.memory_max() <= memory_left {
            return Some(parameters);
        }
    }
    Some(shared(&offer))
}

/// The answer that costs no memory. The server may ask the client for it whatever was offered
/// (section 7.1.1.2).
fn shared(offer: &Words) -> Parameters {
    Parameters {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: offer.server_max_window_bits,
        client_max_window_bits: None,
    }
}

fn dedicated(offer: &Words, window_bits: WindowBits) -> Parameters {
    let narrow = |offered: WindowBits| offered.min(window_bits);
    let full = window_bits == WindowBits::MAX;
    // Only a client that knows the parameter may be told to use a smaller window (section 7.1.2.2).
    // Of any other it can be asked that nothing of a large one has to be kept.
    let client_window = offer.client_max_window_bits.map(|bits| narrow(bits.unwrap_or(WindowBits::MAX)));
    let client_no_context_takeover = offer.client_no_context_takeover || client_window.is_none() && !full;
    Parameters {
        server_no_context_takeover: offer.server_no_context_takeover,
        client_no_context_takeover,
        // Named without being asked too (section 7.1.2.1): it lets the client save memory.
        server_max_window_bits: offer.server_max_window_bits.map(narrow).or((!full).then_some(window_bits)),
        client_max_window_bits: client_window.filter(|_| !client_no_context_takeover),
    }
}
