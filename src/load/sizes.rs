//! How long messages are: one length, or a mix by weight.

use std::fmt;
use std::str::FromStr;

use crate::load::random::Random;

/// The longest message: what the development profile of the server takes.
const SIZE_MAX: u32 = 64 << 20;
/// The most lengths in a mix.
const ENTRIES_MAX: usize = 64;

/// Lengths of messages in bytes, each with its weight.
///
/// ```
/// use ringsock::load::Sizes;
///
/// let mix: Sizes = "16:70,1024:25,65536:5".parse()?;
/// assert_eq!((mix.max(), mix.mean()), (65_536, 3_544.0));
/// assert_eq!("125".parse::<Sizes>()?.to_string(), "125");
/// # Ok::<(), ringsock::load::SizesError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// Each length with the sum of the weights up to and including its own.
    entries: Vec<(u32, u32)>,
}

/// Why a mix of lengths can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SizesError {
    /// A length that is no number up to the maximum.
    #[error("'{0}' is not a length -> write bytes from 0 to 67108864")]
    Size(String),
    /// A weight that is no positive number, or too large in sum.
    #[error("'{0}' is not a weight -> write a whole number from 1 up, all together below 2^32")]
    Weight(String),
    /// Too many lengths.
    #[error("a mix has at most 64 lengths")]
    TooMany,
}

impl Sizes {
    /// The longest.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.entries.iter().map(|entry| entry.0).max().unwrap_or_default()
    }

    /// The shortest.
    #[must_use]
    pub fn min(&self) -> u32 {
        self.entries.iter().map(|entry| entry.0).min().unwrap_or_default()
    }

    /// The mean, by weight.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.weighted().map(|(size, weight)| f64::from(size) * f64::from(weight)).sum();
        sum / f64::from(self.weight())
    }

    pub(super) fn pick(&self, random: &mut Random) -> u32 {
        if let [(size, _)] = self.entries[..] {
            return size;
        }
        let at = random.below(self.weight());
        let found = self.entries.iter().find(|entry| at < entry.1);
        found.expect("the number is below the sum of the weights").0
    }

    fn weight(&self) -> u32 {
        self.entries.last().map_or(0, |entry| entry.1)
    }

    fn weighted(&self) -> impl Iterator<Item = (u32, u32)> {
        let before = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.1));
        self.entries.iter().zip(before).map(|(&(size, sum), before)| (size, sum - before))
    }
}

impl FromStr for Sizes {
    type Err = SizesError;

    fn from_str(text: &str) -> Result<Self, SizesError> {
        let mut entries: Vec<(u32, u32)> = Vec::new();
        let mut sum = 0_u32;
        for entry in text.split(',') {
            let (size, weight) = entry.trim().split_once(':').unwrap_or((entry.trim(), "1"));
            let bad_size = || SizesError::Size(size.into());
            let bad_weight = || SizesError::Weight(weight.into());
            let size: u32 = size.parse().ok().filter(|&size| size <= SIZE_MAX).ok_or_else(bad_size)?;
            let weight = weight.parse::<u32>().ok().filter(|&weight| weight > 0).ok_or_else(bad_weight)?;
            sum = sum.checked_add(weight).ok_or_else(bad_weight)?;
            entries.push((size, sum));
        }
        if entries.len() > ENTRIES_MAX { Err(SizesError::TooMany) } else { Ok(Self { entries }) }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(size, _)] = self.entries[..] {
            return write!(f, "{size}");
        }
        for (index, (size, weight)) in self.weighted().enumerate() {
            write!(f, "{}{size}:{weight}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_picked_by_their_weights() {
        let sizes: Sizes = "16:70, 1024:25,65536:5".parse().unwrap();
        let mut random = Random::new(7);
        let (mut small, mut middle, mut large) = (0, 0, 0);
        for _ in 0..100_000 {
            match sizes.pick(&mut random) {
                16 => small += 1,
                1024 => middle += 1,
                65_536 => large += 1,
                other => panic!("{other} is not in the mix"),
            }
        }
        assert!((69_000..71_000).contains(&small) && (24_000..26_000).contains(&middle), "{small} {middle} {large}");
        assert_eq!(sizes.to_string(), "16:70,1024:25,65536:5");
    }

    #[track_caller]
    fn check(text: &str, expect: SizesError) {
        assert_eq!(text.parse::<Sizes>(), Err(expect), "{text}");
    }

    #[test]
    fn what_is_no_mix_is_named() {
        check("", SizesError::Size(String::new()));
        check("x", SizesError::Size("x".into()));
        check("-1", SizesError::Size("-1".into()));
        check("67108865", SizesError::Size("67108865".into()));
        check("16:", SizesError::Weight(String::new()));
        check("16:0", SizesError::Weight("0".into()));
        check("16:4294967295,17:1", SizesError::Weight("1".into()));
        check(&["1"; 65].join(","), SizesError::TooMany);
    }

    #[test]
    fn no_bytes_at_all_are_a_length() {
        let sizes: Sizes = "0".parse().unwrap();
        assert_eq!((sizes.pick(&mut Random::new(1)), sizes.max(), sizes.min()), (0, 0, 0));
    }
}
