//! The loops of a kernel, written once for vectors of any width.
//!
//! A payload begins and ends anywhere, and a vector that crosses a cache line is written at half
//! speed. So one vector is put at each end, wherever that is, and aligned ones between them, which
//! overlap both:
//!
//! ```text
//!  payload      ├──────────────────────────────────────────────────┤
//!  ends         [  first  ]                            [   last    ]
//!  between           [ aligned  ][ aligned  ][ aligned  ]
//! ```
//!
//! Where vectors overlap they write the same bytes, as long as none reads what another has unmasked
//! already: in place, both ends are read first and written last. Two vectors from each end do for a
//! payload of up to four. No byte is handled alone.
//!
//! What was seen is gathered in [`LANES`] vectors in turn, for the answer whether it is ASCII. With
//! a single one, each step waits for the one before it: at 16 KiB, AVX2 loses half its speed.

/// How many vectors gather what was seen.
pub(super) const LANES: usize = 4;

/// Defines the `KERNEL` of a module, its `apply` and its `copy`, from these items there:
///
/// - `LEN`, a multiple of the key's length; `vector` of that many bytes, and `array` back to bytes;
/// - `splat`, the key over and over as a vector; `xor` and `or` of two vectors;
/// - `is_ascii`, whether the top bit of each byte of a vector is clear;
/// - `TURN`, how many vectors the unrolled loop takes at a time.
///
/// `attribute` enables the instruction set. A payload that fills no vector goes to the module
/// `shorter`.
macro_rules! loops {
    ($(#[$attribute:meta])? name: $name:literal, shorter: $shorter:ident) => {
        pub(super) const KERNEL: Kernel = Kernel { name: $name, apply, copy };

        /// Unmasks `bytes` in place and says whether all of them are ASCII then.
        $(#[$attribute])?
        #[inline]
        pub(super) fn apply(bytes: &mut [u8], key: Key) -> bool {
            let len = bytes.len();
            if len < LEN {
                return super::$shorter::apply(bytes, key);
            }
            // Whole vectors before the end, the key stands as it does at the end.
            let (from_start, from_end) = (splat(key), splat(rotate(key, len)));
            let first = xor(vector(at(bytes, 0)), from_start);
            let last = xor(vector(at(bytes, len - LEN)), from_end);
            let mut seen = or(first, last);
            if len > 4 * LEN {
                let start = LEN - bytes.as_ptr().addr() % LEN;
                // Without the final byte, so that a vector that ends with it is not done twice.
                seen = or(seen, apply_aligned(&mut bytes[start..len - 1], rotate(key, start)));
            } else if len > 2 * LEN {
                let second = xor(vector(at(bytes, LEN)), from_start);
                let third = xor(vector(at(bytes, len - 2 * LEN)), from_end);
                bytes[LEN..2 * LEN].copy_from_slice(&array(second));
                bytes[len - 2 * LEN..len - LEN].copy_from_slice(&array(third));
                seen = or(seen, or(second, third));
            }
            bytes[..LEN].copy_from_slice(&array(first));
            bytes[len - LEN..].copy_from_slice(&array(last));
            is_ascii(seen)
        }

        /// Unmasks the whole vectors at the front of `bytes` and returns what was seen.
        $(#[$attribute])?
        #[inline]
        fn apply_aligned(bytes: &mut [u8], key: Key) -> Vector {
            let key = splat(key);
            let mut seen = [splat([0; 4]); LANES];
            let (turns, rest) = bytes.as_chunks_mut().0.as_chunks_mut::<TURN>();
            for turn in turns {
                // By index: the compiler unrolls this, but not every form with iterators, and then
                // `seen` would live in memory.
                for index in 0..TURN {
                    let plain = xor(vector(turn[index]), key);
                    turn[index] = array(plain);
                    seen[index % LANES] = or(seen[index % LANES], plain);
                }
            }
            for chunk in rest {
                let plain = xor(vector(*chunk), key);
                *chunk = array(plain);
                seen[0] = or(seen[0], plain);
            }
            let [a, b, c, d] = seen;
            or(or(a, b), or(c, d))
        }

        /// Unmasks `bytes` into `out`, of the same length, all of which is initialised then, and
        /// says whether all of them are ASCII.
        $(#[$attribute])?
        #[inline]
        pub(super) fn copy(out: &mut [MaybeUninit<u8>], bytes: &[u8], key: Key) -> bool {
            let len = bytes.len();
            assert!(out.len() == len, "the caller cut the memory to this length");
            if len < LEN {
                return super::$shorter::copy(out, bytes, key);
            }
            let (from_start, from_end) = (splat(key), splat(rotate(key, len)));
            let first = xor(vector(at(bytes, 0)), from_start);
            let last = xor(vector(at(bytes, len - LEN)), from_end);
            let mut seen = or(first, last);
            if len > 4 * LEN {
                let start = LEN - out.as_ptr().addr() % LEN;
                let between = start..len - 1;
                seen = or(seen, copy_aligned(&mut out[between.clone()], &bytes[between], rotate(key, start)));
            } else if len > 2 * LEN {
                let second = xor(vector(at(bytes, LEN)), from_start);
                let third = xor(vector(at(bytes, len - 2 * LEN)), from_end);
                out[LEN..2 * LEN].write_copy_of_slice(&array(second));
                out[len - 2 * LEN..len - LEN].write_copy_of_slice(&array(third));
                seen = or(seen, or(second, third));
            }
            out[..LEN].write_copy_of_slice(&array(first));
            out[len - LEN..].write_copy_of_slice(&array(last));
            is_ascii(seen)
        }

        /// Unmasks the whole vectors at the front of `bytes` into `out`, of the same length, and
        /// returns what was seen.
        $(#[$attribute])?
        #[inline]
        fn copy_aligned(out: &mut [MaybeUninit<u8>], bytes: &[u8], key: Key) -> Vector {
            let key = splat(key);
            let mut seen = [splat([0; 4]); LANES];
            let (turns, rest) = bytes.as_chunks().0.as_chunks::<TURN>();
            let (out_turns, out_rest) = out.as_chunks_mut().0.as_chunks_mut::<TURN>();
            for (out, turn) in out_turns.iter_mut().zip(turns) {
                for index in 0..TURN {
                    let plain = xor(vector(turn[index]), key);
                    out[index] = MaybeUninit::new(array(plain)).into();
                    seen[index % LANES] = or(seen[index % LANES], plain);
                }
            }
            for (out, chunk) in out_rest.iter_mut().zip(rest) {
                let plain = xor(vector(*chunk), key);
                *out = MaybeUninit::new(array(plain)).into();
                seen[0] = or(seen[0], plain);
            }
            let [a, b, c, d] = seen;
            or(or(a, b), or(c, d))
        }

        /// The bytes of the vector that begins at `start`.
        #[inline]
        fn at(bytes: &[u8], start: usize) -> [u8; LEN] {
            *bytes[start..].first_chunk().expect("a payload of at least one vector has one here")
        }
    };
}
