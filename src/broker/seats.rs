//! The subscribers of one destination, side by side so that a message goes to them in one sweep.

/// How many seats a row has. A row never moves once it is full, so that the longest move is this.
const ROW_LEN: usize = 1024;

/// A subscriber and which subscription of the table it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat<S> {
    pub(super) subscriber: S,
    pub(super) subscription: u32,
}

/// Seats by position, from 0 on without gaps. The usual one needs no memory of its own.
#[derive(Debug)]
pub(super) enum Seats<S> {
    None,
    One(Seat<S>),
    /// At least two.
    Many(Box<Rows<S>>),
}

/// Rows of which only the last may have room; the first grows as it fills.
#[derive(Debug)]
pub(super) struct Rows<S>(Vec<Vec<Seat<S>>>);

impl<S: Copy> Seats<S> {
    /// Adds a seat after the others, and returns its position.
    pub(super) fn push(&mut self, seat: Seat<S>) -> u32 {
        match self {
            Self::None => *self = Self::One(seat),
            Self::One(first) => *self = Self::Many(Box::new(Rows(vec![vec![*first, seat]]))),
            Self::Many(rows) => return rows.push(seat),
        }
        u32::from(matches!(self, Self::Many(_)))
    }

    /// Takes a seat away, and returns the one that has its position now: it was the last.
    ///
    /// # Panics
    ///
    /// If there is no seat there.
    pub(super) fn remove(&mut self, position: u32) -> Option<Seat<S>> {
        match self {
            Self::Many(rows) => {
                let moved = rows.remove(position as usize);
                if let [row] = &rows.0[..]
                    && let [last] = row[..]
                {
                    *self = Self::One(last);
                }
                moved
            }
            Self::One(_) if position == 0 => {
                *self = Self::None;
                None
            }
            Self::One(_) | Self::None => panic!("a subscription has a seat"),
        }
    }

    #[inline]
    pub(super) fn for_each(&self, visit: &mut impl FnMut(S)) {
        match self {
            Self::None => {}
            Self::One(seat) => visit(seat.subscriber),
            Self::Many(rows) => rows.0.iter().flatten().for_each(|seat| visit(seat.subscriber)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The memory of the rows.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Many(rows) => size_of::<Rows<S>>() + rows.memory_bytes(),
            Self::One(_) | Self::None => 0,
        }
    }
}

impl<S: Copy> Rows<S> {
    fn push(&mut self, seat: Seat<S>) -> u32 {
        if self.last_mut().len() == ROW_LEN {
            self.0.push(Vec::with_capacity(ROW_LEN));
        }
        let earlier = (self.0.len() - 1) * ROW_LEN;
        let row = self.last_mut();
        row.push(seat);
        u32::try_from(earlier + row.len() - 1).expect("memory ends before numbers do")
    }

    fn remove(&mut self, position: usize) -> Option<Seat<S>> {
        let (number, index) = (position / ROW_LEN, position % ROW_LEN);
        let last = self.last_mut().pop().expect("no row is empty");
        // It may have been the one that goes.
        let moved = self.0[number].get_mut(index).map(|seat| {
            *seat = last;
            last
        });
        self.give_back();
        moved
    }

    /// Gives back what is far more than the seats need.
    fn give_back(&mut self) {
        if self.last_mut().is_empty() {
            self.0.pop();
        }
        if self.0.len() <= self.0.capacity() / 4 {
            self.0.shrink_to(2 * self.0.len());
        }
        if let [row] = &mut self.0[..]
            && row.len() <= row.capacity() / 4
        {
            row.shrink_to(2 * row.len());
        }
    }

    fn last_mut(&mut self) -> &mut Vec<Seat<S>> {
        self.0.last_mut().expect("there are two seats at least")
    }

    fn memory_bytes(&self) -> usize {
        let full = (self.0.len() - 1) * ROW_LEN;
        self.0.capacity() * size_of::<Vec<Seat<S>>>() + (full + self.0[0].capacity()) * size_of::<Seat<S>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribers(seats: &Seats<u32>) -> Vec<u32> {
        let mut subscribers = Vec::new();
        seats.for_each(&mut |subscriber| subscribers.push(subscriber));
        subscribers
    }

    fn seat(number: u32) -> Seat<u32> {
        Seat { subscriber: number, subscription: number }
    }

    #[test]
    fn seats_stay_in_order_until_one_goes_and_the_last_takes_its_place() {
        let mut seats = Seats::None;
        assert_eq!((0..5).map(|number| seats.push(seat(number))).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(subscribers(&seats), [0, 1, 2, 3, 4]);
        assert_eq!(seats.remove(1).map(|moved| moved.subscription), Some(4));
        assert_eq!(subscribers(&seats), [0, 4, 2, 3]);
        assert!(seats.remove(3).is_none(), "it was the last");
        assert_eq!(subscribers(&seats), [0, 4, 2]);
    }

    #[test]
    fn random_comings_and_goings_keep_positions_and_give_all_memory_back() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).expect("small")
        };
        for full in [1, 2, 3, 1_023, 1_024, 1_025, 1_026, 5_000] {
            // What is expected by position.
            let (mut seats, mut model) = (Seats::None, Vec::new());
            for number in 0..full {
                assert_eq!(seats.push(seat(number)) as usize, model.len());
                model.push(number);
            }
            assert_eq!(subscribers(&seats), model);
            while !model.is_empty() {
                let position = next(model.len());
                let moved = seats.remove(u32::try_from(position).expect("small"));
                model.swap_remove(position);
                assert_eq!(moved.map(|seat| seat.subscriber), model.get(position).copied());
                if model.len() % 97 < 2 {
                    assert_eq!(subscribers(&seats), model);
                }
                assert!(seats.memory_bytes() <= 120 + 8 * (4 * model.len()).max(model.len() + 1_024));
            }
            assert!(seats.is_empty());
            assert_eq!(seats.memory_bytes(), 0);
        }
    }

    #[test]
    fn a_million_seats_take_little_more_than_eight_bytes_each() {
        let mut seats = Seats::None;
        (0..1_000_000).for_each(|number| {
            seats.push(seat(number));
        });
        assert!(seats.memory_bytes() < 8_100_000, "{}", seats.memory_bytes());
    }
}
