//! What compression allocates: as much as it says, and nothing for a message.

mod counting;

use ringsock::proto::ws::deflate::{Context, Deflater, Inflater, Level, Outcome, Takeover, WindowBits};

use counting::{ALLOCATIONS, BYTES};

/// The bytes that `make` leaves allocated, and what it made.
fn bytes_of<T>(make: impl FnOnce() -> T) -> (usize, T) {
    let before = BYTES.get();
    let made = make();
    (BYTES.get() - before, made)
}

#[test]
fn compression_allocates_what_it_says_and_nothing_for_a_message() {
    let (bytes, mut inflater) = bytes_of(Inflater::new);
    assert!(bytes <= Inflater::MEMORY_LEN && bytes > Inflater::MEMORY_LEN * 3 / 4, "{bytes} for an inflater");
    let text = "{\"id\":7,\"kind\":\"price\",\"value\":12.5},".repeat(100);
    for bits in 9..=15 {
        let bits = WindowBits::new(bits).unwrap();
        let mut sender = Context::new(bits, Takeover::Yes);
        let mut receiver = Context::new(bits, Takeover::Yes);
        let mut deflater = Deflater::new(Level::SHORTEST);
        let (mut payload, mut message) = (Vec::with_capacity(64 << 10), Vec::with_capacity(64 << 10));
        let mut exchange = || {
            payload.clear();
            message.clear();
            assert_eq!(deflater.deflate(text.as_bytes(), &mut sender, &mut payload), Outcome::Compressed);
            inflater.inflate(&payload, &mut receiver, 64 << 10, &mut message).unwrap();
        };
        let says = Deflater::engine_memory_len(bits);
        let (bytes, ()) = bytes_of(&mut exchange);
        let bytes = bytes - 2 * 4_096.min(bits.window_len());
        assert!(bytes <= says && bytes > says * 9 / 10, "{bits:?}: {bytes}, not {says}");
        // Until the windows are full.
        (0..10).for_each(|_| exchange());
        let allocations = ALLOCATIONS.get();
        (0..100).for_each(|_| exchange());
        assert_eq!(ALLOCATIONS.get(), allocations, "{bits:?}");
        let before = BYTES.get();
        deflater.trim();
        assert_eq!(before, BYTES.get(), "{bits:?}: it is in use");
        deflater.trim();
        let freed = before - BYTES.get();
        assert!(freed <= bytes && freed + 1_024 > bytes, "{bits:?}: {freed} of {bytes}");
    }
}
