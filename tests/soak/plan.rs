//! What a run is told: how long, how many, how large, and the seed of its randomness.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::BuildHasher;

/// The scale of a run. The defaults keep a plain `cargo test` short.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seconds: u64,
    pub(crate) connections: usize,
    pub(crate) size_max: usize,
    pub(crate) seed: u64,
}

impl Plan {
    /// Reads `RINGSOCK_SOAK_SECONDS`, `_CONNECTIONS`, `_SIZE_MAX` and `_SEED`.
    pub(crate) fn from_environment() -> Self {
        let size = |name, default, max| usize::try_from(number(name, default, 1, max)).expect("the maxima fit");
        Self {
            seconds: number("RINGSOCK_SOAK_SECONDS", 3, 1, SECONDS_MAX),
            connections: size("RINGSOCK_SOAK_CONNECTIONS", 40, CONNECTIONS_MAX),
            size_max: size("RINGSOCK_SOAK_SIZE_MAX", 256 << 10, SIZE_MAX),
            seed: number("RINGSOCK_SOAK_SEED", fresh_seed(), 0, u64::MAX),
        }
    }
}

/// The number in the variable `name`, or `default` if it is not set.
fn number(name: &str, default: u64, min: u64, max: u64) -> u64 {
    let Some(value) = env::var_os(name) else { return default };
    let number = value.to_str().and_then(|value| value.parse().ok()).filter(|number| (min..=max).contains(number));
    number.unwrap_or_else(|| panic!("{name} is {}; give a number from {min} to {max}", value.display()))
}

/// The standard library's own source of randomness, so that no two runs are alike.
fn fresh_seed() -> u64 {
    RandomState::new().hash_one("soak")
}

const SECONDS_MAX: u64 = 7 * 24 * 3600;
/// One loopback address has ports for somewhat more clients.
const CONNECTIONS_MAX: u64 = 20_000;
/// The longest message that the development profile takes.
const SIZE_MAX: u64 = 64 << 20;
