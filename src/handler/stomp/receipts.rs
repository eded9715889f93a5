//! The receipts that a client waits for: given in the order of its frames.

use std::collections::VecDeque;

/// Receipts that were asked for and not given.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    waiting: VecDeque<Waiting>,
    /// The number of the last one; the first one has 1.
    last: u32,
}

#[derive(Debug)]
struct Waiting {
    number: u32,
    id: Box<str>,
    is_due: bool,
}

impl Receipts {
    /// Notes a receipt, and gives it a number. It is due by [`Receipts::complete`].
    pub(super) fn push(&mut self, id: &str) -> u32 {
        // Zero is for none.
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.waiting.push_back(Waiting { number: self.last, id: id.into(), is_due: false });
        self.last
    }

    /// Says that what a receipt is about was done.
    pub(super) fn complete(&mut self, number: u32) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.number == number) {
            waiting.is_due = true;
        }
    }

    /// The next receipt to be given: nothing before it still waits.
    pub(super) fn pop_due(&mut self) -> Option<Box<str>> {
        let waiting = self.waiting.pop_front_if(|waiting| waiting.is_due)?;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(waiting.id)
    }

    /// What the receipt of this number is called.
    pub(super) fn id_of(&self, number: u32) -> Option<Box<str>> {
        self.waiting.iter().find(|waiting| waiting.number == number).map(|waiting| waiting.id.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
