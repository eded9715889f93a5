//! Heart-beats: what was offered, and what follows from it.

/// The value of a header `heart-beat`: what one side can do and what it wants, in milliseconds; zero is
/// nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeartBeat {
    /// The shortest time between two signs of life that it can give.
    pub can_ms: u32,
    /// The longest time that it wants to wait for a sign of life.
    pub wants_ms: u32,
}

/// A header `heart-beat` that is not two numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidHeartBeat;

/// A day: whoever asks for more than that gets this.
const PERIOD_MS_MAX: u32 = 86_400_000;
/// More digits than any period needs.
const DIGITS_MAX: usize = 17;

impl HeartBeat {
    /// Reads the value of the header: two decimal numbers and a comma. Numbers beyond a day are a day.
    ///
    /// # Errors
    ///
    /// Anything else: signs, blanks, one number or three.
    ///
    /// ```
    /// use ringsock::proto::stomp::HeartBeat;
    ///
    /// assert_eq!(HeartBeat::parse("10000,0"), Ok(HeartBeat { can_ms: 10_000, wants_ms: 0 }));
    /// assert!(HeartBeat::parse("0,-10").is_err());
    /// ```
    pub fn parse(value: &str) -> Result<Self, InvalidHeartBeat> {
        let (can, wants) = value.split_once(',').ok_or(InvalidHeartBeat)?;
        Ok(Self { can_ms: period(can)?, wants_ms: period(wants)? })
    }

    /// What both sides do, where `self` is ours and `peer` theirs.
    ///
    /// ```
    /// use ringsock::proto::stomp::{HeartBeat, Periods};
    ///
    /// let ours = HeartBeat { can_ms: 1_000, wants_ms: 10_000 };
    /// let theirs = HeartBeat { can_ms: 5_000, wants_ms: 500 };
    /// let agreed = ours.agree(theirs);
    /// assert_eq!(agreed, Periods { send_ms: Some(1_000), expect_ms: Some(10_000) });
    /// ```
    #[must_use]
    pub fn agree(self, peer: Self) -> Periods {
        let period = |can_ms: u32, wants_ms: u32| (can_ms > 0 && wants_ms > 0).then(|| can_ms.max(wants_ms));
        Periods { send_ms: period(self.can_ms, peer.wants_ms), expect_ms: period(peer.can_ms, self.wants_ms) }
    }
}

/// The heart-beats of a session, as one side has them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Periods {
    /// After so long without a byte to the peer, an end of line is sent to it.
    pub send_ms: Option<u32>,
    /// The peer sends something within this time, if all is well.
    pub expect_ms: Option<u32>,
}

fn period(digits: &str) -> Result<u32, InvalidHeartBeat> {
    let is_number = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = if is_number { digits.parse().ok() } else { None }.ok_or(InvalidHeartBeat)?;
    Ok(u32::try_from(number).map_or(PERIOD_MS_MAX, |number| number.min(PERIOD_MS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ours: [u32; 2], theirs: [u32; 2], send_ms: Option<u32>, expect_ms: Option<u32>) {
        let [ours, theirs] = [ours, theirs].map(|[can_ms, wants_ms]| HeartBeat { can_ms, wants_ms });
        assert_eq!(ours.agree(theirs), Periods { send_ms, expect_ms });
        assert_eq!(theirs.agree(ours), Periods { send_ms: expect_ms, expect_ms: send_ms }, "the other side's view");
    }

    #[test]
    fn each_direction_has_the_longer_of_what_one_can_and_the_other_wants() {
        check([1_000, 10_000], [5_000, 500], Some(1_000), Some(10_000));
        check([500, 500], [20_000, 30_000], Some(30_000), Some(20_000));
    }

    #[test]
    fn a_direction_that_either_side_leaves_out_has_none() {
        check([0, 10_000], [10_000, 10_000], None, Some(10_000));
        check([10_000, 10_000], [10_000, 0], None, Some(10_000));
        check([10_000, 0], [0, 0], None, None);
    }

    #[test]
    fn a_value_is_two_decimal_numbers() {
        assert_eq!(HeartBeat::parse("0,0"), Ok(HeartBeat::default()));
        assert_eq!(HeartBeat::parse("007,1"), Ok(HeartBeat { can_ms: 7, wants_ms: 1 }));
        for value in ["", ",", "1", "1,", ",1", "T,0", "0,-10", "+1,0", "1,2,3", "1, 2", " 1,2", "1.5,2", "1e3,1"] {
            assert_eq!(HeartBeat::parse(value), Err(InvalidHeartBeat), "{value:?}");
        }
        assert_eq!(HeartBeat::parse("1,123456789012345678"), Err(InvalidHeartBeat), "more digits than any number has");
    }

    #[test]
    fn a_period_beyond_a_day_is_a_day() {
        let value = HeartBeat::parse("99999999999,4294967296").expect("two numbers");
        assert_eq!(value, HeartBeat { can_ms: 86_400_000, wants_ms: 86_400_000 });
    }
}
