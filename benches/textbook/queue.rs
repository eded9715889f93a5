//! A queue of collections of the standard library, as one writes it first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(crate) struct Textbook {
    ready: VecDeque<Arc<[u8]>>,
    unacknowledged: HashMap<u64, (u64, Arc<[u8]>)>,
    /// How many more each consumer may have.
    room: HashMap<u64, u32>,
    turns: VecDeque<u64>,
    deliveries: u64,
}

impl Textbook {
    pub(crate) fn new(consumers: u64, prefetch: u32) -> Self {
        Self {
            ready: VecDeque::new(),
            unacknowledged: HashMap::new(),
            room: (0..consumers).map(|consumer| (consumer, prefetch)).collect(),
            turns: (0..consumers).collect(),
            deliveries: 0,
        }
    }

    pub(crate) fn push(&mut self, message: Arc<[u8]>) {
        self.ready.push_back(message);
    }

    /// The consumer, the number of the delivery and the message.
    pub(crate) fn deliver(&mut self) -> Option<(u64, u64, Arc<[u8]>)> {
        if self.ready.is_empty() {
            return None;
        }
        let consumer = self.turns.pop_front()?;
        let message = self.ready.pop_front()?;
        self.deliveries += 1;
        self.unacknowledged.insert(self.deliveries, (consumer, message.clone()));
        let room = self.room.get_mut(&consumer)?;
        *room -= 1;
        if *room > 0 {
            self.turns.push_back(consumer);
        }
        Some((consumer, self.deliveries, message))
    }

    pub(crate) fn ack(&mut self, consumer: u64, delivery: u64) {
        let (owner, _) = self.unacknowledged.remove(&delivery).expect("it was delivered");
        assert_eq!(owner, consumer);
        let room = self.room.get_mut(&consumer).expect("it is there");
        *room += 1;
        if *room == 1 {
            self.turns.push_back(consumer);
        }
    }
}
