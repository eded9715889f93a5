//! The 64 bits that come back with a completion: kind of operation, generation, slot.

use crate::slab::{GENERATION_MAX, Key};

const SLOT_BITS: u32 = 32;
const GENERATION_BITS: u32 = 24;

const _: () = assert!(GENERATION_MAX < 1 << GENERATION_BITS);

/// Which operation a completion belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Receive,
    SendNow,
    SendWait,
    /// An operation whose own completion tells nothing: cancel, wake of another ring.
    Quiet,
    Close,
    /// Posted by another ring.
    Wake,
    Shutdown,
    Fill,
    Poll,
}

/// An operation of one life of a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) key: Key,
}

impl Token {
    pub(super) const fn new(kind: Kind, key: Key) -> Self {
        Self { kind, key }
    }

    /// A token of an operation that belongs to no connection.
    pub(super) const fn of_ring(kind: Kind) -> Self {
        Self { kind, key: Key { slot: 0, generation: 0 } }
    }

    /// A token of an accept by a listener, whose index stands in the place of the slot.
    pub(super) const fn of_listener(listener: u8) -> Self {
        Self { kind: Kind::Accept, key: Key { slot: listener as u32, generation: 0 } }
    }

    /// The listener of an accept.
    pub(super) fn listener(self) -> u8 {
        u8::try_from(self.key.slot).expect("an accept's token was made with a listener's index")
    }

    pub(super) const fn pack(self) -> u64 {
        (self.kind as u64) << (SLOT_BITS + GENERATION_BITS)
            | (self.key.generation as u64) << SLOT_BITS
            | self.key.slot as u64
    }

    /// Reads a token back; `None` for bits that [`Token::pack`] never makes.
    pub(super) fn unpack(bits: u64) -> Option<Self> {
        let kind = match bits >> (SLOT_BITS + GENERATION_BITS) {
            1 => Kind::Accept,
            2 => Kind::Receive,
            3 => Kind::SendNow,
            4 => Kind::SendWait,
            5 => Kind::Quiet,
            6 => Kind::Close,
            7 => Kind::Wake,
            8 => Kind::Shutdown,
            9 => Kind::Fill,
            10 => Kind::Poll,
            _ => return None,
        };
        let slot = u32::try_from(bits & u64::from(u32::MAX)).ok()?;
        let generation = u32::try_from(bits >> SLOT_BITS & u64::from(GENERATION_MAX)).ok()?;
        Some(Self { kind, key: Key { slot, generation } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_packing_at_its_bounds() {
        let of_receiving = [Kind::Receive, Kind::Fill, Kind::Poll];
        let of_the_rest = [Kind::SendNow, Kind::SendWait, Kind::Close, Kind::Shutdown];
        let of_rings = [Kind::Accept, Kind::Quiet, Kind::Wake];
        let kinds = of_receiving.into_iter().chain(of_the_rest).chain(of_rings);
        for kind in kinds {
            for slot in [0, 1, u32::MAX] {
                for generation in [0, 1, GENERATION_MAX] {
                    let token = Token::new(kind, Key { slot, generation });
                    assert_eq!(Token::unpack(token.pack()), Some(token));
                }
            }
        }
    }

    #[test]
    fn an_accept_tells_its_listener() {
        for listener in [0, 1, u8::MAX] {
            let token = Token::unpack(Token::of_listener(listener).pack()).expect("it is a token");
            assert_eq!((token.kind, token.listener()), (Kind::Accept, listener));
        }
    }

    #[test]
    fn foreign_bits_are_no_token() {
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
