//! The client's offer, and the server's answer to it (RFC 7692 sections 5 and 7.1).

use std::fmt;
use std::fmt::Display;

use crate::proto::http::Extension;
use crate::proto::ws::deflate::parameters;
use crate::proto::ws::deflate::parameters::Words;
use crate::proto::ws::deflate::{EXTENSION_NAME, HeaderValue, Parameters, WindowBits};

/// What a client offers. It shows as the header's value: `permessage-deflate; …`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// Demands that the server's messages stand alone.
    pub server_no_context_takeover: bool,
    /// Promises that the client's messages stand alone.
    pub client_no_context_takeover: bool,
    /// Demands that the server's messages refer at most that far back.
    pub server_max_window_bits: Option<WindowBits>,
    /// Lets the server choose how far back the client's messages refer, at most that far.
    pub client_max_window_bits: Option<WindowBits>,
}

impl Offer {
    /// The offer, for the header `Sec-WebSocket-Extensions`.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::new(self)
    }

    /// Reads what the server answered: what is agreed, or `None` if it declined.
    ///
    /// # Errors
    ///
    /// The first rule of sections 5.1 and 7.1 that the answer breaks. The client has to fail the
    /// connection then.
    pub fn check<'a>(
        &self,
        answer: impl IntoIterator<Item = Extension<'a>>,
    ) -> Result<Option<Parameters>, AnswerError> {
        let mut ours = answer.into_iter().filter(|extension| extension.name() == EXTENSION_NAME);
        let Some(extension) = ours.next() else { return Ok(None) };
        if ours.next().is_some() {
            return Err(AnswerError::Repeated);
        }
        let words = Words::parse(&extension).map_err(|parameters::Invalid| AnswerError::InvalidParameter)?;
        let client_max_window_bits = match words.client_max_window_bits {
            Some(None) => return Err(AnswerError::InvalidParameter),
            Some(bits) => bits,
            None => None,
        };
        let server_window = words.server_max_window_bits;
        let is_too_wide = |demanded| server_window.is_none_or(|answered| answered > demanded);
        if self.server_no_context_takeover && !words.server_no_context_takeover
            || self.server_max_window_bits.is_some_and(is_too_wide)
        {
            return Err(AnswerError::DemandIgnored);
        }
        let is_not_offered = |answered| self.client_max_window_bits.is_none_or(|offered| answered > offered);
        if client_max_window_bits.is_some_and(is_not_offered) {
            return Err(AnswerError::NotOffered);
        }
        Ok(Some(Parameters {
            server_no_context_takeover: words.server_no_context_takeover,
            client_no_context_takeover: words.client_no_context_takeover || self.client_no_context_takeover,
            server_max_window_bits: words.server_max_window_bits,
            // What was offered is a promise, also where the answer leaves it out.
            client_max_window_bits: client_max_window_bits.or(self.client_max_window_bits),
        }))
    }
}

impl Display for Offer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let demands = Parameters {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: self.server_max_window_bits,
            client_max_window_bits: self.client_max_window_bits.filter(|&bits| bits < WindowBits::MAX),
        };
        write!(out, "{demands}")?;
        // Without a value, as browsers write it.
        match self.client_max_window_bits {
            Some(WindowBits::MAX) => write!(out, "; {}", parameters::CLIENT_MAX_WINDOW_BITS),
            _ => Ok(()),
        }
    }
}

/// A rule that a server's answer breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnswerError {
    /// The extension is accepted more than once.
    #[error("the server accepted permessage-deflate twice")]
    Repeated,
    /// A parameter that is unknown, repeated, out of range, or has or lacks a value.
    #[error("the server answered permessage-deflate with a parameter that is not valid")]
    InvalidParameter,
    /// A parameter that the client demanded is missing or larger.
    #[error("the server accepted permessage-deflate without what the client demanded")]
    DemandIgnored,
    /// A window for the client that it did not offer.
    #[error("the server chose a client_max_window_bits that was not offered")]
    NotOffered,
}
